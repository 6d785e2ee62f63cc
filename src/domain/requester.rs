//! The requester of an action, and the origin of its request.

use std::net::IpAddr;

use super::{SessionId, UserId};

/// Maximum length of a stored `User-Agent`, in characters.
const MAX_USER_AGENT: usize = 256;

/// Performer of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    /// Account of the requester; `None` for the command line and for a request without an access
    /// token.
    pub user_id: Option<UserId>,
    /// Session of the request. Account creations and edits are refused if it has ended by the time
    /// of the commit; a revocation is carried out regardless.
    pub session_id: Option<SessionId>,
    /// Origin of the request; `None` for the command line.
    pub origin: Option<RequestOrigin>,
}

impl Requester {
    /// An operator on the command line.
    pub const COMMAND_LINE: Self = Self { user_id: None, session_id: None, origin: None };

    /// Returns the requester of a request without an access token.
    #[must_use]
    pub fn anonymous(origin: RequestOrigin) -> Self {
        Self { user_id: None, session_id: None, origin: Some(origin) }
    }
}

/// Network address and user agent of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestOrigin {
    /// IP address of the peer, or the one that a trusted proxy reported.
    pub address: IpAddr,
    /// `User-Agent` of the request.
    pub user_agent: UserAgent,
}

/// Value of a `User-Agent` header: at most 256 characters, no control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAgent(String);

impl UserAgent {
    /// Removes control characters and truncates the text.
    #[must_use]
    pub fn sanitize(text: &str) -> Self {
        Self(text.chars().filter(|c| !c.is_control()).take(MAX_USER_AGENT).collect())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_agent_is_truncated_and_has_no_control_characters() {
        assert_eq!(UserAgent::sanitize("curl/8.5\r\nX: y\u{7}\u{9b}é").as_str(), "curl/8.5X: yé");
        assert_eq!(UserAgent::sanitize(&"ü".repeat(300)).as_str(), "ü".repeat(256));
        assert_eq!(UserAgent::sanitize("\n"), UserAgent::default());
    }
}
