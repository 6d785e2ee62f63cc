//! Model of an instance: the real follower, replica and log, with a model of the server in front,
//! which answers as `http/revocations.rs` does. It restarts, and its threads are held up.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::select;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::database::{BOUND, LENGTH, Machine, POLL, Row, World, id, revocation};
use super::feed::{CursorKind, ModelFeed};
use super::protocol::{Design, Reply, Request};
use crate::actors::SharedState;
use crate::actors::follower::{Backoff, Follower};
use crate::clock::{Clock, DatabaseClock};
use crate::config::RevocationSettings;
use crate::domain::{FeedCursor, KeySet, RevocationId, ServerId, Snapshot};
use crate::metrics::{FeedReadCause, Metrics};
use crate::revocation::{LogReply, LogView, Replica};
use crate::store::Feed;
use crate::tokens::{KeyRing, RootKey, Tokens, test_settings};

/// Number of instances.
pub(super) const INSTANCES: usize = 3;

/// Parts that all schedules share, since they are slow to make.
#[derive(Clone)]
pub(super) struct Parts {
    root: Arc<RootKey>,
    metrics: Arc<Metrics>,
}

/// Instance `number`.
pub(super) struct Instance {
    number: usize,
    world: Arc<World>,
    clock: Arc<Machine>,
    design: Design,
    /// The replica; `None` while the instance is down.
    replica: Mutex<Option<Arc<Replica>>>,
    rng: Mutex<Rng>,
    parts: Parts,
}

impl Parts {
    pub(super) fn new() -> Self {
        let root = Arc::new(RootKey::generate().unwrap());
        Self { root, metrics: Arc::new(Metrics::new().unwrap()) }
    }

    /// Creates the follower of a replica.
    pub(super) fn follower(
        &self,
        feed: ModelFeed,
        replica: &Arc<Replica>,
        clock: Arc<dyn Clock>,
        rng: Rng,
    ) -> Follower {
        let no_keys = KeyRing::es256(&KeySet::default(), &self.root);
        let tokens = Tokens::new(Arc::clone(&self.root), no_keys, test_settings()).unwrap();
        Follower {
            feed: Box::new(feed) as Box<dyn Feed>,
            state: SharedState {
                replica: Arc::clone(replica),
                tokens: Arc::new(tokens),
                clients: Arc::default(),
            },
            notified: replica.log().read_requests(),
            settings: RevocationSettings {
                capacity: 0,
                sweep_interval: LENGTH,
                max_staleness: BOUND,
                poll_interval: POLL,
                receiver_rate: RevocationSettings::RECEIVER_RATE,
            },
            clock: Arc::new(DatabaseClock::new(clock)),
            metrics: Arc::clone(&self.metrics),
            backoff: Backoff::new(rng),
            versions: watch::Sender::default(),
        }
    }
}

impl Instance {
    pub(super) fn new(
        number: usize,
        world: &Arc<World>,
        design: Design,
        rng: Rng,
        parts: &Parts,
    ) -> Self {
        let booted_before = Duration::from_hours(1 + number as u64);
        Self {
            number,
            world: Arc::clone(world),
            clock: Arc::new(Machine { world: Arc::clone(world), booted_before }),
            design,
            replica: Mutex::default(),
            rng: Mutex::new(rng),
            parts: parts.clone(),
        }
    }

    /// Starts, follows for a while, and restarts.
    pub(super) async fn run(self: Arc<Self>) {
        // Some instances are far from the database.
        let usual_wait = Duration::from_millis(4 << (3 * self.number));
        loop {
            let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
            let replica = Arc::new(Replica::new(1_000, BOUND, Arc::clone(&clock)));
            let rng = self.rng.lock().unwrap().fork();
            let feed = ModelFeed::new(&self.world, rng, usual_wait, self.cursor_kind());
            let rng = self.rng.lock().unwrap().fork();
            let mut follower = self.parts.follower(feed, &replica, clock, rng);
            while follower.read(FeedReadCause::Start).await.is_err() {
                sleep(POLL).await;
            }
            *self.replica.lock().unwrap() = Some(replica);
            let lifetime = self.random_time(2 * LENGTH);
            select! {
                () = follower.follow() => {}
                () = sleep(lifetime) => {}
            }
            *self.replica.lock().unwrap() = None;
            sleep(self.random_time(BOUND)).await;
        }
    }

    fn cursor_kind(&self) -> CursorKind {
        match self.design {
            Design::SameAfterRecovery => CursorKind::SameAfterRecovery,
            Design::HalfRead => CursorKind::HalfRead,
            _ => CursorKind::Snapshot,
        }
    }

