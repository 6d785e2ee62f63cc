//! The promise under every schedule that chance can think of: the real follower and the real replica,
//! in virtual time, against a model of the database whose commits land in any order, whose answers
//! fail, stall or get lost, and which is replaced; while the process itself is frozen now and then.
//!
//! Each schedule follows from its seed alone.

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
use crate::domain::{Revocation, RevocationId};
use crate::revocation::Verdict;
use crate::store::{Entry, Snapshot};

const BOUND: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_secs(1);
const LENGTH: Duration = Duration::from_mins(1);
const TRANSACTIONS: usize = 60;
const READ_AT: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

/// How the feed of a schedule remembers what it has read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Memory {
    /// By the snapshot: as the real one does.
    Snapshot,
    /// Wrong: by the highest number it has read, as one would with a serial column.
    Serial,
    /// Wrong: by the end of the snapshot, forgetting who was still at work.
    EndOfSnapshot,
    /// Wrong: also when the answer is then lost.
    Hasty,
    /// Wrong: without noticing that the database is another one.
    Trusting,
}

#[derive(Clone, Copy)]
enum Event {
    Begin(usize),
    Commit(usize),
    Abort(usize),
    /// The server is replaced by one restored from a dump, which numbers its transactions anew.
    Restore,
}

/// What a database has come to when everything planned up to now has happened. The transaction `n`
/// revokes the id `n`.
struct Database {
    plan: VecDeque<(Duration, Event)>,
    server: u64,
    next_xid: u64,
    running: BTreeMap<usize, u64>,
    /// What is committed: number of the transaction, its `xid`, when.
    rows: Vec<(usize, u64, Duration)>,
}

impl Database {
    fn plan(rng: &mut Rng) -> Self {
        let mut plan = Vec::new();
        for number in 0..TRANSACTIONS {
            let begins_at = LENGTH.mul_f64(rng.f64());
            // Most are quick; some stay open for long.
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
        let in_progress: Vec<u64> = self.running.values().copied().collect();
        let xmin = in_progress.iter().min().unwrap_or(&self.next_xid);
        let list: Vec<_> = in_progress.iter().map(u64::to_string).collect();
        format!("{xmin}:{}:{}", self.next_xid, list.join(",")).parse().unwrap()
    }
}

/// The machine that a schedule runs on.
struct World {
    database: Mutex<Database>,
    began_at: Instant,
    is_calm: Mutex<bool>,
}

impl World {
    fn at(&self) -> Duration {
        self.began_at.elapsed()
    }

    /// Lets everything happen that should have, and looks.
    fn see<T>(&self, look: impl FnOnce(&Database) -> T) -> T {
        let mut database = self.database.lock().unwrap();
        database.catch_up(self.at());
        look(&database)
    }
}

impl Clock for World {
    fn now(&self) -> OffsetDateTime {
        // The time of day must not matter.
        OffsetDateTime::UNIX_EPOCH
    }

    fn uptime(&self) -> Duration {
        Duration::from_hours(1) + self.at()
    }
}

struct ModelFeed {
    world: Arc<World>,
    rng: Rng,
    memory: Memory,
    read_up_to: Option<(u64, Snapshot, u64)>,
}

#[async_trait]
impl Feed for ModelFeed {
    async fn read(&mut self, patience: Duration) -> Result<News, StoreError> {
        let is_calm = *self.world.is_calm.lock().unwrap();
        let fate = if is_calm { 9 } else { self.rng.u8(..12) };
        sleep(self.any_wait(patience, is_calm)).await;
        if fate == 0 {
            return Err(StoreError::Replica);
        }
        let (news, end) = self.world.see(|database| self.read_from(database));
        if self.memory == Memory::Hasty {
            self.read_up_to = Some(end.clone());
        }
        // Each part of the answer comes in time, all of it may take long.
        for _ in 0..self.rng.u8(1..4) {
            sleep(self.any_wait(patience, is_calm)).await;
        }
        if fate == 1 {
            sleep(patience).await;
            return Err(StoreError::Silent(patience));
        }
        self.read_up_to = Some(end);
        Ok(news)
    }

    fn rewind(&mut self) {
        self.read_up_to = None;
    }
}

impl ModelFeed {
    fn any_wait(&mut self, patience: Duration, is_calm: bool) -> Duration {
        let most =
            if is_calm || self.rng.u8(..4) > 0 { Duration::from_millis(4) } else { patience };
        most.mul_f64(self.rng.f64())
    }

