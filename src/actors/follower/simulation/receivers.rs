//! Simulation of receivers: the model of a receiver follows several real instances through a network
//! with faults. The property is sentence 6 of `docs/revocation.md`: no receiver accepts a revoked
//! token later than its own bound after the commit. The same schedules must find out wrong designs.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::runtime::Builder;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{advance, sleep};

use super::database::{BOUND, Database, LENGTH, TRANSACTIONS, World};
use super::instance::{INSTANCES, Instance, Parts};
use super::network::Network;
use super::protocol::{Design, RECEIVER_BOUND};
use super::receiver::Receiver;
use crate::revocation::Verdict;

const RECEIVERS: usize = 3;

/// Starts a receiver with a network of its own.
fn start_receiver(
    world: &Arc<World>,
    instances: &[Arc<Instance>],
    design: Design,
    rng: &mut Rng,
) -> Arc<Receiver> {
    let (sender, inbox) = unbounded_channel();
    let network = Arc::new(Network {
        world: Arc::clone(world),
        instances: instances.to_vec(),
        design,
        inbox: sender,
        rng: Mutex::new(rng.fork()),
        old_replies: Mutex::default(),
    });
    let receiver = Arc::new(Receiver::new(world, design, rng.fork()));
    spawn_local(Arc::clone(&receiver).follow(network, inbox));
    receiver
}

/// Verifies tokens until the end. Returns the first violation.
async fn verify_tokens(world: &World, receiver: &Receiver, mut rng: Rng) -> Result<(), String> {
    while world.at() < LENGTH {
        sleep(Duration::from_millis(rng.u64(..200))).await;
        for _ in 0..8 {
            let number = rng.usize(..TRANSACTIONS);
            let (verdict, at) = receiver.verify(number).await;
            let committed_at = world.read(|database| database.committed_at(number));
            let age = committed_at.map(|committed_at| at.saturating_sub(committed_at));
            match verdict {
                Verdict::Clear if age > Some(RECEIVER_BOUND) => {
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

/// Freezes everything and notifies instances, now and then.
async fn disturb(instances: Vec<Arc<Instance>>, mut rng: Rng) {
    loop {
        sleep(Duration::from_millis(rng.u64(..300))).await;
        if rng.u8(..100) == 0 {
            advance(BOUND.mul_f64(3.0 * rng.f64())).await;
        }
        instances[rng.usize(..INSTANCES)].notify();
    }
}

/// Checks that a receiver is exact once the faults have passed.
async fn verify_when_healthy(world: &World, receiver: &Receiver) -> Result<(), String> {
    for number in 0..TRANSACTIONS {
        let is_revoked = world.read(|database| database.committed_at(number).is_some());
        match receiver.verify(number).await.0 {
            Verdict::Revoked if is_revoked => {}
            Verdict::Clear if !is_revoked => {}
            verdict => return Err(format!("{number} is {verdict:?} at the end")),
        }
    }
    Ok(())
}

/// Runs one schedule. Returns the first violation.
async fn run(seed: u64, design: Design, parts: Parts) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed);
    let world = Arc::new(World::new(Database::plan(&mut rng)));
    let new_instance = |number| Arc::new(Instance::new(number, &world, design, rng.fork(), &parts));
    let instances: Vec<_> = (0..INSTANCES).map(new_instance).collect();
    for instance in &instances {
        spawn_local(Arc::clone(instance).run());
    }
    let disturbing = spawn_local(disturb(instances.clone(), rng.fork()));
    let mut receivers = Vec::new();
    for _ in 0..RECEIVERS {
        receivers.push(start_receiver(&world, &instances, design, &mut rng));
    }
    let verifying: Vec<_> = receivers
        .iter()
        .map(|receiver| {
            let (world, receiver, rng) = (Arc::clone(&world), Arc::clone(receiver), rng.fork());
            spawn_local(async move { verify_tokens(&world, &receiver, rng).await })
        })
        .collect();
    for verified in verifying {
        verified.await.unwrap()?;
    }
    disturbing.abort();
    world.calm_down();
    sleep(6 * BOUND).await;
    for receiver in receivers {
        verify_when_healthy(&world, &receiver).await?;
    }
    Ok(())
}

/// Returns the violations of some schedules, with their seeds.
fn violations(design: Design, seeds: Range<u64>) -> impl Iterator<Item = String> {
    let parts = Parts::new();
    seeds.into_iter().filter_map(move |seed| {
        let mut runtime = Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        let schedule = run(seed, design, parts.clone());
        let violation = LocalSet::new().block_on(&runtime, schedule).err();
        violation.map(|violation| format!("seed {seed}: {violation}"))
    })
}

#[test]
fn no_schedule_violates_the_bound_of_a_receiver() {
    assert_eq!(violations(Design::Real, 0..300).next(), None);
}

macro_rules! wrong_designs {
    ($($name:ident: $design:ident;)*) => {$(
        #[test]
        fn $name() {
            let mut violations = violations(Design::$design, 0..10_000);
            assert!(violations.any(|violation| violation.contains("is accepted")));
        }
    )*};
}

wrong_designs! {
    time_stamp_cursor_is_detected: TimeStamp;
    cursors_compared_by_their_ends_are_detected: EndsOfSnapshot;
    cursor_of_another_server_is_detected: AnyServer;
    log_of_new_entries_only_is_detected: NewEntriesOnly;
    staleness_counted_from_the_arrival_is_detected: CountedFromArrival;
    push_stream_with_heartbeats_is_detected: PushWithHeartbeats;
    reply_without_a_nonce_is_detected: WithoutNonce;
    cursor_moved_before_the_entries_is_detected: CursorFirst;
    entries_forgotten_by_the_time_of_day_are_detected: ForgetByTimeOfDay;
    entries_forgotten_by_elapsed_time_are_detected: ForgetByElapsedTime;
    monotonic_clock_alone_is_detected: MonotonicClockAlone;
    wall_clock_alone_is_detected: WallClockAlone;
    outdated_knowledge_that_counts_again_is_detected: OutdatedForgiven;
    knowledge_outdated_when_noted_is_detected: OutdatedWhenNoted;
    server_that_is_the_same_after_its_recovery_is_detected: SameAfterRecovery;
    read_that_failed_at_the_keys_is_detected: HalfRead;
}
