//! Simulation of the follower: the real follower and replica run in virtual time against a model of
//! the database. Its commits land in any order; its answers fail, stall or get lost; it crashes and
//! is replaced, and the process is frozen. The property is the bound of `docs/revocation.md`.
//!
//! A schedule is determined by its seed.

mod database;
mod feed;
mod host;
mod instance;
mod network;
mod protocol;
mod receiver;
mod receivers;

use std::future::pending;

use fastrand::Rng;
use tokio::runtime::Builder;
use tokio::time::{advance, sleep};

use super::*;
use crate::revocation::{Replica, Verdict};
use database::{BOUND, Database, LENGTH, Machine, POLL, TRANSACTIONS, World, id};
use feed::{CursorKind, ModelFeed};
use instance::Parts;

/// Checks tokens until the end, with freezes. Returns the first violation.
async fn check_tokens(
    world: &World,
    state: &SharedState,
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
            match state.replica.check([id(number), id(TRANSACTIONS)]) {
                Verdict::Clear if age > Some(BOUND) => {
                    return Err(format!("{number} is accepted {age:?} after its revocation"));
                }
                Verdict::Revoked if age.is_none() => {
                    return Err(format!("{number} is refused without a revocation"));
                }
                _ => {}
            }
        }
        if state.replica.is_fresh() {
            check_version(world, state)?;
        }
    }
    Ok(())
}

/// Checks that the keys and clients are those of the bound ago, or later ones.
fn check_version(world: &World, state: &SharedState) -> Result<(), String> {
    let least = world.read(|database| database.version_at(world.at().saturating_sub(BOUND)));
    let version = state.clients.load().version().min(state.tokens.ring().stored().version);
    if version >= least {
        return Ok(());
    }
    Err(format!("version {version} of the keys and clients is known, and {least} was committed"))
}

/// Checks that the replica is exact once the faults have passed.
async fn check_when_healthy(world: &World, replica: &Replica, room: bool) -> Result<(), String> {
    world.calm_down();
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
fn run(seed: u64, cursor_kind: CursorKind, parts: &Parts) -> Result<(), String> {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut rng = Rng::with_seed(seed);
        let world = Arc::new(World::new(Database::plan(&mut rng)));
        let booted_before = Duration::from_hours(1);
        let clock: Arc<dyn Clock> = Arc::new(Machine { world: Arc::clone(&world), booted_before });
        let room = rng.u8(..4) > 0;
        let capacity = if room { 1_000 } else { 10 };
        let replica = Arc::new(Replica::new(capacity, BOUND, Arc::clone(&clock)));
        let usual_wait = Duration::from_millis(4);
        let feed = ModelFeed::new(&world, rng.fork(), usual_wait, cursor_kind);
        let follower = parts.follower(feed, &replica, clock, rng.fork());
        let notified = Arc::clone(&follower.notified);
        let state = follower.state.clone();
        let following = async {
            follower.follow().await;
            pending().await
        };
        let checking = async {
            check_tokens(&world, &state, &notified, &mut rng).await?;
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
    let parts = Parts::new();
    seeds.into_iter().find_map(|seed| {
        run(seed, cursor_kind, &parts).err().map(|violation| format!("seed {seed}: {violation}"))
    })
}

#[test]
fn no_schedule_violates_the_bound() {
    assert_eq!(first_violation(CursorKind::Snapshot, 0..3_000), None);
}

#[test]
fn wrong_cursors_are_detected() {
    for cursor_kind in [
        CursorKind::Serial,
        CursorKind::EndOfSnapshot,
        CursorKind::Hasty,
        CursorKind::Trusting,
        CursorKind::SameAfterRecovery,
    ] {
        assert!(first_violation(cursor_kind, 0..300).is_some(), "{cursor_kind:?} was not detected");
    }
}
