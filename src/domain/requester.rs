//! The requester of an action, and the origin of its request.

use std::net::IpAddr;

use uuid::Uuid;

use super::{ClientId, Permissions, SessionId, UserId};

/// Maximum length of a stored `User-Agent`, in characters.
const MAX_USER_AGENT: usize = 256;

/// Performer of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requester {
    /// Account of the requester, or [`UserId::SERVICE`]; `None` for the command line and for a
    /// request without an access token.
    pub user_id: Option<UserId>,
    /// Client of the requester, which acts for itself.
    pub client_id: Option<ClientId>,
    /// Session of the request. Account creations and edits are refused if it has ended by the time
    /// of the commit; a revocation is carried out regardless.
    pub session_id: Option<SessionId>,
    /// Permissions of the access token. The requester grants no others; `None` for a requester
    /// that may grant all.
    pub permissions: Option<Permissions>,
    /// Origin of the request; `None` for the service and for the command line.
    pub origin: Option<RequestOrigin>,
}

impl Requester {
    /// Returns the id of the user or client.
    #[must_use]
    pub fn id(&self) -> Option<Uuid> {
        self.user_id.map(UserId::as_uuid).or(self.client_id.map(ClientId::as_uuid))
    }

    /// The service itself.
    pub const SERVICE: Self = Self { user_id: Some(UserId::SERVICE), ..Self::COMMAND_LINE };

    /// An operator on the command line.
    pub const COMMAND_LINE: Self =
        Self { user_id: None, client_id: None, session_id: None, permissions: None, origin: None };

    /// Returns the requester of a request without an access token.
    #[must_use]
    pub fn anonymous(origin: RequestOrigin) -> Self {
        Self { origin: Some(origin), ..Self::COMMAND_LINE }
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

/// Value of a `User-Agent` header: at most 256 characters, all of them visible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAgent(String);

impl UserAgent {
    /// Removes invisible characters and truncates the text. Some of them, such as those that
    /// reverse the direction of the text, would change how a list of sessions looks.
    #[must_use]
    pub fn sanitize(text: &str) -> Self {
        Self(text.chars().filter(|c| is_visible(*c)).take(MAX_USER_AGENT).collect())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns `true` if a character can be seen, or is a space. The standard library escapes all
/// control, format and unassigned characters in a literal; it takes fillers for letters.
fn is_visible(c: char) -> bool {
    match c {
        '\'' | '"' | '\\' => true,
        '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' => false,
        c => c.escape_debug().len() == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_agent_is_truncated_and_visible() {
        assert_eq!(UserAgent::sanitize("curl/8.5\r\nX: y\u{7}\u{9b}é").as_str(), "curl/8.5X: yé");
        assert_eq!(UserAgent::sanitize(&"ü".repeat(300)).as_str(), "ü".repeat(256));
        assert_eq!(UserAgent::sanitize("\n"), UserAgent::default());
        assert_eq!(
            UserAgent::sanitize(r#"'a' "b" \c 測試 שלום"#).as_str(),
            r#"'a' "b" \c 測試 שלום"#
        );
        let invisible = [
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{1160}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{206f}',
            '\u{2800}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{1d173}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{e000}',
            '\u{ffff}',
        ];
        for c in invisible {
            assert_eq!(UserAgent::sanitize(&format!("a{c}b")).as_str(), "ab", "{c:?}");
        }
    }
}
