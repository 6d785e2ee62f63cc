//! An instance of the service, made of the real parts.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use time::OffsetDateTime;
use tokio::select;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use super::super::maintain::Maintenance;
use super::super::reader::{self, Reloads};
use super::super::writer::KeyWriter;
use super::database::{BOUND, Property, Variant, World};
use super::host::{Host, ModelFeed};
use crate::actors::SharedState;
use crate::actors::follower::{Backoff, Follower};
use crate::clock::{Clock, DatabaseClock};
use crate::config::{KeySettings, RevocationSettings, TokenSettings};
use crate::domain::{ChangedKeys, KeyId, KeyPeriods, KeyState, Requester, SessionId, User};
use crate::keys::{Keys, KeysError, open_root_key};
use crate::metrics::{FeedReadCause, Metrics};
use crate::revocation::{Replica, Verdict};
use crate::store::KeyStore;
use crate::tokens::{AccessClaims, KeyRing, TokenRefusal, Tokens, VerifiedTokenCache};

/// Longest time for which verifiers may keep the public keys of an instance.
pub(super) const MAX_AGE: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_mins(1);
/// Deadline of a change of the keys.
const TIMEOUT: Duration = Duration::from_mins(6);
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(30);
const RESTART_DELAY: Duration = Duration::from_secs(10);

/// Parts that all instances share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) keys: KeySettings,
    pub(super) metrics: Arc<Metrics>,
    pub(super) user: User,
}

/// Instance, which is a process most of the time.
pub(super) struct Instance {
    pub(super) host: Arc<Host>,
    shared: Shared,
    settings: TokenSettings,
    rotation_interval: Option<Duration>,
    rng: RefCell<Rng>,
    process: RefCell<Option<Rc<Process>>>,
    task: RefCell<Option<JoinHandle<()>>>,
    /// Key of its latest token.
    pub(super) latest_key: Cell<Option<KeyId>>,
}

/// Process that has started.
pub(super) struct Process {
    writer: KeyWriter,
    pub(super) tokens: Arc<Tokens>,
    pub(super) replica: Arc<Replica>,
    clock: Arc<DatabaseClock>,
    reloads: Reloads,
    cache: VerifiedTokenCache,
    notified: Arc<Notify>,
    /// Keys whose revocation this process has acknowledged.
    revoked_here: RefCell<Vec<KeyId>>,
}

/// Access token.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) key: KeyId,
    pub(super) expires_at: OffsetDateTime,
    /// Time since the start of the schedule.
    pub(super) issued_at: Duration,
}

/// Change of the keys by an operator.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Rotate,
    Revoke(KeyId),
    RevokeAll,
}

/// Returns the periods in the life of a key.
fn periods(variant: Variant, max_age: Duration, lifetime: Duration) -> KeyPeriods {
    let right = KeyPeriods::new(max_age, BOUND, lifetime);
    let publication = match variant {
        Variant::NoPublication => Duration::ZERO,
        Variant::OneMaxAge => max_age,
        Variant::NoStaleness => 2 * max_age,
        Variant::NoCache => max_age + BOUND,
        _ => right.publication,
    };
    KeyPeriods { publication, ..right }
}

impl Operation {
    /// Carries the operation out in the database.
    pub(super) async fn run(self, keys: &Keys) -> Result<Option<ChangedKeys>, KeysError> {
        let requester = Requester::COMMAND_LINE;
        match self {
            Self::Rotate => keys.rotate(requester).await,
            Self::Revoke(id) => keys.revoke(Some(id), requester).await,
            Self::RevokeAll => keys.revoke(None, requester).await,
        }
    }
}

impl Instance {
    pub(super) fn new(
        host: Arc<Host>,
        shared: Shared,
        settings: TokenSettings,
        rotation_interval: Option<Duration>,
        rng: Rng,
    ) -> Rc<Self> {
        Rc::new(Self {
            host,
            shared,
            settings,
            rotation_interval,
            rng: RefCell::new(rng),
            process: RefCell::new(None),
            task: RefCell::new(None),
            latest_key: Cell::new(None),
        })
    }

