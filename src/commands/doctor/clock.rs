//! Checks of the clocks of the host and the database, and of the time between them.

use std::time::Duration;

use time::OffsetDateTime;

use super::finding::Finding;
use crate::clock::Clock;
use crate::config::{Database, DatabaseSettings};
use crate::store::{Store, StoreError};
use crate::telemetry::ErrorChain;

/// Round trip beyond which a login, which takes several, is slowed noticeably.
const SLOW: Duration = Duration::from_millis(20);

/// Number of measurements, of which the fastest counts.
const MEASUREMENTS: usize = 5;

/// One reading of the clock of the database.
struct Reading {
    /// Time between request and reply.
    round_trip: Duration,
    /// Time of the database minus that of the host, in the middle of the round trip.
    skew: time::Duration,
}

/// Checks the round trip and the clocks. On SQLite the clock is that of the host.
pub(super) async fn check(
    store: &dyn Store,
    settings: &DatabaseSettings,
    leeway: Option<Duration>,
    host: &dyn Clock,
) -> Vec<Finding> {
    if let Database::Sqlite(_) = settings.database {
        return vec![Finding::ok("clock.skew", "the database has the clock of this machine")];
    }
    let reading = match read(store, host).await {
        Ok(reading) => reading,
        Err(error) => return vec![Finding::unchecked("clock", ErrorChain(&error))],
    };
    let skew = match leeway {
        Some(leeway) => judge_skew(&reading, leeway),
        None => Finding::unchecked("clock.skew", "the service refuses the settings"),
    };
    vec![judge_round_trip(reading.round_trip), skew]
}

async fn read(store: &dyn Store, host: &dyn Clock) -> Result<Reading, StoreError> {
    // The first request connects.
    store.database_time().await?;
    let mut fastest = read_once(store, host).await?;
    for _ in 1..MEASUREMENTS {
        let reading = read_once(store, host).await?;
        if reading.round_trip < fastest.round_trip {
            fastest = reading;
        }
    }
    Ok(fastest)
}

async fn read_once(store: &dyn Store, host: &dyn Clock) -> Result<Reading, StoreError> {
    let (started, before): (_, OffsetDateTime) = (host.uptime(), host.now());
    let database = store.database_time().await?;
    let round_trip = host.uptime().saturating_sub(started);
    Ok(Reading { round_trip, skew: database - (before + round_trip / 2) })
}

fn judge_round_trip(round_trip: Duration) -> Finding {
    const CHECK: &str = "database.round_trip";
    let message = format!("the database answers within {:.1} ms", round_trip.as_secs_f64() * 1e3);
    if round_trip <= SLOW {
        return Finding::ok(CHECK, message);
    }
    let advice = "run the service near the database: a login and a logout take several round trips \
                  (docs/revocation.md#running-it-at-scale)";
    Finding::warning(CHECK, message, advice)
}

fn judge_skew(reading: &Reading, leeway: Duration) -> Finding {
    const CHECK: &str = "clock.skew";
    let skew = reading.skew.unsigned_abs();
    let ahead = if reading.skew.is_negative() { "behind" } else { "ahead of" };
    let skew_text = format!("{:.1} s {ahead} that of this machine", skew.as_secs_f64());
    // The reading itself is only as exact as half of its round trip.
    if skew > leeway + reading.round_trip / 2 {
        return Finding::error(
            CHECK,
            format!("the clock of the database is {skew_text}, more than JWT_LEEWAY allows"),
            "run NTP on both machines (docs/runbook.md#portcullisclockskew)",
        );
    }
    Finding::ok(CHECK, format!("the clock of the database is {skew_text}"))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn skew_beyond_the_leeway_is_an_error_in_both_directions() {
        let leeway = Duration::from_secs(5);
        for (skew, severity) in [
            (-5_100, Severity::Error),
            (-4_900, Severity::Ok),
            (0, Severity::Ok),
            (4_900, Severity::Ok),
            (5_100, Severity::Error),
        ] {
            let skew = time::Duration::milliseconds(skew);
            let exact = Reading { round_trip: Duration::ZERO, skew };
            assert_eq!(judge_skew(&exact, leeway).severity, severity, "{skew}");
            let vague = Reading { round_trip: Duration::from_millis(400), skew };
            assert_eq!(judge_skew(&vague, leeway).severity, Severity::Ok, "{skew}");
        }
    }

    #[test]
    fn slow_round_trip_is_a_warning() {
        assert_eq!(judge_round_trip(SLOW).severity, Severity::Ok);
        assert_eq!(judge_round_trip(SLOW + Duration::from_micros(1)).severity, Severity::Warning);
    }
}
