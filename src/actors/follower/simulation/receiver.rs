//! Executable model of a receiver, as `docs/revocation.md` specifies it: what a verifier does to
//! follow the feed. Its steps are separated by pauses, in which its process is held up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use time::OffsetDateTime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};

use super::database::{BOUND, LENGTH, World, expiry, id};
use super::network::Network;
use super::protocol::{Design, RECEIVER_BOUND, Reply, Request};
use crate::domain::{CLOCK_SKEW_ALLOWANCE, FeedCursor, MAX_LEEWAY, RevocationId};
use crate::revocation::Verdict;

/// Longest wait in a request: a quarter of the bound.
const WAIT: Duration = RECEIVER_BOUND.checked_div(4).unwrap();

/// Time after which a request is given up.
const DEADLINE: Duration = WAIT.saturating_add(Duration::from_secs(1));

/// Receiver, which follows the feed and verifies tokens.
pub(super) struct Receiver {
    world: Arc<World>,
    host: Host,
    design: Design,
    state: Mutex<State>,
    rng: Mutex<Rng>,
}

/// State of a receiver.
#[derive(Default)]
struct State {
    cursor: Option<FeedCursor>,
    since: Option<Duration>,
    entries: HashMap<RevocationId, Entry>,
    /// Elapsed time up to which every commit is known.
    known_until: Option<Duration>,
    /// Whether the time of day differs from that of the database by more than the allowance.
    is_clock_wrong: bool,
}

/// Revocation.
#[derive(Clone, Copy)]
struct Entry {
    expires_at: i64,
    /// Time on the clock of the design up to which the entry is kept.
    kept_until: Duration,
}

/// Machine of a receiver: it is suspended, or its time of day is set.
struct Host {
    world: Arc<World>,
    /// Beginnings and ends.
    suspensions: Vec<(Duration, Duration)>,
    /// Times at which the time of day is set, and by how many seconds it is wrong from then on.
    settings: Vec<(Duration, i64)>,
    /// Monotonic time and time of day at the latest look, and the time that had elapsed by then.
    latest: Mutex<(Duration, OffsetDateTime, Duration)>,
}

impl Host {
    /// Creates a machine. No machine is both suspended and set back.
    fn new(world: &Arc<World>, rng: &mut Rng) -> Self {
        let mut suspensions = Vec::new();
        let mut settings = Vec::new();
        let mut at = LENGTH.mul_f64(rng.f64() / 4.0);
        let is_suspended = rng.bool();
        while at < LENGTH {
            let end = at + (2 * BOUND + BOUND).mul_f64(rng.f64());
            if is_suspended {
                suspensions.push((at, end));
            } else {
                let hours = 3_600 * rng.i64(-2..=2);
                settings.extend([(at, hours + rng.i64(-299..300)), (end, 0)]);
            }
            at = end + LENGTH.mul_f64(rng.f64() / 2.0);
        }
        let latest = (Duration::ZERO, world.database_time(), Duration::from_hours(1));
        let latest = Mutex::new(latest);
        Self { world: Arc::clone(world), suspensions, settings, latest }
    }

    /// Waits for the end of a suspension.
    async fn be_awake(&self) {
        let now = self.world.at();
        let current = self.suspensions.iter().find(|(start, end)| (*start..*end).contains(&now));
        if let Some((_, end)) = current {
            sleep(end.saturating_sub(now)).await;
        }
    }

    /// Returns the time on a clock that stops while the machine is suspended.
    fn monotonic_time(&self) -> Duration {
        let now = self.world.at();
        let suspended =
            |(start, end): &(Duration, Duration)| (*end).min(now).saturating_sub((*start).min(now));
        now.saturating_sub(self.suspensions.iter().map(suspended).sum())
    }

    fn time_of_day(&self) -> OffsetDateTime {
        let now = self.world.at();
        let setting = self.settings.iter().rev().find(|(at, _)| *at <= now);
        let wrong_by = setting.map_or(0, |(_, seconds)| *seconds);
        self.world.database_time() + time::Duration::seconds(wrong_by)
    }

    /// Returns the elapsed time. It advances from look to look by the larger advance of both clocks.
    fn elapsed_time(&self) -> Duration {
        let (monotonic, time_of_day) = (self.monotonic_time(), self.time_of_day());
        let mut latest = self.latest.lock().unwrap();
        let by_day = Duration::try_from(time_of_day - latest.1).unwrap_or_default();
        let elapsed = latest.2 + by_day.max(monotonic.saturating_sub(latest.0));
        *latest = (monotonic, time_of_day, elapsed);
        elapsed
    }
}

impl Receiver {
    pub(super) fn new(world: &Arc<World>, design: Design, mut rng: Rng) -> Self {
        let host = Host::new(world, &mut rng);
        let (state, rng) = (Mutex::default(), Mutex::new(rng));
        Self { world: Arc::clone(world), host, design, state, rng }
    }

