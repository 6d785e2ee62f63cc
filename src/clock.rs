//! Time, passed in: whoever needs it is given a [`Clock`], so that tests can move it.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Counts on while the machine is suspended, which the clock behind `std::time::Instant` does not:
/// what was learnt before a laptop was closed, or a virtual machine paused, is old when it wakes.
#[cfg(target_os = "linux")]
const UPTIME: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const UPTIME: ClockId = ClockId::Monotonic;

/// Tells the time in both of its senses.
pub trait Clock: Send + Sync + 'static {
    /// Returns the time of day, for what leaves the process: tokens and rows. It can jump.
    fn now(&self) -> OffsetDateTime;

    /// Returns the time since some moment in the past, on a clock that never goes back and never
    /// stands still: for measuring how long something took, and how old something is.
    fn uptime(&self) -> Duration;
}

/// Writes a time as people and programs read it (RFC 3339), in whole seconds.
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
        // Neither part of an uptime is negative.
        clock_gettime(UPTIME).try_into().unwrap_or_default()
    }
}
