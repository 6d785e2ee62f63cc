//! Executable model of a receiver, as `docs/write-a-verifier.md` specifies it: what a verifier does to
//! follow the feed. Its steps are separated by pauses, in which its process is held up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use time::OffsetDateTime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};

use super::database::{World, expiry, id};
use super::host::{Host, Stamp};
use super::network::Network;
use super::protocol::{Design, RECEIVER_BOUND, Reply, Request};
use crate::domain::{CLOCK_SKEW_ALLOWANCE, FeedCursor, MAX_LEEWAY, RevocationId};
use crate::revocation::Verdict;

/// Longest wait in a request: a quarter of the bound.
const WAIT: Duration = RECEIVER_BOUND.checked_div(4).unwrap();

/// Time after which a request is given up.
const DEADLINE: Duration = WAIT.saturating_add(Duration::from_secs(1));

/// Largest step back of the wall clock that does not matter.
const OVERLOOKED_STEP: Duration = Duration::from_secs(1);

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
    known: Option<Arc<Known>>,
}

/// Moment up to which every commit is known.
struct Known {
    until: Stamp,
    /// Set when it is noted, or by the first check that finds it too old, for good: a clock can be set back
    /// afterwards.
    is_outdated: AtomicBool,
}

/// Revocation.
#[derive(Clone, Copy)]
struct Entry {
    expires_at: i64,
    kept_until: Stamp,
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
        let mut sent_at = self.host.now();
        loop {
            self.pause().await;
            if !is_subscribed {
                nonce += 1;
                self.host.note_request(true);
                sent_at = self.host.now();
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
            self.host.note_request(false);
        }
    }

    fn request(&self, nonce: u64) -> Request {
        let state = self.state();
        Request { cursor: state.cursor.clone(), since: state.since, wait: WAIT, nonce }
    }

    /// Takes a reply: first the entries, then the cursor, then the freshness. What is interrupted in
    /// between is asked for again.
    async fn take(&self, sent_at: Stamp, reply: &Reply) {
        self.host.be_awake().await;
        let arrived_at = self.host.now();
        if self.design == Design::CursorFirst {
            self.adopt_cursor(reply);
        }
        for &(id, expires_at) in &reply.revoked {
            if self.pause().await {
                return;
            }
            self.apply(id, expires_at, reply.now, arrived_at);
        }
        if (sent_at.wall - reply.now).abs() > CLOCK_SKEW_ALLOWANCE || self.pause().await {
            return;
        }
        self.adopt_cursor(reply);
        self.pause().await;
        let counted_from = match self.design {
            Design::CountedFromArrival | Design::PushWithHeartbeats => arrived_at,
            _ => sent_at,
        };
        let age = time::Duration::milliseconds(reply.age_ms);
        // A negative age moves each clock by no more than it has advanced.
        self.vouch(Stamp {
            monotonic: (counted_from.monotonic - age)
                .min(counted_from.monotonic.max(arrived_at.monotonic)),
            wall: (counted_from.wall - age).min(counted_from.wall.max(arrived_at.wall)),
        });
    }

    /// Notes that everything before a moment is known, unless a later one is noted already. On two
    /// clocks, the later one is that from which less has elapsed.
    fn vouch(&self, until: Stamp) {
        let now = self.host.now();
        let mut state = self.state();
        let known = state.known.as_ref();
        if known.is_none_or(|known| self.elapsed(until, now) <= self.elapsed(known.until, now)) {
            // The machine may have been suspended since the request.
            let is_outdated =
                self.is_too_old(until, now) && self.design != Design::OutdatedWhenNoted;
            state.known = Some(Arc::new(Known { until, is_outdated: is_outdated.into() }));
        }
    }

    fn adopt_cursor(&self, reply: &Reply) {
        let mut state = self.state();
        state.cursor = Some(reply.cursor.clone());
        state.since = Some(reply.read_at);
    }

