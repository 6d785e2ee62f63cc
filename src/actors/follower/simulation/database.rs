//! Model of the database: its transactions overlap and land in any order, it crashes, and it is
//! replaced.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::{Revocation, RevocationId, Snapshot};

pub(super) const BOUND: Duration = Duration::from_secs(5);
pub(super) const POLL: Duration = Duration::from_secs(1);
pub(super) const LENGTH: Duration = Duration::from_mins(1);
pub(super) const TRANSACTIONS: usize = 60;
/// Time of the database at the start of a schedule.
const START: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

#[derive(Clone, Copy)]
enum Event {
    Begin(usize),
    Commit(usize),
    Abort(usize),
    /// The server is replaced by one restored from a dump, with new transaction numbers.
    Restore,
    /// A backend crashes. The transactions in progress are lost. Their ids are assigned again, and
    /// those of transactions that have failed before.
    Recover,
}

/// Model of the database, which carries out its plan as time passes. Transaction `n` revokes the id
/// `n`.
pub(super) struct Database {
    plan: VecDeque<(Duration, Event)>,
    pub(super) server: Server,
    next_xid: u64,
    /// Lowest transaction number that is assigned after a crash.
    durable_xid: u64,
    /// Transactions in progress: their xid, and when they began.
    running: BTreeMap<usize, (u64, Duration)>,
    rows: Vec<Row>,
}

/// Identity of the server.
#[derive(Clone, Copy, Default, PartialEq)]
pub(super) struct Server {
    pub(super) restores: u32,
    /// Recoveries from a crash.
    pub(super) recoveries: u32,
}

/// Committed revocation by transaction `number`.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub(super) number: usize,
    pub(super) xid: u64,
    pub(super) begun_at: Duration,
    pub(super) committed_at: Duration,
}

impl Database {
    pub(super) fn plan(rng: &mut Rng) -> Self {
        let mut plan = Vec::new();
        let recovers_at = (rng.u8(..3) == 0).then(|| LENGTH.mul_f64(rng.f64()));
        plan.extend(recovers_at.map(|at| (at, Event::Recover)));
        for number in 0..TRANSACTIONS {
            let mut begins_at = LENGTH.mul_f64(rng.f64());
            // Most transactions are short; some stay open for long.
            let longest = if rng.u8(..8) == 0 { LENGTH } else { POLL };
            let mut ends_at = LENGTH.min(begins_at + longest.mul_f64(rng.f64()));
            let mut end = if rng.u8(..6) == 0 { Event::Abort } else { Event::Commit };
            // Before a crash some transactions fail; after it they are tried again.
            if let Some(at) = recovers_at
                && number % 3 == 0
            {
                let is_retry = number % 2 == 0;
                let delay = POLL.mul_f64(rng.f64());
                begins_at = if is_retry { at + delay / 2 } else { at.saturating_sub(delay) };
                ends_at = begins_at + (POLL / 8).mul_f64(rng.f64());
                end = if is_retry { Event::Commit } else { Event::Abort };
            }
            plan.extend([(begins_at, Event::Begin(number)), (ends_at, end(number))]);
        }
        if rng.bool() {
            plan.push((LENGTH.mul_f64(rng.f64()), Event::Restore));
        }
        plan.sort_by_key(|(at, _)| *at);
        Self {
            plan: plan.into(),
            server: Server::default(),
            next_xid: 700,
            durable_xid: 700,
            running: BTreeMap::new(),
            rows: Vec::new(),
        }
    }

    fn catch_up(&mut self, now: Duration) {
        while let Some((at, event)) = self.plan.pop_front_if(|(at, _)| *at <= now) {
            match event {
                Event::Begin(number) => {
                    self.running.insert(number, (self.next_xid, at));
                    self.next_xid += 1;
                }
                Event::Commit(number) => self.commit(number, at),
                Event::Abort(number) => drop(self.running.remove(&number)),
                Event::Restore => {
                    self.server.restores += 1;
                    self.next_xid = if at.as_millis() % 2 == 0 { 690 } else { 100_000 };
                    self.durable_xid = self.next_xid;
                    self.running.clear();
                }
                Event::Recover => {
                    self.server.recoveries += 1;
                    self.next_xid = self.durable_xid;
                    self.running.clear();
                }
            }
        }
    }

    fn commit(&mut self, number: usize, committed_at: Duration) {
        if let Some((xid, begun_at)) = self.running.remove(&number) {
            self.durable_xid = self.durable_xid.max(xid + 1);
            self.rows.push(Row { number, xid, begun_at, committed_at });
        }
    }

    /// Returns the rows in the order of their commits.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn committed_at(&self, number: usize) -> Option<Duration> {
        self.rows.iter().find(|row| row.number == number).map(|row| row.committed_at)
    }

    /// Returns the version of the shared state after all commits up to a time. One transaction in six
    /// raises it.
    pub(super) fn version_at(&self, time: Duration) -> i64 {
        let raises = |row: &&Row| row.number % 6 == 1 && row.committed_at <= time;
        self.rows.iter().filter(raises).count().try_into().unwrap()
    }

    pub(super) fn snapshot(&self) -> Snapshot {
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
