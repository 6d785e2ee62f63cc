//! Model of the database: the keys, their revocations, and the commits that change them. It judges
//! the changes that are committed.

use std::collections::HashMap;
use std::mem;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::Instant;

use crate::domain::{
    ChangedKeys, KeyChange, KeyEdit, KeyError, KeyId, KeySet, KeyState, MAX_LEEWAY, Revocation,
    SigningKey, WrappedKey,
};
use crate::store::FeedEntry;

/// Staleness bound.
pub(super) const BOUND: Duration = Duration::from_mins(3);

/// Time of the database at the start of a schedule.
const START: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

/// Kinds of service: the real one, and wrong ones that the simulation must detect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Variant {
    Real,
    /// Wrong: a pending key may sign at once.
    NoPublication,
    /// Wrong: a pending key waits for the verifiers alone.
    OneMaxAge,
    /// Wrong: a pending key waits for a cache and the verifiers, but not for stale instances.
    NoStaleness,
    /// Wrong: a pending key waits for stale instances and the verifiers, but not for a cache.
    NoCache,
    /// Wrong: an instance signs for longer without storing it.
    UnstoredExtension,
    /// Wrong: a key is deleted one lifetime after its activation.
    EarlyDeletion,
    /// Wrong: the follower vouches for a read before it has applied the keys.
    LateKeys,
    /// Wrong: as [`LateKeys`](Self::LateKeys), and a revocation deletes the key alone.
    LateKeysAlone,
    /// Wrong: the reply to a change contains the keys of before.
    FormerKeys,
    /// Wrong: an instance signs while it is stale.
    StaleSignatures,
    /// Wrong: an instance serves its public keys while it is stale.
    StaleJwks,
}

/// Properties that every schedule must have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Property {
    /// A verifier that has fetched within its max-age knows the key of a token.
    VerifiersKnowKeys,
    /// A verifier knows no key that was revoked longer ago than it takes to publish one.
    VerifiersForgetKeys,
    /// An instance accepts a token whose key is not revoked.
    TokensAreAccepted,
    /// A key is deleted after its tokens have expired.
    KeysOutliveTokens,
    /// An instance accepts no token whose key was revoked longer ago than the bound, or by the
    /// instance itself.
    RevocationsHold,
    /// An instance signs with no key that was revoked longer ago than the bound.
    RevokedKeysDoNotSign,
    /// At most one key is active, and one pending; without faults, exactly one.
    OneOfEach,
    /// A login succeeds without faults.
    LoginsSucceed,
}

/// Property that a schedule lacks.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) property: Property,
    pub(super) text: String,
}

/// Environment of a schedule.
pub(super) struct World {
    pub(super) variant: Variant,
    began_at: Instant,
    database: Mutex<Database>,
}

/// State of the database.
pub(super) struct Database {
    pub(super) version: i64,
    pub(super) keys: Vec<SigningKey>,
    pub(super) wrappings: Vec<WrappedKey>,
    /// Revocations in the order of their commits.
    pub(super) revocations: Vec<FeedEntry>,
    /// Time of the latest change of the keys.
    changed_at: Duration,
    /// Past of every key.
    histories: HashMap<KeyId, History>,
    dump: Option<Dump>,
    /// Number of restores.
    pub(super) restores: u32,
    /// Times of the dump and of the restore, for each restore.
    lost: Vec<Range<Duration>>,
    pub(super) violations: Vec<Violation>,
}

/// Copy of the database.
#[derive(Clone)]
struct Dump {
    at: Duration,
    version: i64,
    keys: Vec<SigningKey>,
    revocations: Vec<FeedEntry>,
    histories: HashMap<KeyId, History>,
}

/// Past of a key. Times are those since the start of the schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct History {
    pub(super) published_at: Duration,
    /// Whether a revocation or a restore has made the key sign.
    pub(super) is_emergency: bool,
    /// Whether a restore has undone the revocation of the key, which instances still remember.
    pub(super) is_back: bool,
    pub(super) revoked_at: Option<Duration>,
    deleted_at: Option<Duration>,
    /// Latest expiry of its tokens.
    latest_expiry: OffsetDateTime,
}

impl World {
    pub(super) fn new(variant: Variant, wrapped: WrappedKey) -> Self {
        let database = Database {
            version: 0,
            keys: Vec::new(),
            wrappings: vec![wrapped],
            revocations: Vec::new(),
            changed_at: Duration::ZERO,
            histories: HashMap::new(),
            dump: None,
            restores: 0,
            lost: Vec::new(),
            violations: Vec::new(),
        };
        Self { variant, began_at: Instant::now(), database: Mutex::new(database) }
    }

    /// Returns the time since the start of the schedule.
    pub(super) fn at(&self) -> Duration {
        self.began_at.elapsed()
    }

    /// Returns the time of the database.
    pub(super) fn now(&self) -> OffsetDateTime {
        START + self.at()
    }