    /// Adds an entry, or lets it last longer.
    fn apply(&self, id: RevocationId, expires_at: i64, now: OffsetDateTime, arrived_at: Stamp) {
        let remaining = time::Duration::seconds(expires_at - now.unix_timestamp());
        // The time of the service is in whole seconds.
        let margin = CLOCK_SKEW_ALLOWANCE + MAX_LEEWAY + Duration::from_secs(1) + OVERLOOKED_STEP;
        let kept_until = Stamp {
            monotonic: arrived_at.monotonic + remaining + margin,
            wall: arrived_at.wall + remaining + margin,
        };
        let mut state = self.state();
        let entry = state.entries.entry(id).or_insert(Entry { expires_at, kept_until });
        entry.expires_at = entry.expires_at.max(expires_at);
        entry.kept_until.monotonic = entry.kept_until.monotonic.max(kept_until.monotonic);
        entry.kept_until.wall = entry.kept_until.wall.max(kept_until.wall);
    }

    /// Forgets what has expired, by the monotonic clock alone, which may be slow. An entry is never
    /// sent again, so it must not be forgotten because a clock was set forward.
    fn forget(&self) {
        let now = self.host.now();
        let time_of_day = (now.wall - CLOCK_SKEW_ALLOWANCE).unix_timestamp();
        self.state().entries.retain(|_, Entry { expires_at, kept_until }| match self.design {
            Design::ForgetByTimeOfDay => time_of_day <= *expires_at,
            Design::ForgetByElapsedTime => {
                now.monotonic <= kept_until.monotonic && now.wall <= kept_until.wall
            }
            _ => now.monotonic <= kept_until.monotonic,
        });
    }

    /// Verifies the token that transaction `number` revokes. Returns the verdict, and the time at
    /// which it was reached.
    pub(super) async fn verify(&self, number: usize) -> (Verdict, Duration) {
        self.host.be_awake().await;
        self.forget();
        let known = self.state().known.clone();
        self.pause().await;
        let is_revoked = self.state().entries.contains_key(&id(number));
        self.pause().await;
        let now = self.host.now();
        let is_fresh = known.as_ref().is_some_and(|known| self.is_fresh(known, now));
        // A check that was held up may have looked at what is known no more.
        if self.state().known.as_ref().map(Arc::as_ptr) == known.as_ref().map(Arc::as_ptr) {
            self.host.note_check();
        }
        let is_expired = now.wall > expiry() + MAX_LEEWAY;
        let verdict = if is_revoked {
            Verdict::Revoked
        } else if is_fresh && !is_expired {
            Verdict::Clear
        } else {
            Verdict::Unknown
        };
        (verdict, self.world.at())
    }

    /// Returns `true` if what is known is within the bound, and no check has found that it is not.
    fn is_fresh(&self, known: &Known, now: Stamp) -> bool {
        let is_too_old = self.is_too_old(known.until, now);
        let was_too_old = known.is_outdated.fetch_or(is_too_old, Ordering::SeqCst);
        !is_too_old && (!was_too_old || self.design == Design::OutdatedForgiven)
    }

    /// Returns `true` if a moment is beyond the bound, or the wall clock was set back since.
    fn is_too_old(&self, since: Stamp, now: Stamp) -> bool {
        let is_set_back = self.design != Design::MonotonicClockAlone
            && self.design != Design::WallClockAlone
            && now.wall - since.wall < now.monotonic - since.monotonic - OVERLOOKED_STEP;
        is_set_back || self.elapsed(since, now) > RECEIVER_BOUND
    }

    fn elapsed(&self, since: Stamp, now: Stamp) -> time::Duration {
        let (monotonic, wall) = (now.monotonic - since.monotonic, now.wall - since.wall);
        match self.design {
            Design::MonotonicClockAlone => monotonic,
            Design::WallClockAlone => wall,
            _ => monotonic.max(wall),
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
