//! Failure counters and known networks: their trait, and the SQL that both dialects share.

use std::time::Duration;

use async_trait::async_trait;

use super::error::StoreError;
use super::users::WriteError;
use crate::domain::{
    AttemptResult, AuditRecord, CounterId, FAILURE_DELAYS, FAILURE_RETENTION, FailureLimits, UserId,
};

/// Storage of failure counters and of known networks. Time is that of the database.
#[async_trait]
pub trait ThrottleStore {
    /// Counts an attempt before its password is hashed. A refused attempt writes nothing.
    async fn reserve_attempt(&self, attempt: &Attempt) -> Result<Reservation, StoreError>;

    /// Counts the result of a reserved attempt, and makes `network` known to its account, in one
    /// commit. The latest 100 networks are kept. Returns the number of failures in a row.
    async fn settle_attempt(
        &self,
        counter: CounterId,
        result: AttemptResult,
        limits: FailureLimits,
        network: Option<(CounterId, UserId)>,
    ) -> Result<u32, StoreError>;

    /// Deletes the failure counters of an account, and inserts an audit record, in one commit.
    async fn delete_failures(&self, user: UserId, record: &AuditRecord) -> Result<(), WriteError>;

    /// Deletes at most `limit` failure counters and `limit` known networks that are out of date.
    /// Returns the larger number.
    async fn delete_expired_failures(&self, limit: u32) -> Result<u64, StoreError>;
}

/// Attempt to prove a password.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Counter of the account, the username without one, the known device or the session.
    pub counter: CounterId,
    /// Counter of the account and the network of the requester; `None` if networks do not matter.
    pub network: Option<CounterId>,
    /// Whether the counter of a known network replaces the other one.
    pub prefers_network: bool,
    /// Account that the attempt is about.
    pub user_id: Option<UserId>,
    pub limits: FailureLimits,
}

/// Answer to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// The attempt is counted.
    Reserved {
        /// Counter that counts it.
        counter: CounterId,
        is_known_network: bool,
    },
    /// There were too many failures.
    Refused {
        /// Time until the next attempt.
        retry_after: Duration,
    },
    /// As many attempts as can be are in flight: the next one depends on their results.
    Busy,
}

/// Returns an SQL expression for the delay in seconds after a number of failures in a row, which is
/// an expression, too; null for no delay.
pub(super) fn delay_sql(failures: &str, limits: FailureLimits) -> String {
    let FailureLimits { free, max } = limits;
    let cases = (free..).zip(FAILURE_DELAYS);
    let cases: Vec<_> =
        cases.map(|(count, delay)| format!("when {failures} <= {count} then {delay}")).collect();
    let cases = cases.join(" ");
    let [.., last] = FAILURE_DELAYS;
    let day = FAILURE_RETENTION.as_secs();
    format!(
        "case when {failures} >= {max} then {day} when {failures} < {free} then null {cases} else {last} end"
    )
}

impl Reservation {
    /// Creates the answer to an attempt that is not counted. `delay` is the time until the next one
    /// in seconds; 0 if only the attempts in flight are in its way.
    pub(super) fn not_reserved(delay: f64) -> Self {
        match Duration::try_from_secs_f64(delay) {
            Ok(retry_after) if !retry_after.is_zero() => Self::Refused { retry_after },
            _ => Self::Busy,
        }
    }
}
