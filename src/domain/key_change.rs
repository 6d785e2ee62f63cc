//! Changes to the set of signing keys, and the decision about them. `docs/keys.md` shows the life of
//! a key.

use std::mem;
use std::time::Duration;

use thiserror::Error;
use time::OffsetDateTime;

use super::{
    AuditAction, AuditRecord, CLOCK_SKEW_ALLOWANCE, KeyId, KeySet, KeyState, MAX_LEEWAY, NewKey,
    Requester, Revocation, SigningKey,
};

/// Edit of the set of keys. The new keys in it are used only if they are needed.
#[derive(Clone, Debug)]
pub enum KeyEdit {
    /// Provides what is missing: an active key, a pending one, and time for its publication.
    Provide([NewKey; 2]),
    /// Lets the active key sign tokens that expire later.
    Extend,
    /// Activates the pending key and publishes a new one.
    Rotate(NewKey),
    /// Rotates if the active key has signed for as long as the interval.
    RotateIfDue(Duration, NewKey),
    /// Removes a key and revokes every token that it signed.
    Revoke(KeyId, NewKey),
    /// Removes all keys and revokes every token that they signed.
    RevokeAll([NewKey; 2]),
    /// Deletes the keys that verify no token any more.
    DeleteExpired,
}

/// Request to change the set of keys.
#[derive(Clone, Debug)]
pub struct KeyChange {
    pub edit: KeyEdit,
    pub periods: KeyPeriods,
    /// Time of day at the requester.
    pub at: OffsetDateTime,
    pub requester: Requester,
}

/// Periods in the life of a key, by the settings of the requester.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPeriods {
    /// Time from the publication of a key until every verifier knows it.
    pub publication: Duration,
    /// Life of an access token.
    pub token_lifetime: Duration,
}

/// Set of keys after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedKeys {
    pub set: KeySet,
    /// Revocations of the removed keys.
    pub revocations: Vec<Revocation>,
    /// Actions for the audit log, each with its key.
    pub actions: Vec<(AuditAction, KeyId)>,
}

/// Reason to refuse a change of the set of keys.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Some verifiers may not know the pending key.
    #[error("the pending key has to be published for another {} s before it can sign", .0.as_secs_f64().ceil())]
    TooEarly(Duration),
    /// There is no such key.
    #[error("there is no such key")]
    NotFound,
    /// The session of the requester has ended.
    #[error("the session of the requester has ended")]
    RequesterSignedOut,
    /// A secret signs instead of the keys.
    #[error("JWT_ALGORITHM is HS256: JWT_SECRET_KEY signs, and its change ends the tokens")]
    NotUsed,
}

/// Time beyond the life of a token up to which an active key may sign. It may sign for longer before
/// half of this has passed.
const HORIZON: Duration = Duration::from_mins(20);

/// Number of retiring keys up to which the service may rotate by itself. Every verifier fetches all
/// of them, and each token is compared with each.
const MAX_RETIRING: u32 = 50;

impl KeyPeriods {
    /// Returns the periods for keys that verifiers may keep for `max_age`, and for tokens that live
    /// for `token_lifetime`.
    ///
    /// A verifier fetches the keys from an instance that may not know of the newest yet, for as
    /// long as `max_staleness`, perhaps through a cache that keeps them as long as the verifier
    /// does.
    #[must_use]
    pub fn new(max_age: Duration, max_staleness: Duration, token_lifetime: Duration) -> Self {
        Self { publication: 2 * max_age + max_staleness, token_lifetime }
    }

    /// Returns the shortest interval between rotations: a key is published for long enough, and the
    /// keys whose tokens live are few.
    #[must_use]
    pub fn shortest_interval(&self) -> Duration {
        let retirement = self.token_lifetime + HORIZON + MAX_LEEWAY + CLOCK_SKEW_ALLOWANCE;
        self.publication.max(retirement / MAX_RETIRING)
    }

    /// Returns the expiry up to which a key may sign from now on.
    #[must_use]
    pub fn signs_until(&self, now: OffsetDateTime) -> OffsetDateTime {
        now + self.token_lifetime + HORIZON
    }
}

