//! Sessions: what a login opens, and everything that ends together.

use std::net::IpAddr;

use time::OffsetDateTime;

use super::{SessionId, UserId};

/// The longest `User-Agent` that is kept, in characters.
const MAX_USER_AGENT: usize = 256;

/// What a login opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Names it in every token that belongs to it (`sid`).
    pub id: SessionId,
    /// Who logged in.
    pub user_id: UserId,
    /// When that was.
    pub created_at: OffsetDateTime,
    /// When its refresh token was last exchanged, or given out first.
    pub last_used_at: OffsetDateTime,
    /// When it ends, however much it is used.
    pub expires_at: OffsetDateTime,
    /// From where the login came.
    pub client: Client,
}

/// Where a request comes from, for people to recognise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The network address.
    pub address: IpAddr,
    /// The program, as it calls itself.
    pub user_agent: UserAgent,
}

/// What a program calls itself: at most 256 characters, none of them a control character.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAgent(String);

impl UserAgent {
    /// Keeps what is harmless of a text.
    #[must_use]
    pub fn clean(text: &str) -> Self {
        Self(text.chars().filter(|c| !c.is_control()).take(MAX_USER_AGENT).collect())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How often the refresh token of a session was exchanged. Each token is good for one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

impl Generation {
    /// That of a session just opened.
    pub const FIRST: Self = Self(0);

    /// Returns the one after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Returns its number.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_agent_is_cut_and_holds_no_control_character() {
        assert_eq!(UserAgent::clean("curl/8.5\r\nX: y\u{7}\u{9b}é").as_str(), "curl/8.5X: yé");
        assert_eq!(UserAgent::clean(&"ü".repeat(300)).as_str(), "ü".repeat(256));
        assert_eq!(UserAgent::clean("\n"), UserAgent::default());
    }
}
