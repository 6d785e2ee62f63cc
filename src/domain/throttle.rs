//! Failure counters, which slow down the guessing of passwords.

use std::time::Duration;

use strum::IntoStaticStr;
use uuid::Uuid;

use super::{User, UserId, UserVersion};

/// Delays after the failures beyond the free ones, in seconds. The last one applies to all further
/// failures.
pub const FAILURE_DELAYS: [u32; 6] = [1, 3, 5, 10, 30, 60];

/// Delay after the maximum number of failures in a row, and the time for which failures count.
pub const FAILURE_RETENTION: Duration = Duration::from_hours(24);

/// Maximum number of attempts of one counter that are hashed at once.
pub const ATTEMPTS_IN_FLIGHT: u32 = 5;

/// Time after which an attempt that has no result counts as a failure: its instance was killed.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(2);

/// Time for which a network is known to an account after a login.
pub const KNOWN_NETWORK_RETENTION: Duration = Duration::from_hours(30 * 24);

/// Maximum number of known networks of an account.
pub const KNOWN_NETWORKS_PER_USER: u32 = 100;

/// Identifier of a failure counter: a keyed hash of its subject, which does not reveal it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CounterId(Uuid);

impl CounterId {
    /// Returns the identifier as a UUID.
    #[must_use]
    pub fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for CounterId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

/// Device on which the owner of an account has logged in, as its device token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    pub id: Uuid,
    /// Account of the login.
    pub user_id: UserId,
    /// Version of the account at the login. The device is known while the account has it.
    pub version: UserVersion,
}

impl Device {
    /// Returns `true` if the device is known to an account in its present version.
    #[must_use]
    pub fn is_known_to(&self, user: &User) -> bool {
        self.user_id == user.id && self.version == user.version
    }
}

/// Limits of a failure counter.
#[derive(Clone, Copy, Debug)]
pub struct FailureLimits {
    /// Number of failures in a row without a delay.
    pub free: u32,
    /// Number of failures in a row after which all attempts are refused for a day.
    pub max: u32,
}

/// Result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum AttemptResult {
    /// The password was right.
    Success,
    /// The password was wrong, or the account is disabled.
    Failure,
    /// The requester has left. It learns nothing, so that this is no guess.
    Abandoned,
}
