use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portcullis::clock::{Clock, SystemClock};
use time::OffsetDateTime;

/// A clock that a test can move ahead of the system clock.
#[derive(Default)]
pub struct ManualClock {
    ahead_secs: AtomicU64,
}

impl ManualClock {
    pub fn advance(&self, by: Duration) {
        self.ahead_secs.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    fn ahead(&self) -> Duration {
        Duration::from_secs(self.ahead_secs.load(Ordering::SeqCst))
    }
}

/// Returns the time elapsed since an earlier value of the system's uptime.
pub fn elapsed_since(uptime: Duration) -> Duration {
    SystemClock.uptime().saturating_sub(uptime)
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() + self.ahead()
    }

    fn uptime(&self) -> Duration {
        SystemClock.uptime() + self.ahead()
    }
}
