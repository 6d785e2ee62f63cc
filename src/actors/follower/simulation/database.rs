//! Model of the database: its transactions overlap and land in any order, it is replaced, and its
//! answers fail, stall or get lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::{ClientSet, FeedCursor, KeySet, Revocation, RevocationId, ServerId, Snapshot};
use crate::store::{Feed, FeedBatch, FeedEntry, StoreError};

pub(super) const BOUND: Duration = Duration::from_secs(5);
pub(super) const POLL: Duration = Duration::from_secs(1);
pub(super) const LENGTH: Duration = Duration::from_mins(1);
pub(super) const TRANSACTIONS: usize = 60;
/// Time of the database at the start of a schedule.
const START: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

/// Kinds of cursor of a model feed: the real one, and wrong ones that the simulation must detect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CursorKind {
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
pub(super) struct Database {
    plan: VecDeque<(Duration, Event)>,
    server: u64,
    next_xid: u64,
    /// Transactions in progress: their xid, and when they began.
    running: BTreeMap<usize, (u64, Duration)>,
    rows: Vec<Row>,
}

/// Committed revocation by transaction `number`.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) number: usize,
    xid: u64,
    pub(super) begun_at: Duration,
    pub(super) committed_at: Duration,
}

impl Database {
    pub(super) fn plan(rng: &mut Rng) -> Self {
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
                    self.running.insert(number, (self.next_xid, at));
                    self.next_xid += 1;
                }
                Event::Commit(number) => {
                    let ended = self.running.remove(&number);
                    self.rows.extend(ended.map(|(xid, begun_at)| Row {
                        number,
                        xid,
                        begun_at,
                        committed_at: at,
                    }));
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

    /// Returns the rows in the order of their commits.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn committed_at(&self, number: usize) -> Option<Duration> {
        self.rows.iter().find(|row| row.number == number).map(|row| row.committed_at)
    }

    fn snapshot(&self) -> Snapshot {
        let mut in_progress: Vec<u64> = self.running.values().map(|(xid, _)| *xid).collect();
        in_progress.sort_unstable();
        Snapshot::new(self.next_xid, in_progress).unwrap()
    }
}

/// Environment of a schedule.
pub(super) struct World {
    database: Mutex<Database>,
    began_at: Instant,
    is_calm: Mutex<bool>,
}

impl World {
    pub(super) fn new(database: Database) -> Self {
        let (database, is_calm) = (Mutex::new(database), Mutex::default());
        Self { database, began_at: Instant::now(), is_calm }
    }

    /// Returns the time since the start of the schedule.
    pub(super) fn at(&self) -> Duration {
        self.began_at.elapsed()
    }

    /// Returns the time of the database.
    pub(super) fn database_time(&self) -> OffsetDateTime {
        START + self.at()
    }

    pub(super) fn is_calm(&self) -> bool {
        *self.is_calm.lock().unwrap()
    }

    /// Ends the faults.
    pub(super) fn calm_down(&self) {
        *self.is_calm.lock().unwrap() = true;
    }

    /// Carries out the plan up to now, then reads the database.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Database) -> T) -> T {
        let mut database = self.database.lock().unwrap();
        database.catch_up(self.at());
        read(&database)
    }
}

/// Clock of a machine with an uptime of its own.
pub(super) struct Machine {
    pub(super) world: Arc<World>,
    /// Uptime at the start of the schedule.
    pub(super) booted_before: Duration,
}

impl Clock for Machine {
    fn now(&self) -> OffsetDateTime {
        // The host's time of day must not matter.
        OffsetDateTime::UNIX_EPOCH
    }

    fn uptime(&self) -> Duration {
        self.booted_before + self.world.at()
    }
}

/// Connection of an instance to the database.
pub(super) struct ModelFeed {
    world: Arc<World>,
    rng: Rng,
    cursor_kind: CursorKind,
    /// Longest wait for a healthy step.
    usual_wait: Duration,
    read_up_to: Option<(u64, Snapshot, u64)>,
}

#[async_trait]
impl Feed for ModelFeed {
    async fn read(&mut self, timeout: Duration) -> Result<FeedBatch, StoreError> {
        let is_calm = self.world.is_calm();
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

    async fn read_clients(&mut self, _: Duration) -> Result<ClientSet, StoreError> {
        Ok(ClientSet::default())
    }

    fn request_full_reload(&mut self) {
        self.read_up_to = None;
    }
}

impl ModelFeed {
    pub(super) fn new(
        world: &Arc<World>,
        rng: Rng,
        usual_wait: Duration,
        kind: CursorKind,
    ) -> Self {
        let world = Arc::clone(world);
        Self { world, rng, cursor_kind: kind, usual_wait, read_up_to: None }
    }

    fn random_wait(&mut self, timeout: Duration, is_calm: bool) -> Duration {
        let longest = if is_calm || self.rng.u8(..4) > 0 { self.usual_wait } else { timeout };
        longest.mul_f64(self.rng.f64())
    }

    fn read_from(&self, database: &Database) -> (FeedBatch, (u64, Snapshot, u64)) {
        let seen = database.snapshot();
        let highest = database.rows.iter().map(|row| row.xid).max().unwrap_or(0);
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
        let rows = database.rows.iter().filter(|row| is_new(row.xid));
        let read_at = self.world.database_time();
        let entries = rows.map(|row| FeedEntry {
            revocation: revocation(row.number),
            xid: row.xid,
            revoked_at: read_at,
        });
        let is_full_reload = cursor.is_none();
        let (entries, version) = (entries.collect(), KeySet::default().version);
        let server = ServerId(database.server.to_be_bytes());
        let cursor = FeedCursor { server, snapshot: seen.clone() };
        let batch = FeedBatch { entries, read_at, version, is_full_reload, cursor };
        (batch, (database.server, seen, highest))
    }
}

/// Id that transaction `number` revokes.
pub(super) fn id(number: usize) -> RevocationId {
    Uuid::from_u128(number as u128).into()
}

/// Expiry of every token and revocation, by the clock of the database.
pub(super) fn expiry() -> OffsetDateTime {
    START + Duration::from_hours(1)
}

/// Revocation by transaction `number`.
pub(super) fn revocation(number: usize) -> Revocation {
    Revocation { id: id(number), expires_at: expiry() }
}