impl KeySet {
    /// Returns the key in a state; of several, the first one.
    #[must_use]
    pub fn find(&self, state: KeyState) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.state == state)
    }

    /// Returns `true` if there is an active key, and a pending one that has time for its
    /// publication.
    #[must_use]
    pub fn is_provided(&self, periods: &KeyPeriods) -> bool {
        let pending = self.find(KeyState::Pending);
        self.find(KeyState::Active).is_some()
            && pending.is_some_and(|key| key.known_at >= key.published_at + periods.publication)
    }

    /// Returns `true` if the active key should soon be allowed to sign for longer.
    #[must_use]
    pub fn needs_extension(&self, periods: &KeyPeriods, now: OffsetDateTime) -> bool {
        let needed = now + periods.token_lifetime + HORIZON / 2;
        self.find(KeyState::Active).is_some_and(|key| key.signs_until < needed)
    }

    /// Returns `true` if the active key has signed for long enough, and every verifier knows the
    /// pending one.
    #[must_use]
    pub fn is_rotation_due(&self, interval: Duration, now: OffsetDateTime) -> bool {
        let active_since = self.find(KeyState::Active).and_then(|key| key.activated_at);
        active_since.is_none_or(|since| since + interval <= now)
            && self.find(KeyState::Pending).is_some_and(|key| key.known_at <= now)
    }

    /// Returns `true` if a key verifies no token any more.
    #[must_use]
    pub fn has_expired_key(&self, now: OffsetDateTime) -> bool {
        self.keys.iter().any(|key| key.has_expired(now))
    }

    fn find_mut(&mut self, state: KeyState) -> Option<&mut SigningKey> {
        self.keys.iter_mut().find(|key| key.state == state)
    }
}

impl KeyChange {
    /// Decides the outcome of the change. Returns `None` if nothing changes.
    ///
    /// `set` contains all keys; their rows must stay locked until the outcome is committed. `now` is
    /// the time by the clock of the database. A key becomes active, or is deleted, only if that
    /// clock and the requester's agree that it is time: one wrong clock does neither.
    ///
    /// # Errors
    /// Returns a [`KeyError`].
    pub fn decide(
        &self,
        set: KeySet,
        now: OffsetDateTime,
    ) -> Result<Option<ChangedKeys>, KeyError> {
        let earliest_now = now.min(self.at);
        if !self.has_effect(&set, now, earliest_now) {
            return Ok(None);
        }
        let mut changed = ChangedKeys::new(set);
        match &self.edit {
            KeyEdit::Provide(new) => self.provide(&mut changed, new, now),
            KeyEdit::Extend => {
                if let Some(active) = changed.set.find_mut(KeyState::Active) {
                    active.signs_until = active.signs_until.max(self.periods.signs_until(now));
                }
            }
            KeyEdit::Rotate(next) | KeyEdit::RotateIfDue(_, next) => {
                self.rotate(&mut changed, next, now)?;
            }
            KeyEdit::Revoke(id, next) => self.revoke(&mut changed, *id, next, now)?,
            KeyEdit::RevokeAll(new) => {
                for key in mem::take(&mut changed.set.keys) {
                    self.add_revocation(&mut changed, &key, now);
                }
                self.provide(&mut changed, new, now);
            }
            KeyEdit::DeleteExpired => {
                let ChangedKeys { set, actions, .. } = &mut changed;
                for key in set.keys.extract_if(.., |key| key.has_expired(earliest_now)) {
                    actions.push((AuditAction::KeyDeleted, key.id));
                }
            }
        }
        Ok(Some(changed))
    }

    /// Returns the audit records of the change.
    #[must_use]
    pub fn records(&self, changed: &ChangedKeys, now: OffsetDateTime) -> Vec<AuditRecord> {
        let record =
            |&(action, key)| AuditRecord::for_key(now, action, &key, self.requester.clone());
        changed.actions.iter().map(record).collect()
    }

    fn has_effect(&self, set: &KeySet, now: OffsetDateTime, earliest_now: OffsetDateTime) -> bool {
        match &self.edit {
            KeyEdit::Provide(_) => !set.is_provided(&self.periods),
            KeyEdit::Extend => set.needs_extension(&self.periods, now),
            KeyEdit::RotateIfDue(interval, _) => set.is_rotation_due(*interval, earliest_now),
            KeyEdit::DeleteExpired => set.has_expired_key(earliest_now),
            KeyEdit::Rotate(_) | KeyEdit::Revoke(..) | KeyEdit::RevokeAll(_) => true,
        }
    }

