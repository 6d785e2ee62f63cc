//! Sessions and the generations of their refresh tokens.

use std::time::Duration;

use time::OffsetDateTime;

use super::{RequestOrigin, SessionId, UserId};

/// Session: opened by a login, the unit of logout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Identifier; the `sid` claim of every access token of the session.
    pub id: SessionId,
    /// Account of the session.
    pub user_id: UserId,
    /// Time of the login.
    pub created_at: OffsetDateTime,
    /// Time of the login or of the latest exchange of a refresh token.
    pub last_used_at: OffsetDateTime,
    /// Expiry; use does not extend it.
    pub expires_at: OffsetDateTime,
    /// Origin of the login.
    pub origin: RequestOrigin,
}

/// Number of exchanges of a session's refresh token. Each refresh token is valid for one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

impl Generation {
    /// Generation of a new session.
    pub const FIRST: Self = Self(0);

    /// Returns the generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Returns the generation as a number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl From<u64> for Generation {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

/// Period in which an exchanged refresh token gets its successor once more: clients retry when a reply is
/// lost, and may send several requests at once.
const REUSE_GRACE_PERIOD: Duration = Duration::from_secs(10);

/// Judgement about a presented refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenUse {
    /// The token was exchanged just now, or within the reuse grace period.
    Valid,
    /// The token was exchanged earlier: it has been stolen.
    Replay,
    /// The token was never issued.
    Unknown,
}

impl Generation {
    /// Judges a token of this generation. `current` is the generation of its session after the exchange,
    /// `age` the time since the session entered it.
    #[must_use]
    pub fn token_use(self, current: Self, age: Duration) -> TokenUse {
        if current == self.next() && age <= REUSE_GRACE_PERIOD {
            TokenUse::Valid
        } else if current > self {
            TokenUse::Replay
        } else {
            TokenUse::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_valid_until_the_grace_period_ends() {
        let [first, second, third] = [0, 1, 2].map(Generation::from);
        let late = REUSE_GRACE_PERIOD + Duration::from_nanos(1);

        assert_eq!(first.token_use(second, Duration::ZERO), TokenUse::Valid);
        assert_eq!(first.token_use(second, REUSE_GRACE_PERIOD), TokenUse::Valid);
        assert_eq!(first.token_use(second, late), TokenUse::Replay);
        assert_eq!(first.token_use(third, Duration::ZERO), TokenUse::Replay);
        assert_eq!(first.token_use(first, Duration::ZERO), TokenUse::Unknown);
        assert_eq!(second.token_use(first, Duration::ZERO), TokenUse::Unknown);
    }
}
