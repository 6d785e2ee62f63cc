//! Clock. It is passed to all code that needs the time, so that tests can move it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
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

    /// Returns the processor time that the calling thread has used.
    fn thread_time(&self) -> Duration {
        clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
    }
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

/// Clock of the database, carried forward by the uptime of this machine.
///
/// All instances agree on it, and the host's time of day has no influence: it may be wrong, jump,
/// be set back or stand still during a suspension.
pub struct DatabaseClock {
    host: Arc<dyn Clock>,
    /// Database time minus uptime, in nanoseconds; [`NOT_SYNCHRONIZED`] before the first read.
    offset: AtomicI64,
}

const NOT_SYNCHRONIZED: i64 = i64::MIN;

impl DatabaseClock {
    /// Creates a clock that shows the host's time until it is synchronized.
    #[must_use]
    pub fn new(host: Arc<dyn Clock>) -> Self {
        Self { host, offset: AtomicI64::new(NOT_SYNCHRONIZED) }
    }

    /// Sets the clock. The database showed `database_time` at the given uptime.
    pub fn synchronize(&self, database_time: OffsetDateTime, uptime: Duration) {
        let offset = database_time.unix_timestamp_nanos() - to_nanos(uptime);
        self.offset.store(i64::try_from(offset).unwrap_or(NOT_SYNCHRONIZED), Ordering::Relaxed);
    }

    /// Returns the host's time of day minus the database's, in seconds.
    #[must_use]
    pub fn skew_of_host(&self) -> f64 {
        (self.host.now() - self.now()).as_seconds_f64()
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> OffsetDateTime {
        let offset = self.offset.load(Ordering::Relaxed);
        if offset == NOT_SYNCHRONIZED {
            return self.host.now();
        }
        let nanos = to_nanos(self.uptime()) + i128::from(offset);
        OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or_else(|_| self.host.now())
    }

    fn uptime(&self) -> Duration {
        self.host.uptime()
    }
}

fn to_nanos(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use time::macros::datetime;

    use super::*;

    const DATABASE_TIME: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

    struct Host(Mutex<(OffsetDateTime, Duration)>);

    impl Clock for Host {
        fn now(&self) -> OffsetDateTime {
            self.0.lock().unwrap().0
        }

        fn uptime(&self) -> Duration {
            self.0.lock().unwrap().1
        }
    }

    #[test]
    fn time_of_day_of_the_host_does_not_matter() {
        let wrong_time = DATABASE_TIME - Duration::from_mins(70);
        let host = Arc::new(Host(Mutex::new((wrong_time, Duration::from_secs(100)))));
        let clock = DatabaseClock::new(Arc::clone(&host) as _);
        assert_eq!(clock.now(), wrong_time, "before the first read there is nothing else");

        clock.synchronize(DATABASE_TIME, Duration::from_secs(99));
        assert_eq!(clock.now(), DATABASE_TIME + Duration::from_secs(1));

        for jumped in [wrong_time - Duration::from_hours(1), DATABASE_TIME] {
            *host.0.lock().unwrap() = (jumped, Duration::from_secs(109));
            assert_eq!(clock.now(), DATABASE_TIME + Duration::from_secs(10));
        }
        assert!((clock.skew_of_host() + 10.0).abs() < f64::EPSILON);
    }
}