    /// Starts the instance, anew if it runs.
    pub(super) fn restart(self: &Rc<Self>) {
        let instance = Rc::clone(self);
        self.process.take();
        let live = async move { instance.host.run(instance.live()).await };
        if let Some(former) = self.task.replace(Some(spawn_local(live))) {
            former.abort();
        }
    }

    /// Returns the process if it can answer.
    pub(super) fn running(&self) -> Option<Rc<Process>> {
        self.process.borrow().clone().filter(|_| !self.host.is_frozen())
    }

    pub(super) async fn open_keys(&self) -> Option<Keys> {
        let store = Arc::clone(&self.host) as Arc<dyn KeyStore>;
        let (_, root) = open_root_key(&*store, &self.shared.keys).await.ok()?;
        let max_age = self.shared.keys.jwks_max_age;
        let periods = periods(self.host.world.variant, max_age, self.settings.lifetime);
        Some(Keys { store, root: Arc::new(root), periods, host: Arc::clone(&self.host) as _ })
    }

    async fn live(&self) {
        let (process, mut follower) = loop {
            if let Some(started) = self.start().await {
                break started;
            }
            sleep(RESTART_DELAY).await;
        };
        let writer = process.writer.clone();
        let maintenance = Maintenance { writer, rotation_interval: self.rotation_interval };
        while follower.read(FeedReadCause::Start).await.is_err() {
            sleep(RESTART_DELAY).await;
        }
        *self.process.borrow_mut() = Some(Rc::new(process));
        let maintain = async {
            loop {
                maintenance.clone().run().await;
                sleep(MAINTENANCE_INTERVAL).await;
            }
        };
        select! {
            biased;
            () = follower.follow() => {}
            () = maintain => {}
        }
    }

    /// Starts a process as `startup` does.
    async fn start(&self) -> Option<(Process, Follower)> {
        let clock = Arc::new(DatabaseClock::new(Arc::clone(&self.host) as _));
        let keys = self.open_keys().await?;
        let ring = KeyRing::es256(&keys.provide().await.ok()?, &keys.root);
        let tokens =
            Arc::new(Tokens::new(Arc::clone(&keys.root), ring, self.settings.clone()).ok()?);
        let settings = RevocationSettings {
            capacity: 100,
            sweep_interval: BOUND,
            max_staleness: BOUND,
            poll_interval: POLL,
            receiver_rate: RevocationSettings::RECEIVER_RATE,
        };
        let replica = Arc::new(Replica::new(settings.capacity, BOUND, Arc::clone(&clock) as _));
        let notified = Arc::new(Notify::new());
        let follower = Follower {
            feed: Box::new(ModelFeed::new(Arc::clone(&self.host))),
            state: SharedState {
                replica: Arc::clone(&replica),
                tokens: Arc::clone(&tokens),
                clients: Arc::default(),
            },
            notified: Arc::clone(&notified),
            settings,
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&self.shared.metrics),
            backoff: Backoff::new(self.rng.borrow_mut().fork()),
            versions: watch::Sender::default(),
        };
        let reloads = reader::start(keys.clone(), Arc::clone(&tokens), settings.read_timeout());
        let cache = VerifiedTokenCache::new(1 << 18);
        let revoked_here = RefCell::default();
        let writer = KeyWriter {
            keys,
            tokens: Arc::clone(&tokens),
            replica: Arc::clone(&replica),
            timeout: TIMEOUT,
            clock: Arc::clone(&clock) as _,
        };
        let process =
            Process { writer, tokens, replica, clock, reloads, cache, notified, revoked_here };
        Some((process, follower))
    }

    /// Notifies the instance of a commit.
    pub(super) fn notify(&self) {
        if let Some(process) = self.running() {
            process.notified.notify_one();
        }
    }

    /// Carries an operation out as `KeyActor` does.
    pub(super) fn operate(self: &Rc<Self>, operation: Operation) {
        let Some(process) = self.running() else { return };
        let host = Arc::clone(&self.host);
        spawn_local(async move { host.run(process.operate(operation)).await });
    }

    /// Checks a token as a request does.
    pub(super) fn check(&self, token: Rc<Token>) {
        let Some(process) = self.running() else { return };
        let host = Arc::clone(&self.host);
        spawn_local(async move { host.run(process.check(&host.world, &token)).await });
    }

    /// Returns the public keys, and how long they may be kept, as `/.well-known/jwks.json` does;
    /// `None` for a refusal.
    pub(super) fn jwks(&self) -> Option<(String, Duration)> {
        let process = self.running()?;
        let is_fresh = process.replica.is_fresh() || self.host.world.variant == Variant::StaleJwks;
        let max_age = self.shared.keys.jwks_max_age;
        is_fresh.then(|| (process.tokens.ring().jwks().body.clone(), max_age))
    }

    /// Returns the key for new tokens.
    pub(super) fn next_key(&self) -> Option<KeyId> {
        Some(self.running()?.tokens.ring().stored().find(KeyState::Active)?.id)
    }

    /// Issues a token as a login does, which opened its session some time ago. Returns `None` for a
    /// refusal.
    pub(super) fn log_in(&self, delay: Duration) -> Option<Token> {
        let process = self.running()?;
        let world = &self.host.world;
        let issued_at = process.clock.now() - delay;
        let expires_at = issued_at + self.settings.lifetime;
        if !process.replica.is_fresh() && world.variant != Variant::StaleSignatures {
            return None;
        }
        let session = SessionId::random();
        let issued =
            process.tokens.issue(&self.shared.user, session, None, expires_at, issued_at).ok()?;
        match process.verify(&issued.access_token) {
            Ok(claims) => {
                self.latest_key.set(Some(claims.key_id));
                let (text, key) = (issued.access_token, claims.key_id);
                Some(Token { text, key, expires_at, issued_at: world.at() })
            }
            Err(refusal) => {
                let text = format!("an instance refuses its own token: {refusal}");
                world.report(Property::TokensAreAccepted, text);
                None
            }
        }
    }
}

