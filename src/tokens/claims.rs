//! Claims of an access token (RFC 7519 section 4.1, RFC 9068 section 2.2).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::domain::{Permissions, RevocationId, Roles, SessionId, TokenId, User, UserId};

/// Claims of a verified access token.
#[derive(Clone, Debug)]
pub struct AccessClaims {
    /// Account of the bearer (`sub`).
    pub user_id: UserId,
    /// Username in its displayed form.
    pub username: String,
    /// Permissions at the time of issue.
    pub permissions: Permissions,
    /// Session of the token (`sid`).
    pub session_id: SessionId,
    /// Identifier of the token (`jti`).
    pub token_id: TokenId,
    /// Expiry under the present settings, without leeway.
    pub expires_at: OffsetDateTime,
    /// Expiry in the token (`exp`), which other instances may honour.
    pub issued_expires_at: OffsetDateTime,
    /// Start of validity, without leeway, in seconds since the Unix epoch (`nbf`).
    pub(super) not_before: Option<i64>,
}

impl AccessClaims {
    /// Returns the ids that a revocation of the token may have.
    #[must_use]
    pub fn revocation_ids(&self) -> [RevocationId; 2] {
        [self.token_id.into(), self.session_id.into()]
    }
}

/// Payload of a token. Borrows from the decoded text.
#[derive(Serialize, Deserialize)]
pub(super) struct Claims<'a> {
    #[serde(borrow)]
    pub(super) iss: Cow<'a, str>,
    sub: UserId,
    #[serde(borrow)]
    username: Cow<'a, str>,
    // For the APIs that verify the token; the service itself goes by the permissions.
    #[serde(skip_deserializing)]
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

/// Type of a token.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TokenType {
    Access,
    Refresh,
}

impl<'a> Claims<'a> {
    /// Creates the claims of a new access token.
    pub(super) fn new(
        user: &'a User,
        session_id: SessionId,
        issuer: &'a str,
        now: OffsetDateTime,
        expires_at: OffsetDateTime,
    ) -> Self {
        Self {
            iss: issuer.into(),
            sub: user.id,
            username: user.username.as_str().into(),
            roles: user.roles.clone(),
            permissions: user.roles.permissions(),
            sid: session_id,
            jti: TokenId::random(),
            iat: now.unix_timestamp(),
            nbf: Some(now.unix_timestamp()),
            exp: expires_at.unix_timestamp(),
            token_type: TokenType::Access,
        }
    }

    /// Returns `None` if the expiry is beyond the calendar.
    pub(super) fn into_access_claims(self, expires_at: i64) -> Option<AccessClaims> {
        Some(AccessClaims {
            user_id: self.sub,
            username: self.username.into_owned(),
            permissions: self.permissions,
            session_id: self.sid,
            token_id: self.jti,
            expires_at: OffsetDateTime::from_unix_timestamp(expires_at).ok()?,
            issued_expires_at: OffsetDateTime::from_unix_timestamp(self.exp).ok()?,
            not_before: self.nbf,
        })
    }
}
