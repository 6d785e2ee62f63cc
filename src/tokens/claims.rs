//! Claims of an access token (RFC 7519 section 4.1, RFC 9068 section 2.2).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::domain::{Audience, KeyId, Permissions, RevocationId, SessionId, TokenId, User, UserId};

/// Claims of a verified access token.
#[derive(Clone, Debug)]
pub struct AccessClaims {
    /// Account of the bearer (`sub`).
    pub user_id: UserId,
    /// Username in its displayed form.
    pub username: String,
    /// Names of the roles at the time of issue, separated by spaces (`roles`).
    pub roles: String,
    /// Permissions at the time of issue (`scope`).
    pub permissions: Permissions,
    /// Client that the token was issued to (`client_id`).
    pub client_id: String,
    /// Session of the token (`sid`).
    pub session_id: SessionId,
    /// Identifier of the token (`jti`).
    pub token_id: TokenId,
    /// Key that signed the token (`kid`).
    pub key_id: KeyId,
    /// Whether this service is a recipient of the token (`aud`).
    pub is_for_service: bool,
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
    pub fn revocation_ids(&self) -> [RevocationId; 3] {
        [self.token_id.into(), self.session_id.into(), self.key_id.into()]
    }
}

/// Payload of a token. Borrows from the decoded text.
#[derive(Serialize, Deserialize)]
pub(super) struct Claims<'a> {
    #[serde(borrow)]
    pub(super) iss: Cow<'a, str>,
    #[serde(borrow)]
    aud: Recipients<'a>,
    sub: UserId,
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    #[serde(borrow)]
    username: Cow<'a, str>,
    #[serde(borrow)]
    roles: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    scope: Cow<'a, str>,
    sid: SessionId,
    jti: TokenId,
    pub(super) iat: i64,
    nbf: Option<i64>,
    pub(super) exp: i64,
}

/// Recipients of a token (RFC 7519 section 4.1.3). This service writes a list.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Recipients<'a> {
    #[serde(borrow)]
    List(Vec<Cow<'a, str>>),
    #[serde(borrow)]
    One(Cow<'a, str>),
}

/// Client of the tokens of a login at this service.
const CLIENT_ID: &str = "portcullis";

impl<'a> Claims<'a> {
    /// Creates the claims of a new access token.
    pub(super) fn new(
        user: &'a User,
        session_id: SessionId,
        issuer: &'a str,
        audience: &'a Audience,
        now: OffsetDateTime,
        expires_at: OffsetDateTime,
    ) -> Self {
        Self {
            iss: issuer.into(),
            aud: Recipients::List(audience.names(issuer).map(Cow::from).collect()),
            sub: user.id,
            client_id: CLIENT_ID.into(),
            username: user.username.as_str().into(),
            roles: user.roles.names().into_iter().map(Cow::from).collect(),
            scope: user.roles.permissions().to_string().into(),
            sid: session_id,
            jti: TokenId::random(),
            iat: now.unix_timestamp(),
            nbf: Some(now.unix_timestamp()),
            exp: expires_at.unix_timestamp(),
        }
    }

    /// Returns `None` if the expiry is beyond the calendar.
    pub(super) fn into_access_claims(
        self,
        key_id: KeyId,
        service: &str,
        expires_at: i64,
    ) -> Option<AccessClaims> {
        Some(AccessClaims {
            user_id: self.sub,
            username: self.username.into_owned(),
            roles: self.roles.join(" "),
            permissions: Permissions::from_scope(&self.scope),
            client_id: self.client_id.into_owned(),
            session_id: self.sid,
            token_id: self.jti,
            key_id,
            is_for_service: self.aud.contains(service),
            expires_at: OffsetDateTime::from_unix_timestamp(expires_at).ok()?,
            issued_expires_at: OffsetDateTime::from_unix_timestamp(self.exp).ok()?,
            not_before: self.nbf,
        })
    }
}

impl Recipients<'_> {
    fn contains(&self, recipient: &str) -> bool {
        match self {
            Self::List(recipients) => recipients.iter().any(|known| known == recipient),
            Self::One(known) => known == recipient,
        }
    }
}
