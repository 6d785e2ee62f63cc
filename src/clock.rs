//! Clock. It is passed to all code that needs the time, so that tests can move it.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Source of [`Clock::uptime`]. Unlike the clock behind `std::time::Instant`, it advances while the
/// machine is suspended. Otherwise, data read before a suspension would seem fresh after it.
#[cfg(target_os = "linux")]
const UPTIME: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const UPTIME: ClockId = ClockId::Monotonic;

/// Wall clock and monotonic clock.
pub trait Clock: Send + Sync + 'static {
    /// Returns the wall-clock time, for tokens and rows. It can jump.
    fn now(&self) -> OffsetDateTime;

    /// Returns the time since an arbitrary start, for durations and ages. It never goes back and
    /// never stands still.
    fn uptime(&self) -> Duration;
}

/// Formats a time as RFC 3339, in whole seconds.
#[must_use]
pub fn timestamp(time: OffsetDateTime) -> String {
    let seconds = time.replace_nanosecond(0).unwrap_or(time);
    seconds.format(&Rfc3339).unwrap_or_default()
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

#[expect(clippy::disallowed_methods, reason = "this is the clock that is passed in")]
impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        SystemTime::now().into()
    }

    fn uptime(&self) -> Duration {
        // The conversion fails only on a negative value, and an uptime is not negative.
        clock_gettime(UPTIME).try_into().unwrap_or_default()
    }
}