    fn provide(&self, changed: &mut ChangedKeys, new: &[NewKey; 2], now: OffsetDateTime) {
        let [first, second] = new;
        if changed.set.find(KeyState::Active).is_none() {
            if changed.set.find(KeyState::Pending).is_none() {
                self.publish(changed, first, now);
            }
            self.activate(changed, now);
        }
        if changed.set.find(KeyState::Pending).is_none() {
            self.publish(changed, second, now);
        }
        // The key may be from an instance with a shorter publication.
        if let Some(pending) = changed.set.find_mut(KeyState::Pending) {
            pending.known_at =
                pending.known_at.max(pending.published_at + self.periods.publication);
        }
    }

    fn rotate(
        &self,
        changed: &mut ChangedKeys,
        next: &NewKey,
        now: OffsetDateTime,
    ) -> Result<(), KeyError> {
        let pending = changed.set.find(KeyState::Pending).ok_or(KeyError::NotFound)?;
        if let Ok(wait) = Duration::try_from(pending.known_at - now.min(self.at))
            && !wait.is_zero()
        {
            return Err(KeyError::TooEarly(wait));
        }
        if let Some(active) = changed.set.find_mut(KeyState::Active) {
            active.state = KeyState::Retiring;
        }
        self.activate(changed, now);
        self.publish(changed, next, now);
        Ok(())
    }

    fn revoke(
        &self,
        changed: &mut ChangedKeys,
        id: KeyId,
        next: &NewKey,
        now: OffsetDateTime,
    ) -> Result<(), KeyError> {
        let index = changed.set.keys.iter().position(|key| key.id == id);
        let key = changed.set.keys.remove(index.ok_or(KeyError::NotFound)?);
        self.add_revocation(changed, &key, now);
        if key.state == KeyState::Active {
            self.activate(changed, now);
        }
        if key.state != KeyState::Retiring {
            self.publish(changed, next, now);
        }
        Ok(())
    }

    /// Publishes a key for at least as long as the ones before: another instance may have asked for
    /// more time, and may be unable to do so again.
    fn publish(&self, changed: &mut ChangedKeys, new: &NewKey, now: OffsetDateTime) {
        let longest = changed.set.keys.iter().map(|key| key.known_at - key.published_at).max();
        let known_at = now + self.periods.publication;
        changed.actions.push((AuditAction::KeyPublished, new.id));
        changed.set.keys.push(SigningKey {
            id: new.id,
            state: KeyState::Pending,
            public_key: new.public_key.clone(),
            sealed_private_key: new.sealed_private_key.clone(),
            published_at: now,
            known_at: longest.map_or(known_at, |longest| known_at.max(now + longest)),
            activated_at: None,
            signs_until: now,
        });
    }

    /// Activates the pending key. After a revocation it does not wait: verifiers that fetched the
    /// keys before it fetch them again when they meet the new one.
    fn activate(&self, changed: &mut ChangedKeys, now: OffsetDateTime) {
        let Some(key) = changed.set.find_mut(KeyState::Pending) else { return };
        key.state = KeyState::Active;
        key.activated_at = Some(now);
        key.signs_until = self.periods.signs_until(now);
        let id = key.id;
        changed.actions.push((AuditAction::KeyActivated, id));
    }

    /// Revokes a key for as long as a token of it may be accepted: until the last token that the
    /// service signed has expired, and until every verifier has dropped the key.
    fn add_revocation(&self, changed: &mut ChangedKeys, key: &SigningKey, now: OffsetDateTime) {
        let expires_at = key.signs_until.max(now + self.periods.publication) + MAX_LEEWAY;
        changed.revocations.push(Revocation { id: key.id.into(), expires_at });
        changed.actions.push((AuditAction::KeyRevoked, key.id));
    }
}

impl ChangedKeys {
    fn new(mut set: KeySet) -> Self {
        set.version = set.version.saturating_add(1);
        Self { set, revocations: Vec::new(), actions: Vec::new() }
    }
}