impl Process {
    async fn operate(&self, operation: Operation) {
        let revoked = match operation {
            Operation::Rotate => Vec::new(),
            Operation::Revoke(id) => vec![id],
            Operation::RevokeAll => {
                let keys = self.writer.read().await.unwrap_or_default().keys;
                keys.iter().map(|key| key.id).collect()
            }
        };
        if let Ok(Some(_)) = self.writer.apply(operation.run(&self.writer.keys)).await {
            self.revoked_here.borrow_mut().extend(revoked);
        }
    }

    fn verify(&self, text: &str) -> Result<Rc<AccessClaims>, TokenRefusal> {
        self.cache.verify(&self.tokens, text, self.clock.now())
    }

    async fn check(&self, world: &World, token: &Token) {
        let mut verified = self.verify(&token.text);
        if verified.as_ref().err() == Some(&TokenRefusal::UnknownKey) {
            if self.reloads.submit(()).await.is_err() {
                return;
            }
            verified = self.verify(&token.text);
        }
        let verdict = verified.map(|claims| self.replica.check(claims.revocation_ids()));
        self.judge(world, token, verdict);
    }

    /// Judges the verdict about a token.
    fn judge(&self, world: &World, token: &Token, verdict: Result<Verdict, TokenRefusal>) {
        let history = world.database().history(token.key);
        let age = history.and_then(|key| key.revoked_at).map(|at| world.at().saturating_sub(at));
        let is_back = history.is_some_and(|key| key.is_back);
        if age.is_none() && (is_back || world.database().is_lost(token.issued_at)) {
            return;
        }
        let (property, text) = match verdict {
            Ok(Verdict::Clear) if age > Some(BOUND) => {
                (Property::RevocationsHold, format!("a token of a key revoked {age:?} ago"))
            }
            Ok(Verdict::Clear) if self.revoked_here.borrow().contains(&token.key) => {
                (Property::RevocationsHold, format!("a token of a key revoked here {age:?} ago"))
            }
            Ok(Verdict::Revoked) if age.is_none() => {
                (Property::TokensAreAccepted, "refused without a revocation".to_owned())
            }
            Ok(_) | Err(TokenRefusal::Expired | TokenRefusal::NotYetValid) => return,
            Err(refusal) if age.is_none() && world.now() < token.expires_at => {
                (Property::TokensAreAccepted, refusal.to_string())
            }
            Err(_) => return,
        };
        world.report(property, format!("{text}, at {:?}", world.at()));
    }
}