    /// Follows the feed, one request at a time.
    pub(super) async fn follow(
        self: Arc<Self>,
        network: Arc<Network>,
        mut inbox: UnboundedReceiver<(u64, Option<Reply>)>,
    ) {
        let mut is_subscribed = false;
        let mut nonce = 0;
        let mut sent_at = Duration::ZERO;
        loop {
            self.pause().await;
            if !is_subscribed {
                nonce += 1;
                sent_at = self.elapsed_time();
                self.pause().await;
                network.send(self.request(nonce));
            }
            let reply = timeout(DEADLINE, async {
                loop {
                    let (reply_nonce, reply) = inbox.recv().await?;
                    if reply_nonce == nonce || self.design == Design::WithoutNonce {
                        return reply;
                    }
                }
            });
            let reply = reply.await.ok().flatten();
            is_subscribed = self.design == Design::PushWithHeartbeats && reply.is_some();
            match reply {
                Some(reply) => self.take(sent_at, &reply).await,
                None => sleep(Duration::from_millis(self.random(1_000))).await,
            }
        }
    }

    fn request(&self, nonce: u64) -> Request {
        let state = self.state();
        Request { cursor: state.cursor.clone(), since: state.since, wait: WAIT, nonce }
    }

    /// Takes a reply: first the entries, then the cursor, then the freshness. What is interrupted in
    /// between is asked for again.
    async fn take(&self, sent_at: Duration, reply: &Reply) {
        self.host.be_awake().await;
        let arrived_at = self.elapsed_time();
        let wrong_by = (self.host.time_of_day() - reply.now).abs();
        self.state().is_clock_wrong = wrong_by > CLOCK_SKEW_ALLOWANCE;
        if self.design == Design::CursorFirst {
            self.adopt_cursor(reply);
        }
        for &(id, expires_at) in &reply.revoked {
            if self.pause().await {
                return;
            }
            self.apply(id, expires_at, reply.now);
        }
        if self.pause().await {
            return;
        }
        self.adopt_cursor(reply);
        self.pause().await;
        let counted_from = match self.design {
            Design::CountedFromArrival | Design::PushWithHeartbeats => arrived_at,
            _ => sent_at,
        };
        let age = Duration::from_millis(reply.age_ms.unsigned_abs());
        let known_until =
            if reply.age_ms < 0 { counted_from + age } else { counted_from.saturating_sub(age) };
        let mut state = self.state();
        state.known_until = state.known_until.max(Some(known_until));
    }

    fn adopt_cursor(&self, reply: &Reply) {
        let mut state = self.state();
        state.cursor = Some(reply.cursor.clone());
        state.since = Some(reply.read_at);
    }

    /// Adds an entry, or lets it last longer.
    fn apply(&self, id: RevocationId, expires_at: i64, now: OffsetDateTime) {
        let remaining = expires_at - now.unix_timestamp();
        let remaining = Duration::from_secs(remaining.try_into().unwrap_or_default());
        let kept_until = self.time_for_entries() + remaining + CLOCK_SKEW_ALLOWANCE + MAX_LEEWAY;
        let mut state = self.state();
        let entry = state.entries.entry(id).or_insert(Entry { expires_at, kept_until });
        entry.expires_at = entry.expires_at.max(expires_at);
        entry.kept_until = entry.kept_until.max(kept_until);
    }

    /// Forgets what has expired.
    fn forget(&self) {
        let now = self.time_for_entries();
        let time_of_day = (self.host.time_of_day() - CLOCK_SKEW_ALLOWANCE).unix_timestamp();
        let by_time_of_day = self.design == Design::ForgetByTimeOfDay;
        self.state().entries.retain(|_, entry| {
            if by_time_of_day { time_of_day <= entry.expires_at } else { now <= entry.kept_until }
        });
    }

    /// Verifies the token that transaction `number` revokes. Returns the verdict, and the time at
    /// which it was reached.
    pub(super) async fn verify(&self, number: usize) -> (Verdict, Duration) {
        self.host.be_awake().await;
        self.forget();
        let known_until = self.state().known_until;
        self.pause().await;
        let is_revoked = self.state().entries.contains_key(&id(number));
        self.pause().await;
        let is_expired = self.host.time_of_day() > expiry() + MAX_LEEWAY;
        let is_clock_wrong = self.state().is_clock_wrong;
        let is_fresh = known_until
            .is_some_and(|known_until| self.elapsed_time() <= known_until + RECEIVER_BOUND);
        let verdict = if is_revoked {
            Verdict::Revoked
        } else if is_fresh && !is_clock_wrong && !is_expired {
            Verdict::Clear
        } else {
            Verdict::Unknown
        };
        (verdict, self.world.at())
    }

    fn elapsed_time(&self) -> Duration {
        match self.design {
            Design::MonotonicClockAlone => Duration::from_hours(1) + self.host.monotonic_time(),
            _ => self.host.elapsed_time(),
        }
    }

    /// Returns the time by which entries are kept: the monotonic clock alone, which may be slow. An
    /// entry is never sent again, so it must not be forgotten because a clock was set forward.
    fn time_for_entries(&self) -> Duration {
        match self.design {
            Design::ForgetByElapsedTime => self.elapsed_time(),
            _ => self.host.monotonic_time(),
        }
    }

    /// Is held up sometimes. Returns `true` if what it does is interrupted as well.
    async fn pause(&self) -> bool {
        let is_calm = self.world.is_calm();
        if !is_calm && self.random(40) == 0 {
            sleep(Duration::from_millis(self.random(15_000))).await;
        }
        self.host.be_awake().await;
        !is_calm && self.random(20) == 0
    }

    fn random(&self, end: u64) -> u64 {
        self.rng.lock().unwrap().u64(..end)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}