impl SigningKey {
    /// Returns `true` if every token of a retiring key has expired, with the largest leeway.
    #[must_use]
    pub fn has_expired(&self, now: OffsetDateTime) -> bool {
        let end = self.signs_until + MAX_LEEWAY + CLOCK_SKEW_ALLOWANCE;
        self.state == KeyState::Retiring && end < now
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);
    const PERIODS: KeyPeriods = KeyPeriods {
        publication: Duration::from_secs(605),
        token_lifetime: Duration::from_hours(1),
    };

    fn new_key(number: u8) -> NewKey {
        let id = KeyId::from_thumbprint([number; 32]);
        NewKey { id, public_key: vec![number], sealed_private_key: vec![number] }
    }

    fn change(edit: KeyEdit, at: OffsetDateTime) -> KeyChange {
        KeyChange { edit, periods: PERIODS, at, requester: Requester::COMMAND_LINE }
    }

    /// Decides an edit at a time that both clocks show.
    fn decide(
        edit: KeyEdit,
        set: &KeySet,
        now: OffsetDateTime,
    ) -> Result<Option<ChangedKeys>, KeyError> {
        change(edit, now).decide(set.clone(), now)
    }

    /// Returns the keys 1, active, and 2, pending.
    fn first_keys() -> KeySet {
        let provide = KeyEdit::Provide([new_key(1), new_key(2)]);
        decide(provide, &KeySet::default(), NOW).unwrap().unwrap().set
    }

    fn states(set: &KeySet) -> Vec<(u8, KeyState)> {
        set.keys.iter().map(|key| (key.public_key[0], key.state)).collect()
    }

    #[test]
    fn first_key_signs_at_once() {
        let set = first_keys();

        assert_eq!(states(&set), [(1, KeyState::Active), (2, KeyState::Pending)]);
        assert_eq!(set.version, 1);
        assert_eq!(set.keys[0].signs_until, PERIODS.signs_until(NOW));
        let again = KeyEdit::Provide([new_key(3), new_key(4)]);
        assert_eq!(decide(again, &set, NOW), Ok(None));
    }

    #[test]
    fn pending_key_signs_once_every_verifier_knows_it() {
        let set = first_keys();
        let rotate = || KeyEdit::Rotate(new_key(3));
        let known_at = NOW + PERIODS.publication;

        let early = decide(rotate(), &set, known_at - Duration::from_secs(1));
        assert_eq!(early, Err(KeyError::TooEarly(Duration::from_secs(1))));

        let rotated = decide(rotate(), &set, known_at).unwrap().unwrap();
        assert_eq!(
            states(&rotated.set),
            [(1, KeyState::Retiring), (2, KeyState::Active), (3, KeyState::Pending)]
        );
        assert_eq!(rotated.set.keys[0].signs_until, set.keys[0].signs_until);
        assert_eq!(rotated.set.keys[1].signs_until, PERIODS.signs_until(known_at));
        assert_eq!(rotated.revocations, []);
    }

    #[test]
    fn longest_publication_of_all_instances_counts() {
        let mut set = first_keys();
        set.keys[1].known_at = NOW;
        let provide = KeyEdit::Provide([new_key(3), new_key(4)]);

        let provided = decide(provide, &set, NOW).unwrap().unwrap().set;

        assert_eq!(states(&provided), states(&set));
        assert_eq!(provided.keys[1].known_at, NOW + PERIODS.publication);
    }

    #[test]
    fn new_key_is_published_for_as_long_as_the_one_before() {
        let mut set = first_keys();
        let hour = Duration::from_hours(1);
        set.keys[1].known_at = set.keys[1].published_at + hour;

        let rotated = decide(KeyEdit::Rotate(new_key(3)), &set, NOW + hour).unwrap().unwrap().set;

        assert_eq!(rotated.keys[2].known_at, NOW + 2 * hour);
    }

    #[test]
    fn one_wrong_clock_activates_and_deletes_nothing() {
        let set = first_keys();
        let later = NOW + Duration::from_hours(24);
        for (requester, database) in [(NOW, later), (later, NOW)] {
            let rotate = change(KeyEdit::Rotate(new_key(3)), requester);
            assert!(matches!(rotate.decide(set.clone(), database), Err(KeyError::TooEarly(_))));

            let mut expired = set.clone();
            expired.keys[0].state = KeyState::Retiring;
            let delete = change(KeyEdit::DeleteExpired, requester);
            assert_eq!(delete.decide(expired, database), Ok(None));
        }
    }

