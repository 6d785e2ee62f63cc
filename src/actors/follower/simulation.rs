//! Simulation of the follower: the real follower and replica run in virtual time against a model of
//! the database. Its commits land in any order; its answers fail, stall or get lost; it is
//! replaced, and the process is frozen. The property is the bound of `docs/revocation.md`.
//!
//! A schedule is determined by its seed.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::sync::Mutex;

use async_trait::async_trait;
use fastrand::Rng;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::runtime::Builder;
use tokio::time::{Instant, advance, sleep};
use uuid::Uuid;

use super::*;
use crate::domain::{FeedCursor, KeySet, Revocation, RevocationId, ServerId, Snapshot};
use crate::revocation::Verdict;
use crate::store::FeedEntry;
use crate::tokens::{KeyRing, RootKey, test_settings};

const BOUND: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_secs(1);
const LENGTH: Duration = Duration::from_mins(1);
const TRANSACTIONS: usize = 60;
const READ_AT: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

/// Kinds of cursor of a model feed: the real one, and wrong ones that the simulation must detect.
#[derive(Clone, Copy, Debug, PartialEq)]
enum CursorKind {
    /// The real one: the snapshot of the latest read.
    Snapshot,
    /// Wrong: the highest number read, as with a serial column.
    Serial,
    /// Wrong: the end of the snapshot, without the transactions in progress.
    EndOfSnapshot,
    /// Wrong: adopted before the answer has arrived.
    Hasty,
    /// Wrong: kept when the database is replaced.
    Trusting,
}

#[derive(Clone, Copy)]
enum Event {
    Begin(usize),
    Commit(usize),
    Abort(usize),
    /// The server is replaced by one restored from a dump, with new transaction numbers.
    Restore,
}

/// Model of the database, which carries out its plan as time passes. Transaction `n` revokes the id
/// `n`.
struct Database {
    plan: VecDeque<(Duration, Event)>,
    server: u64,
    next_xid: u64,
    running: BTreeMap<usize, u64>,
    /// Committed rows: number of the transaction, its xid, time of the commit.
    rows: Vec<(usize, u64, Duration)>,
}

impl Database {
    fn plan(rng: &mut Rng) -> Self {
        let mut plan = Vec::new();
        for number in 0..TRANSACTIONS {
            let begins_at = LENGTH.mul_f64(rng.f64());
            // Most transactions are short; some stay open for long.
            let longest = if rng.u8(..8) == 0 { LENGTH } else { POLL };
            let ends_at = LENGTH.min(begins_at + longest.mul_f64(rng.f64()));
            let end = if rng.u8(..6) == 0 { Event::Abort } else { Event::Commit };
            plan.extend([(begins_at, Event::Begin(number)), (ends_at, end(number))]);
        }
        if rng.bool() {
            plan.push((LENGTH.mul_f64(rng.f64()), Event::Restore));
        }
        plan.sort_by_key(|(at, _)| *at);
        let plan = plan.into();
        Self { plan, server: 0, next_xid: 700, running: BTreeMap::new(), rows: Vec::new() }
    }

    fn catch_up(&mut self, now: Duration) {
        while let Some((at, event)) = self.plan.pop_front_if(|(at, _)| *at <= now) {
            match event {
                Event::Begin(number) => {
                    self.running.insert(number, self.next_xid);
                    self.next_xid += 1;
                }
                Event::Commit(number) => {
                    let ended = self.running.remove(&number);
                    self.rows.extend(ended.map(|xid| (number, xid, at)));
                }
                Event::Abort(number) => drop(self.running.remove(&number)),
                Event::Restore => {
                    self.server += 1;
                    self.next_xid = if at.as_millis() % 2 == 0 { 690 } else { 100_000 };
                    self.running.clear();
                }
            }
        }
    }

    fn committed_at(&self, number: usize) -> Option<Duration> {
        self.rows.iter().find(|row| row.0 == number).map(|row| row.2)
    }

    fn snapshot(&self) -> Snapshot {
        let mut in_progress: Vec<u64> = self.running.values().copied().collect();
        in_progress.sort_unstable();
        Snapshot::new(self.next_xid, in_progress).unwrap()
    }
}

/// Environment of a schedule.
struct World {
    database: Mutex<Database>,
    began_at: Instant,
    is_calm: Mutex<bool>,
}