    fn read_from(&self, database: &Database) -> (News, (u64, Snapshot, u64)) {
        let seen = database.snapshot();
        let highest = database.rows.iter().map(|row| row.1).max().unwrap_or(0);
        let cursor = self.read_up_to.as_ref().filter(|(server, before, _)| {
            self.memory == Memory::Trusting
                || (*server == database.server && seen.may_follow(before))
        });
        let is_new = |xid: u64| match (cursor, self.memory) {
            (None, _) => true,
            (Some((_, _, highest)), Memory::Serial) => xid > *highest,
            (Some((_, before, _)), Memory::EndOfSnapshot) => !before.ended_before(xid),
            (Some((_, before, _)), _) => !before.sees(xid),
        };
        let rows = database.rows.iter().filter(|row| is_new(row.1));
        let entries = rows.map(|row| Entry { revocation: revocation(row.0), revoked_at: READ_AT });
        let is_whole = cursor.is_none();
        let news = News { entries: entries.collect(), read_at: READ_AT, is_whole };
        (news, (database.server, seen, highest))
    }
}

fn id(number: usize) -> RevocationId {
    Uuid::from_u128(number as u128).into()
}

fn revocation(number: usize) -> Revocation {
    Revocation { id: id(number), expires_at: READ_AT + Duration::from_hours(1) }
}

/// Checks tokens until the end, freezing now and then; returns what was against the promise.
async fn check_tokens(
    world: &World,
    replica: &Replica,
    hint: &Notify,
    rng: &mut Rng,
) -> Result<(), String> {
    while world.at() < LENGTH {
        match rng.u8(..40) {
            0 => advance(BOUND.mul_f64(3.0 * rng.f64())).await,
            1..10 => hint.notify_one(),
            _ => sleep(POLL.mul_f64(rng.f64())).await,
        }
        for _ in 0..8 {
            let number = rng.usize(..TRANSACTIONS);
            let committed_at = world.see(|database| database.committed_at(number));
            let age = committed_at.map(|at| world.at().saturating_sub(at));
            match replica.check([id(number), id(TRANSACTIONS)]) {
                Verdict::Clear if age > Some(BOUND) => {
                    return Err(format!("{number} is accepted {age:?} after its revocation"));
                }
                Verdict::Revoked if age.is_none() => {
                    return Err(format!("{number} is refused and was never revoked"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// When the faults have passed, everything is as it should be, whatever went before.
async fn check_when_healthy(world: &World, replica: &Replica, room: bool) -> Result<(), String> {
    *world.is_calm.lock().unwrap() = true;
    sleep(4 * BOUND).await;
    for number in 0..=TRANSACTIONS {
        let is_revoked = world.see(|database| database.committed_at(number).is_some());
        match replica.check([id(number), id(TRANSACTIONS)]) {
            Verdict::Revoked if is_revoked => {}
            Verdict::Clear if !is_revoked => {}
            Verdict::Unknown if !room => {}
            verdict => return Err(format!("{number} is {verdict:?} in the end")),
        }
    }
    Ok(())
}

/// Runs one schedule; returns what was against the promise.
fn run(seed: u64, memory: Memory, metrics: &Arc<Metrics>) -> Result<(), String> {
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
            ModelFeed { world: Arc::clone(&world), rng: rng.fork(), memory, read_up_to: None };
        let follower = Follower {
            feed: Box::new(feed),
            replica: Arc::clone(&replica),
            hint: Arc::new(Notify::new()),
            settings,
            clock,
            metrics: Arc::clone(metrics),
            backoff: Backoff::new(rng.fork()),
        };
        let hint = Arc::clone(&follower.hint);
        let following = async {
            follower.follow().await;
            pending().await
        };
        let checking = async {
            check_tokens(&world, &replica, &hint, &mut rng).await?;
            check_when_healthy(&world, &replica, room).await
        };
        select! {
            outcome = checking => outcome,
            outcome = following => outcome,
        }
    })
}

/// Returns the first of some schedules that is against the promise.
fn first_failure(memory: Memory, seeds: std::ops::Range<u64>) -> Option<String> {
    let metrics = Arc::new(Metrics::new().unwrap());
    seeds.into_iter().find_map(|seed| {
        run(seed, memory, &metrics).err().map(|failure| format!("seed {seed}: {failure}"))
    })
}

#[test]
fn no_schedule_accepts_a_revoked_token_beyond_the_bound_or_refuses_a_valid_one() {
    assert_eq!(first_failure(Memory::Snapshot, 0..3_000), None);
}

#[test]
fn a_feed_that_remembers_wrongly_is_found_out() {
    for memory in [Memory::Serial, Memory::EndOfSnapshot, Memory::Hasty, Memory::Trusting] {
        assert!(first_failure(memory, 0..300).is_some(), "{memory:?} was not noticed");
    }
}