    #[test]
    fn rotation_is_due_after_the_interval() {
        let set = first_keys();
        let interval = Duration::from_hours(24);
        let rotate = || KeyEdit::RotateIfDue(interval, new_key(3));

        assert_eq!(decide(rotate(), &set, NOW + interval - Duration::from_secs(1)), Ok(None));
        assert!(decide(rotate(), &set, NOW + interval).unwrap().is_some());
    }

    #[test]
    fn active_key_is_extended_before_it_is_too_late() {
        let set = first_keys();
        let half = HORIZON / 2;

        assert_eq!(decide(KeyEdit::Extend, &set, NOW + half), Ok(None));
        let now = NOW + half + Duration::from_secs(1);
        let extended = decide(KeyEdit::Extend, &set, now).unwrap().unwrap().set;
        assert_eq!(extended.keys[0].signs_until, PERIODS.signs_until(now));
        assert_eq!(extended.keys[1], set.keys[1]);
    }

    #[test]
    fn key_is_deleted_when_its_tokens_have_expired() {
        let mut set = first_keys();
        set.keys[0].state = KeyState::Retiring;
        let end = set.keys[0].signs_until + MAX_LEEWAY + CLOCK_SKEW_ALLOWANCE;

        assert_eq!(decide(KeyEdit::DeleteExpired, &set, end), Ok(None));
        let deleted = decide(KeyEdit::DeleteExpired, &set, end + Duration::from_secs(1));
        let deleted = deleted.unwrap().unwrap();
        assert_eq!(states(&deleted.set), [(2, KeyState::Pending)]);
        assert_eq!(deleted.actions, [(AuditAction::KeyDeleted, set.keys[0].id)]);
    }

    #[test]
    fn revoked_active_key_is_replaced_by_the_pending_one_at_once() {
        let set = first_keys();
        let revoked = set.keys[0].clone();

        let changed = decide(KeyEdit::Revoke(revoked.id, new_key(3)), &set, NOW);
        let changed = changed.unwrap().unwrap();

        assert_eq!(states(&changed.set), [(2, KeyState::Active), (3, KeyState::Pending)]);
        let expires_at = revoked.signs_until + MAX_LEEWAY;
        assert_eq!(changed.revocations, [Revocation { id: revoked.id.into(), expires_at }]);
        let again = decide(KeyEdit::Revoke(revoked.id, new_key(4)), &changed.set, NOW);
        assert_eq!(again, Err(KeyError::NotFound));
    }

    #[test]
    fn revoked_pending_or_retiring_key_leaves_the_active_one() {
        let set = first_keys();
        let changed = decide(KeyEdit::Revoke(set.keys[1].id, new_key(3)), &set, NOW);
        let changed = changed.unwrap().unwrap();
        assert_eq!(states(&changed.set), [(1, KeyState::Active), (3, KeyState::Pending)]);
        // The service signed nothing with it, but verifiers know it.
        let expires_at = NOW + PERIODS.publication + MAX_LEEWAY;
        assert_eq!(changed.revocations[0].expires_at, expires_at);

        let now = NOW + PERIODS.publication;
        let rotated = decide(KeyEdit::Rotate(new_key(3)), &set, now).unwrap().unwrap().set;
        let changed = decide(KeyEdit::Revoke(rotated.keys[0].id, new_key(4)), &rotated, now);
        let changed = changed.unwrap().unwrap();
        assert_eq!(states(&changed.set), [(2, KeyState::Active), (3, KeyState::Pending)]);
    }

    #[test]
    fn all_keys_are_revoked_and_replaced() {
        let changed = decide(KeyEdit::RevokeAll([new_key(3), new_key(4)]), &first_keys(), NOW);
        let changed = changed.unwrap().unwrap();

        assert_eq!(states(&changed.set), [(3, KeyState::Active), (4, KeyState::Pending)]);
        assert_eq!(changed.revocations.len(), 2);
    }
}