impl World {
    fn at(&self) -> Duration {
        self.began_at.elapsed()
    }

    /// Carries out the plan up to now, then reads the database.
    fn read<T>(&self, read: impl FnOnce(&Database) -> T) -> T {
        let mut database = self.database.lock().unwrap();
        database.catch_up(self.at());
        read(&database)
    }
}

impl Clock for World {
    fn now(&self) -> OffsetDateTime {
        // The host's time of day must not matter.
        OffsetDateTime::UNIX_EPOCH
    }

    fn uptime(&self) -> Duration {
        Duration::from_hours(1) + self.at()
    }
}

struct ModelFeed {
    world: Arc<World>,
    rng: Rng,
    cursor_kind: CursorKind,
    read_up_to: Option<(u64, Snapshot, u64)>,
}

#[async_trait]
impl Feed for ModelFeed {
    async fn read(&mut self, timeout: Duration) -> Result<FeedBatch, StoreError> {
        let is_calm = *self.world.is_calm.lock().unwrap();
        let fate = if is_calm { 9 } else { self.rng.u8(..12) };
        sleep(self.random_wait(timeout, is_calm)).await;
        if fate == 0 {
            return Err(StoreError::Replica);
        }
        let (batch, end) = self.world.read(|database| self.read_from(database));
        if self.cursor_kind == CursorKind::Hasty {
            self.read_up_to = Some(end.clone());
        }
        // Each part of the answer arrives in time; the whole may take long.
        for _ in 0..self.rng.u8(1..4) {
            sleep(self.random_wait(timeout, is_calm)).await;
        }
        if fate == 1 {
            sleep(timeout).await;
            return Err(StoreError::Timeout(timeout));
        }
        self.read_up_to = Some(end);
        Ok(batch)
    }

    async fn read_keys(&mut self, _: Duration) -> Result<KeySet, StoreError> {
        Ok(KeySet::default())
    }

    fn request_full_reload(&mut self) {
        self.read_up_to = None;
    }
}

impl ModelFeed {
    fn random_wait(&mut self, timeout: Duration, is_calm: bool) -> Duration {
        let longest =
            if is_calm || self.rng.u8(..4) > 0 { Duration::from_millis(4) } else { timeout };
        longest.mul_f64(self.rng.f64())
    }

    fn read_from(&self, database: &Database) -> (FeedBatch, (u64, Snapshot, u64)) {
        let seen = database.snapshot();
        let highest = database.rows.iter().map(|row| row.1).max().unwrap_or(0);
        let cursor = self.read_up_to.as_ref().filter(|(server, before, _)| {
            self.cursor_kind == CursorKind::Trusting
                || (*server == database.server && seen.sees_all_of(before))
        });
        let is_new = |xid: u64| match (cursor, self.cursor_kind) {
            (None, _) => true,
            (Some((_, _, highest)), CursorKind::Serial) => xid > *highest,
            (Some((_, before, _)), CursorKind::EndOfSnapshot) => xid >= before.xmax(),
            (Some((_, before, _)), _) => !before.sees(xid),
        };
        let rows = database.rows.iter().filter(|row| is_new(row.1));
        let entries = rows.map(|row| FeedEntry {
            revocation: revocation(row.0),
            xid: row.1,
            revoked_at: READ_AT,
        });
        let is_full_reload = cursor.is_none();
        let (entries, version) = (entries.collect(), KeySet::default().version);
        let server = ServerId(database.server.to_be_bytes());
        let cursor = FeedCursor { server, snapshot: seen.clone() };
        let batch = FeedBatch { entries, read_at: READ_AT, version, is_full_reload, cursor };
        (batch, (database.server, seen, highest))
    }
}

fn id(number: usize) -> RevocationId {
    Uuid::from_u128(number as u128).into()
}

fn revocation(number: usize) -> Revocation {
    Revocation { id: id(number), expires_at: READ_AT + Duration::from_hours(1) }
}

