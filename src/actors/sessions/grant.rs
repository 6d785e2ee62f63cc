//! [`TokenGrant`]: the right to the next pair of tokens.

use time::OffsetDateTime;

use crate::domain::{Audience, Generation, SessionId, User};

/// Grant from which a pair of tokens is issued. Its expiry is committed: the session's row knows of
/// every access token before the token exists.
#[derive(Clone, Debug)]
pub struct TokenGrant {
    /// Current state of the account.
    pub user: User,
    pub session_id: SessionId,
    /// Audience of the access token; `None` for the default one.
    pub audience: Option<Audience>,
    /// Time from which the life of the access token counts.
    pub issued_at: OffsetDateTime,
    /// Expiry of the access token.
    pub token_expires_at: OffsetDateTime,
    /// Generation of the refresh token.
    pub generation: Generation,
}