    pub(super) fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock().unwrap()
    }

    pub(super) fn report(&self, property: Property, text: String) {
        self.database().report(property, text);
    }

    /// Carries a change out as the stores do. The decision was made `lock_time` ago, under a lock
    /// that other changes wait for.
    pub(super) fn change_keys(
        &self,
        change: &KeyChange,
        lock_time: Duration,
    ) -> Result<Option<ChangedKeys>, KeyError> {
        let at = self.at();
        let mut database = self.database();
        let now = START + at.saturating_sub(lock_time).max(database.changed_at);
        let mut set = database.key_set();
        if self.variant == Variant::EarlyDeletion {
            let lifetime = change.periods.token_lifetime;
            let has_expired = |activated_at| activated_at + lifetime + MAX_LEEWAY < now;
            set.keys.retain(|key| {
                key.state != KeyState::Retiring || !key.activated_at.is_some_and(has_expired)
            });
        }
        let Some(mut changed) = change.decide(set, now)? else { return Ok(None) };
        if self.variant == Variant::UnstoredExtension && matches!(change.edit, KeyEdit::Extend) {
            return Ok(Some(changed));
        }
        let is_revocation = matches!(change.edit, KeyEdit::Revoke(..) | KeyEdit::RevokeAll(_));
        database.judge(&changed, is_revocation, at);
        if self.variant != Variant::LateKeysAlone {
            let entry = |&revocation| FeedEntry { revocation, xid: 0, revoked_at: now };
            database.revocations.extend(changed.revocations.iter().map(entry));
        }
        let former = mem::replace(&mut database.keys, changed.set.keys.clone());
        database.version = changed.set.version;
        database.changed_at = at;
        if self.variant == Variant::FormerKeys {
            changed.set.keys = former;
            changed.revocations.clear();
        }
        Ok(Some(changed))
    }
}

impl Database {
    pub(super) fn key_set(&self) -> KeySet {
        KeySet { version: self.version, keys: self.keys.clone(), broken: Vec::new() }
    }

    pub(super) fn history(&self, id: KeyId) -> Option<History> {
        self.histories.get(&id).copied()
    }

    pub(super) fn report(&mut self, property: Property, text: String) {
        self.violations.push(Violation { property, text });
    }

    /// Copies the database.
    pub(super) fn dump(&mut self, at: Duration) {
        self.dump = Some(Dump {
            at,
            version: self.version,
            keys: self.keys.clone(),
            revocations: self.revocations.clone(),
            histories: self.histories.clone(),
        });
    }

    /// Restores the copy. Keys that it lacks have ended, as revoked ones have; others are back.
    pub(super) fn restore(&mut self, at: Duration) {
        let Some(dump) = self.dump.clone() else { return };
        for (id, history) in &mut self.histories {
            let is_in = |keys: &[SigningKey]| keys.iter().any(|key| key.id == *id);
            let (was_there, is_there) = (is_in(&self.keys), is_in(&dump.keys));
            if was_there && !is_there {
                history.revoked_at = Some(at);
            }
            if is_there && !was_there {
                history.is_back |= history.revoked_at.is_some();
                history.is_emergency = true;
                history.published_at = at;
                (history.revoked_at, history.deleted_at) = (None, None);
            }
            if let Some(dumped) = dump.histories.get(id) {
                history.latest_expiry = dumped.latest_expiry;
            }
        }
        self.version = dump.version;
        self.keys = dump.keys;
        self.revocations = dump.revocations;
        self.restores += 1;
        self.lost.push(dump.at..at);
    }

    /// Returns `true` for a token from between the dump and the time at which every instance knows
    /// of its restore.
    pub(super) fn is_lost(&self, issued_at: Duration) -> bool {
        self.lost.iter().any(|lost| (lost.start..lost.end + BOUND).contains(&issued_at))
    }

    pub(super) fn count(&self, state: KeyState) -> usize {
        self.keys.iter().filter(|key| key.state == state).count()
    }

    /// Records a new token. Reports a violation if its key has been deleted.
    pub(super) fn record_token(
        &mut self,
        id: KeyId,
        issued_at: Duration,
        expires_at: OffsetDateTime,
    ) {
        if self.is_lost(issued_at) {
            return;
        }
        let Some(history) = self.histories.get_mut(&id) else { return };
        history.latest_expiry = history.latest_expiry.max(expires_at);
        if let Some(deleted_at) = history.deleted_at {
            let text = format!("an instance signs with {id}, deleted at {deleted_at:?}");
            self.report(Property::KeysOutliveTokens, text);
        }
    }

    /// Judges a change that is about to be committed, and records the past of its keys.
    fn judge(&mut self, changed: &ChangedKeys, is_revocation: bool, at: Duration) {
        for state in [KeyState::Active, KeyState::Pending] {
            if changed.set.keys.iter().filter(|key| key.state == state).count() > 1 {
                self.report(Property::OneOfEach, format!("several keys are {state:?}"));
            }
        }
        for key in &changed.set.keys {
            let was_active = self.is_active(key.id);
            let history = self.histories.entry(key.id).or_insert(History {
                published_at: at,
                is_emergency: false,
                is_back: false,
                revoked_at: None,
                deleted_at: None,
                latest_expiry: START,
            });
            history.is_emergency |= is_revocation && key.state == KeyState::Active && !was_active;
        }
        for former in self.keys.clone() {
            if !changed.set.keys.iter().any(|key| key.id == former.id) {
                self.judge_removal(former.id, &changed.revocations, at);
            }
        }
    }

    fn is_active(&self, id: KeyId) -> bool {
        self.keys.iter().any(|key| key.id == id && key.state == KeyState::Active)
    }

    fn judge_removal(&mut self, id: KeyId, revocations: &[Revocation], at: Duration) {
        let Some(history) = self.histories.get_mut(&id) else { return };
        if revocations.iter().any(|revocation| revocation.id == id.into()) {
            history.revoked_at = Some(at);
            return;
        }
        history.deleted_at = Some(at);
        let latest_expiry = history.latest_expiry;
        if latest_expiry + MAX_LEEWAY > START + at {
            let text = format!("{id} is deleted at {at:?}; a token of it ends at {latest_expiry}");
            self.report(Property::KeysOutliveTokens, text);
        }
    }
}
