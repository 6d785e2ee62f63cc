//! [`FeedLimits`]: how often, and how much, an instance sends to the receivers of the feed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use crate::clock::Clock;
use crate::config::RevocationSettings;
use crate::http::error::ApiError;

/// Shortest time between two replies with revocations to a receiver, and shortest wait before a
/// reply without any.
pub(super) const PACE: Duration = Duration::from_millis(200);

/// Bytes that a small reply counts for: at most 2,048 replies a second are complete.
const SMALLEST: u32 = 64 * 1024;

/// Number of seconds of the rate that can be taken at once, for a fleet of receivers that starts.
const BURST_SECS: u32 = 8;

/// Least time after which a receiver beyond the burst tries again.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);

/// Limits on the replies of this instance to all receivers together.
pub struct FeedLimits {
    clock: Arc<dyn Clock>,
    /// Bytes a second of complete and of long replies.
    rate: f64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Uptime of the latest release.
    released_at: Duration,
    /// Bytes that were taken and have not come back yet.
    used: f64,
    /// Uptime at which `used` was computed.
    updated_at: Duration,
}

impl FeedLimits {
    /// Creates the limits. No release and no reply counts yet.
    #[must_use]
    pub fn new(settings: RevocationSettings, clock: &Arc<dyn Clock>) -> Self {
        let rate = f64::from(settings.receiver_rate.max(1));
        Self { clock: Arc::clone(clock), rate, state: Mutex::default() }
    }

    /// Waits for the first release after the arrival of a request. There is one at once if the latest
    /// is [`PACE`] ago. So a connection gets at most one reply in this time.
    pub(super) async fn wait_for_release(&self, arrived_at: Duration) {
        while let Some(delay) = self.time_until_release(arrived_at) {
            sleep(delay).await;
        }
    }

    /// Returns the time until the next release, or `None` if there is one after the arrival.
    fn time_until_release(&self, arrived_at: Duration) -> Option<Duration> {
        let mut state = self.state();
        if arrived_at < state.released_at {
            return None;
        }
        let now = self.clock.uptime();
        let delay = (state.released_at + PACE).checked_sub(now).filter(|delay| !delay.is_zero());
        if delay.is_none() {
            state.released_at = now;
        }
        delay
    }

    /// Takes the bytes of a complete or long reply. They come back as time passes.
    ///
    /// # Errors
    /// Returns [`ApiError::Overloaded`] beyond the burst.
    pub(super) fn spend(&self, bytes: u32) -> Result<(), ApiError> {
        let burst = self.rate * f64::from(BURST_SECS);
        let mut state = self.state();
        let now = self.clock.uptime();
        let regained = now.saturating_sub(state.updated_at).as_secs_f64() * self.rate;
        state.updated_at = now;
        state.used = (state.used - regained).max(0.0);
        if state.used >= burst {
            let until_burst = Duration::from_secs_f64((state.used - burst) / self.rate);
            return Err(ApiError::Overloaded { retry_after: until_burst + SHORTEST_RETRY });
        }
        state.used += f64::from(bytes.max(SMALLEST));
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