    /// Notifies the follower of a commit.
    pub(super) fn notify(&self) {
        if let Some(replica) = &*self.replica.lock().unwrap() {
            replica.log().request_read();
        }
    }

    /// Answers a request; `None` for 503.
    pub(super) async fn answer(&self, request: &Request) -> Option<Reply> {
        let replica = self.replica.lock().unwrap().clone()?;
        let log = replica.log();
        let arrived_at = self.clock.uptime();
        self.hesitate().await;
        let is_known = |view: &LogView| {
            request.cursor.as_ref().is_none_or(|cursor| cursor.server == view.cursor().server)
        };
        if !is_known(&log.latest()) {
            timeout(BOUND / 2, log.wait_for_read(arrived_at)).await.ok()?;
        }
        if let Some(cursor) = request.cursor.as_ref().filter(|cursor| log.latest().serves(cursor)) {
            let _ = timeout(request.wait, log.wait_for_rows(cursor)).await;
        }
        self.apply_own_revocations(&replica);
        let view = log.latest();
        self.hesitate().await;
        let (revoked, reply) = self.read(request, &replica, &view, arrived_at)?;
        replica.is_fresh().then(|| Reply {
            nonce: request.nonce,
            cursor: reply.cursor,
            read_at: view.read_began_at().saturating_sub(self.clock.booted_before),
            age_ms: reply.age_ms,
            now: self.world.database_time(),
            revoked,
        })
    }

    /// Reads the log, or the replica for a complete reply.
    fn read(
        &self,
        request: &Request,
        replica: &Replica,
        view: &LogView,
        arrived_at: Duration,
    ) -> Option<(Vec<(RevocationId, i64)>, LogReply)> {
        let mut known = request.cursor.clone();
        if let (Design::AnyServer, Some(cursor)) = (self.design, &mut known) {
            cursor.server = view.cursor().server;
        }
        if let (Design::EndsOfSnapshot, Some(cursor)) = (self.design, &known)
            && ends(cursor) == ends(view.cursor())
        {
            let reply = view.reply(view.cursor(), arrived_at)?;
            return Some((Vec::new(), LogReply { cursor: cursor.clone(), ..reply }));
        }
        if let Some(mut reply) = known.as_ref().and_then(|known| view.reply(known, arrived_at)) {
            self.spoil(&mut reply, request, view);
            let revoked = reply.rows.iter().map(|row| (row.id, row.expires_at)).collect();
            return Some((revoked, reply));
        }
        let (cursor, mut revoked) = replica.read_all()?;
        let later = view.reply(&cursor, arrived_at)?;
        revoked.extend(later.rows.iter().map(|row| (row.id, row.expires_at)));
        Some((revoked, later))
    }

    /// Does to a reply what a wrong design would have done.
    fn spoil(&self, reply: &mut LogReply, request: &Request, view: &LogView) {
        match (self.design, request.since) {
            (Design::TimeStamp, Some(since)) => {
                reply.rows = view.rows_after(&Snapshot::below(0)).copied().collect();
                let is_new = |row: &Row| row.begun_at >= since;
                reply.rows.retain(|row| self.row(row.id).is_some_and(|row| is_new(&row)));
            }
            (Design::NewEntriesOnly, ..) => {
                reply.rows.retain(|row| self.row(row.id).is_none_or(|row| !self.has_revoked(&row)));
            }
            _ => {}
        }
    }

    fn row(&self, revoked: RevocationId) -> Option<Row> {
        self.world
            .read(|database| database.rows().iter().find(|row| id(row.number) == revoked).copied())
    }

    /// Returns `true` if this instance has made a revocation.
    fn has_revoked(&self, row: &Row) -> bool {
        row.number % INSTANCES == self.number
    }

    fn apply_own_revocations(&self, replica: &Replica) {
        let now = self.world.database_time();
        let rows = self.world.read(|database| database.rows().to_vec());
        for row in rows.iter().filter(|row| self.has_revoked(row)) {
            replica.apply(&revocation(row.number), now);
        }
    }

    /// Is held up sometimes.
    async fn hesitate(&self) {
        if !self.world.is_calm() && self.rng.lock().unwrap().u8(..30) == 0 {
            sleep(self.random_time(2 * BOUND)).await;
        }
    }

    fn random_time(&self, longest: Duration) -> Duration {
        longest.mul_f64(self.rng.lock().unwrap().f64())
    }
}

/// Returns what a wrong design takes a cursor for.
fn ends(cursor: &FeedCursor) -> (ServerId, u64, u64) {
    let xmax = cursor.snapshot.xmax();
    let xmin = cursor.snapshot.in_progress().first().copied().unwrap_or(xmax);
    (cursor.server, xmin, xmax)
}
