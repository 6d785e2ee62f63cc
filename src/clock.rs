//! Time, passed in: whoever needs it is given a [`Clock`], so that tests can move it.

use std::time::{Instant, SystemTime};

use time::OffsetDateTime;

/// Tells the time in both of its senses.
pub trait Clock: Send + Sync + 'static {
    /// Returns the time of day, for what leaves the process: tokens and rows. It can jump.
    fn now(&self) -> OffsetDateTime;

    /// Returns a moment on a clock that never goes back, for measuring how long something took.
    fn instant(&self) -> Instant;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

#[expect(clippy::disallowed_methods, reason = "this is the clock that is passed in")]
impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        SystemTime::now().into()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}