/// Checks tokens until the end, with freezes. Returns the first violation.
async fn check_tokens(
    world: &World,
    replica: &Replica,
    notified: &Notify,
    rng: &mut Rng,
) -> Result<(), String> {
    while world.at() < LENGTH {
        match rng.u8(..40) {
            0 => advance(BOUND.mul_f64(3.0 * rng.f64())).await,
            1..10 => notified.notify_one(),
            _ => sleep(POLL.mul_f64(rng.f64())).await,
        }
        for _ in 0..8 {
            let number = rng.usize(..TRANSACTIONS);
            let committed_at = world.read(|database| database.committed_at(number));
            let age = committed_at.map(|at| world.at().saturating_sub(at));
            match replica.check([id(number), id(TRANSACTIONS)]) {
                Verdict::Clear if age > Some(BOUND) => {
                    return Err(format!("{number} is accepted {age:?} after its revocation"));
                }
                Verdict::Revoked if age.is_none() => {
                    return Err(format!("{number} is refused without a revocation"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Checks that the replica is exact once the faults have passed.
async fn check_when_healthy(world: &World, replica: &Replica, room: bool) -> Result<(), String> {
    *world.is_calm.lock().unwrap() = true;
    sleep(4 * BOUND).await;
    for number in 0..=TRANSACTIONS {
        let is_revoked = world.read(|database| database.committed_at(number).is_some());
        match replica.check([id(number), id(TRANSACTIONS)]) {
            Verdict::Revoked if is_revoked => {}
            Verdict::Clear if !is_revoked => {}
            Verdict::Unknown if !room => {}
            verdict => return Err(format!("{number} is {verdict:?} at the end")),
        }
    }
    Ok(())
}

/// Runs one schedule. Returns the first violation.
fn run(
    seed: u64,
    cursor_kind: CursorKind,
    tokens: &Arc<Tokens>,
    metrics: &Arc<Metrics>,
) -> Result<(), String> {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut rng = Rng::with_seed(seed);
        let world = Arc::new(World {
            database: Mutex::new(Database::plan(&mut rng)),
            began_at: Instant::now(),
            is_calm: Mutex::new(false),
        });
        let clock: Arc<dyn Clock> = Arc::clone(&world) as _;
        let room = rng.u8(..4) > 0;
        let capacity = if room { 1_000 } else { 10 };
        let replica = Arc::new(Replica::new(capacity, BOUND, Arc::clone(&clock)));
        let settings = RevocationSettings {
            capacity,
            sweep_interval: LENGTH,
            max_staleness: BOUND,
            poll_interval: POLL,
        };
        let feed =
            ModelFeed { world: Arc::clone(&world), rng: rng.fork(), cursor_kind, read_up_to: None };
        let follower = Follower {
            feed: Box::new(feed),
            replica: Arc::clone(&replica),
            tokens: Arc::clone(tokens),
            notified: Arc::new(Notify::new()),
            settings,
            clock: Arc::new(DatabaseClock::new(clock)),
            metrics: Arc::clone(metrics),
            backoff: Backoff::new(rng.fork()),
        };
        let notified = Arc::clone(&follower.notified);
        let following = async {
            follower.follow().await;
            pending().await
        };
        let checking = async {
            check_tokens(&world, &replica, &notified, &mut rng).await?;
            check_when_healthy(&world, &replica, room).await
        };
        select! {
            outcome = checking => outcome,
            outcome = following => outcome,
        }
    })
}

/// Returns the first violation of some schedules.
fn first_violation(cursor_kind: CursorKind, seeds: std::ops::Range<u64>) -> Option<String> {
    let metrics = Arc::new(Metrics::new().unwrap());
    let root = Arc::new(RootKey::generate().unwrap());
    let ring = KeyRing::es256(&KeySet::default(), &root);
    let tokens = Arc::new(Tokens::new(root, ring, test_settings()).unwrap());
    seeds.into_iter().find_map(|seed| {
        run(seed, cursor_kind, &tokens, &metrics)
            .err()
            .map(|violation| format!("seed {seed}: {violation}"))
    })
}

#[test]
fn no_schedule_violates_the_bound() {
    assert_eq!(first_violation(CursorKind::Snapshot, 0..3_000), None);
}

#[test]
fn wrong_cursors_are_detected() {
    for cursor_kind in
        [CursorKind::Serial, CursorKind::EndOfSnapshot, CursorKind::Hasty, CursorKind::Trusting]
    {
        assert!(first_violation(cursor_kind, 0..300).is_some(), "{cursor_kind:?} was not detected");
    }
}
