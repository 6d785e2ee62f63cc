//! Sessions and the generations of their refresh tokens.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Audience, RequestOrigin, SessionId, UserId};

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
    /// Latest expiry of the access tokens issued so far.
    pub tokens_expire_at: OffsetDateTime,
    /// Audience of the access tokens; `None` for the default one.
    pub audience: Option<Audience>,
    /// Origin of the login.
    pub origin: RequestOrigin,
    /// Origin of the login or of the latest exchange of a refresh token.
    pub last_origin: RequestOrigin,
}

impl Session {
    /// Returns `true` if one of the tokens of the session is valid. An idle session, last used
    /// before `used_since`, cannot be refreshed, but its access tokens remain valid until they
    /// expire.
    #[must_use]
    pub fn is_open(&self, now: OffsetDateTime, used_since: Option<OffsetDateTime>) -> bool {
        let is_refreshable = used_since.is_none_or(|since| self.last_used_at >= since);
        self.expires_at > now && (is_refreshable || self.tokens_expire_at > now)
    }
}

/// Position in a list of sessions, which are ordered by their latest use. It outlives the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPosition {
    /// Time of the latest use of the session.
    pub last_used_at: OffsetDateTime,
    /// Session at this position; sessions that were used at the same time are ordered by their ids.
    pub id: SessionId,
}

/// Reason why a text is not a position.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a position in a list of sessions")]
pub struct SessionPositionError;

impl From<&Session> for SessionPosition {
    fn from(session: &Session) -> Self {
        Self { last_used_at: session.last_used_at, id: session.id }
    }
}

/// Writes the time in microseconds since the Unix epoch, and the id.
impl fmt::Display for SessionPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.last_used_at.unix_timestamp_nanos() / 1_000, self.id)
    }
}

impl FromStr for SessionPosition {
    type Err = SessionPositionError;

    /// Parses the text that [`fmt::Display`] writes, and no other form of it.
    fn from_str(text: &str) -> Result<Self, SessionPositionError> {
        let (micros, id) = text.split_once('.').ok_or(SessionPositionError)?;
        let micros: u64 = micros.parse().map_err(|_| SessionPositionError)?;
        let last_used_at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
            .map_err(|_| SessionPositionError)?;
        let id: Uuid = id.parse().map_err(|_| SessionPositionError)?;
        let position = Self { last_used_at, id: id.into() };
        if position.to_string() == text { Ok(position) } else { Err(SessionPositionError) }
    }
}

/// Number of exchanges of a session's refresh token. Each refresh token is valid for one
/// generation.
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

/// Period after an exchange in which the consumed token gets the same successor again: clients send
/// several requests at once.
pub const REUSE_GRACE_PERIOD: Duration = Duration::from_secs(10);

/// Period after an exchange in which the consumed token gets a new successor, as long as the former
/// one has not been exchanged: the reply was lost. The former successor is void then.
pub const RETRY_PERIOD: Duration = Duration::from_mins(5);

/// Use of a presented refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenUse {
    /// The token was exchanged just now.
    Exchange,
    /// The token was exchanged before, and gets its successor again or a new one.
    Retry,
    /// The token was exchanged earlier or is void: it has been stolen.
    Replay,
    /// The token was never issued.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_has_one_text() {
        let text = "1777627800000000.0190d7c4-7c3e-7a61-8f0e-6b1b6a1f2c3d";
        assert_eq!(text.parse::<SessionPosition>().unwrap().to_string(), text);

        for other in [
            "1777627800000000",
            "1777627800000000.",
            "+1777627800000000.0190d7c4-7c3e-7a61-8f0e-6b1b6a1f2c3d",
            "01777627800000000.0190d7c4-7c3e-7a61-8f0e-6b1b6a1f2c3d",
            "-1.0190d7c4-7c3e-7a61-8f0e-6b1b6a1f2c3d",
            "1777627800000000.0190D7C4-7C3E-7A61-8F0E-6B1B6A1F2C3D",
            "1777627800000000.0190d7c47c3e7a618f0e6b1b6a1f2c3d",
            "18446744073709551615.0190d7c4-7c3e-7a61-8f0e-6b1b6a1f2c3d",
        ] {
            assert!(other.parse::<SessionPosition>().is_err(), "{other}");
        }
    }
}
