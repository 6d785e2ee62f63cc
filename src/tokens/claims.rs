//! The claims of an access token (RFC 7519 section 4.1, RFC 9068 section 2.2), as they are written
//! and as the rest of the service sees them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::domain::{
    Permissions, RevocationId, Roles, SessionId, TokenId, User, UserId, granted_by,
};

/// What a checked token says about its bearer.
#[derive(Clone, Debug)]
pub struct AccessClaims {
    /// Whose token it is.
    pub user_id: UserId,
    /// The username to show.
    pub username: String,
    /// What the owner was when the token was issued.
    pub roles: Roles,
    /// What the bearer may do.
    pub permissions: Permissions,
    /// The session that the token belongs to.
    pub session_id: SessionId,
    /// The token itself.
    pub token_id: TokenId,
    /// When it expires, without leeway.
    pub expires_at: OffsetDateTime,
    /// Before when it is not good, without leeway, in seconds since 1970.
    pub(super) not_before: Option<i64>,
}

impl AccessClaims {
    /// Returns the ids by either of which the token may have been revoked.
    #[must_use]
    pub fn revocation_ids(&self) -> [RevocationId; 2] {
        [self.token_id.into(), self.session_id.into()]
    }
}

/// The payload on the wire. Borrows from the decoded token.
#[derive(Serialize, Deserialize)]
pub(super) struct Claims<'a> {
    #[serde(borrow)]
    pub(super) iss: Cow<'a, str>,
    sub: UserId,
    #[serde(borrow)]
    username: Cow<'a, str>,
    roles: Roles,
    permissions: Permissions,
    sid: SessionId,
    jti: TokenId,
    pub(super) iat: i64,
    nbf: Option<i64>,
    pub(super) exp: i64,
    #[serde(rename = "type")]
    pub(super) token_type: TokenType,
}

/// What a token is for.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TokenType {
    Access,
    Refresh,
}

impl<'a> Claims<'a> {
    pub(super) fn of(
        user: &'a User,
        session: SessionId,
        issuer: &'a str,
        now: OffsetDateTime,
        expires_at: OffsetDateTime,
    ) -> Self {
        Self {
            iss: issuer.into(),
            sub: user.id,
            username: user.username.as_str().into(),
            roles: user.roles,
            permissions: granted_by(user.roles),
            sid: session,
            jti: TokenId::random(),
            iat: now.unix_timestamp(),
            nbf: Some(now.unix_timestamp()),
            exp: expires_at.unix_timestamp(),
            token_type: TokenType::Access,
        }
    }

    /// Returns `None` when the expiry lies beyond the calendar.
    pub(super) fn into_access_claims(self, expires_at: i64) -> Option<AccessClaims> {
        Some(AccessClaims {
            user_id: self.sub,
            username: self.username.into_owned(),
            roles: self.roles,
            permissions: self.permissions,
            session_id: self.sid,
            token_id: self.jti,
            expires_at: OffsetDateTime::from_unix_timestamp(expires_at).ok()?,
            not_before: self.nbf,
        })
    }
}
