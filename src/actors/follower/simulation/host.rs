//! Model of the machine of a receiver: it is suspended, and its wall clock is set.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use time::OffsetDateTime;
use tokio::time::sleep;

use super::database::{BOUND, LENGTH, World};

/// Moment on both clocks of a machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) monotonic: time::Duration,
    pub(super) wall: OffsetDateTime,
}

/// Machine of a receiver.
pub(super) struct Host {
    world: Arc<World>,
    /// Beginnings and ends.
    suspensions: Vec<(Duration, Duration)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Times at which the wall clock is set, the next one last, and by how many seconds it is wrong
    /// from then on.
    settings: Vec<(Duration, i64)>,
    wrong_by: i64,
    /// Time of the latest look at the clocks that ended a check.
    checked_at: Duration,
    /// Time of the latest request, until it is answered or given up.
    asked_at: Option<Duration>,
}

impl Host {
    /// Creates a machine that is suspended, or whose wall clock is set, or both: then the wall clock is
    /// set back after a suspension by as much as that took.
    pub(super) fn new(world: &Arc<World>, rng: &mut Rng) -> Self {
        let mut suspensions = Vec::new();
        let mut settings = Vec::new();
        let mut at = LENGTH.mul_f64(rng.f64() / 4.0);
        let kind = rng.u8(..4);
        while at < LENGTH {
            let length = (3 * BOUND).mul_f64(rng.f64());
            let end = at + length;
            if kind < 3 {
                suspensions.push((at, end));
            }
            if kind == 2 {
                let hidden = i64::try_from(length.as_secs()).unwrap();
                settings.push((end + BOUND.mul_f64(rng.f64()), -hidden));
            }
            if kind == 3 {
                let hours = 3_600 * rng.i64(-2..=2);
                settings.extend([(at, hours + rng.i64(-299..300)), (end, 0)]);
            }
            at = end + LENGTH.mul_f64(rng.f64() / 2.0);
        }
        settings.reverse();
        let state = Mutex::new(State { settings, ..State::default() });
        Self { world: Arc::clone(world), suspensions, state }
    }

    /// Waits for the end of a suspension.
    pub(super) async fn be_awake(&self) {
        let now = self.world.at();
        let current = self.suspensions.iter().find(|(start, end)| (*start..*end).contains(&now));
        if let Some((_, end)) = current {
            sleep(end.saturating_sub(now)).await;
        }
    }

    /// Reads the clocks. The monotonic one stops while the machine is suspended.
    pub(super) fn now(&self) -> Stamp {
        let now = self.world.at();
        let suspended =
            |(start, end): &(Duration, Duration)| (*end).min(now).saturating_sub((*start).min(now));
        let awake = now.saturating_sub(self.suspensions.iter().map(suspended).sum());
        let mut state = self.state.lock().unwrap();
        let woke_at = self.suspensions.iter().rfind(|(_, end)| *end <= now);
        let woke_at = woke_at.map_or(Duration::ZERO, |(_, end)| *end);
        if self.world.is_calm() || state.may_set_clock(woke_at) {
            state.set_clock(now);
        }
        let wrong_by = time::Duration::seconds(state.wrong_by);
        let wall = self.world.database_time() + wrong_by;
        Stamp { monotonic: awake.try_into().unwrap(), wall }
    }

    /// Notes that a check looked at the clocks.
    pub(super) fn note_check(&self) {
        self.state.lock().unwrap().checked_at = self.world.at();
    }

    /// Notes that a request begins or, with `false`, that it is answered or given up.
    pub(super) fn note_request(&self, begins: bool) {
        self.state.lock().unwrap().asked_at = begins.then(|| self.world.at());
    }
}

impl State {
    /// Returns `false` between a suspension and the next check, and during a request that began before
    /// the suspension. `docs/revocation.md` assumes that the wall clock is not set back then.
    fn may_set_clock(&self, woke_at: Duration) -> bool {
        self.checked_at >= woke_at && self.asked_at.is_none_or(|at| at >= woke_at)
    }

    /// Sets the wall clock if it is time.
    fn set_clock(&mut self, now: Duration) {
        while let Some((_, wrong_by)) = self.settings.pop_if(|(at, _)| *at <= now) {
            self.wrong_by = wrong_by;
        }
    }
}
