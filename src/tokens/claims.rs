//! Claims of an access token (RFC 7519 section 4.1, RFC 9068 section 2.2).

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{
    Audience, ClientId, KeyId, Permissions, RevocationId, RoleName, Roles, SessionId, TokenId,
    User, UserId,
};

/// Claims of a verified access token.
#[derive(Clone, Debug)]
pub struct AccessClaims {
    /// Bearer (`sub`).
    pub subject: Subject,
    /// Roles at the time of issue.
    pub roles: Roles,
    /// Permissions at the time of issue (`scope`).
    pub permissions: Permissions,
    /// Recipients of the token (`aud`).
    pub audience: Vec<String>,
    /// Session of the token (`sid`).
    pub session_id: SessionId,
    /// Identifier of the token (`jti`).
    pub token_id: TokenId,
    /// Key that signed the token (`kid`).
    pub key_id: KeyId,
    /// Whether this service is a recipient of the token.
    pub is_for_service: bool,
    /// Time of issue, in seconds since the Unix epoch (`iat`).
    pub issued_at: i64,
    /// Expiry under the present settings, without leeway.
    pub expires_at: OffsetDateTime,
    /// Expiry in the token (`exp`), which other instances may honour.
    pub issued_expires_at: OffsetDateTime,
    /// Start of validity, without leeway, in seconds since the Unix epoch (`nbf`).
    pub not_before: Option<i64>,
}

/// Bearer of an access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A user who has logged in.
    User {
        /// Account of the user.
        id: UserId,
        /// Username in its displayed form.
        username: String,
    },
    /// A client that acts for itself.
    Client(ClientId),
}

impl AccessClaims {
    /// Returns the ids that a revocation of the token may have.
    #[must_use]
    pub fn revocation_ids(&self) -> [RevocationId; 3] {
        [self.token_id.into(), self.session_id.into(), self.key_id.into()]
    }
}

impl Subject {
    /// Returns the username, or the id of the client.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Self::User { username, .. } => username.into(),
            Self::Client(id) => id.to_string().into(),
        }
    }

    /// Returns the client that the token was issued to (`client_id`).
    #[must_use]
    pub fn client_id(&self) -> Cow<'static, str> {
        match self {
            Self::User { .. } => CLIENT_ID.into(),
            Self::Client(id) => id.to_string().into(),
        }
    }
}

/// Writes the id.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { id, .. } => id.fmt(f),
            Self::Client(id) => id.fmt(f),
        }
    }
}

/// Payload of a token. Borrows from the decoded text.
#[derive(Serialize, Deserialize)]
pub(super) struct Claims<'a> {
    #[serde(borrow)]
    pub(super) iss: Cow<'a, str>,
    #[serde(borrow)]
    aud: Recipients<'a>,
    sub: Uuid,
    #[serde(borrow)]
    client_id: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    username: Option<Cow<'a, str>>,
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

/// Reason not to issue a token: its scope is longer than 2 KiB.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the permissions of the account are too long for a token")]
pub struct ScopeTooLong;

/// Maximum length of a scope in bytes. Proxies and servers refuse headers of 8 KiB, and a token is a
/// third longer than its claims.
const MAX_SCOPE: usize = 2 * 1024;

/// Client of the tokens of a login at this service.
const CLIENT_ID: &str = "portcullis";

impl<'a> Claims<'a> {
    /// Creates the claims of a user's new access token.
    ///
    /// # Errors
    /// Returns [`ScopeTooLong`].
    pub(super) fn of_user(
        user: &'a User,
        session_id: SessionId,
        issuer: &'a str,
        audience: &'a Audience,
        now: OffsetDateTime,
        expires_at: OffsetDateTime,
    ) -> Result<Self, ScopeTooLong> {
        let claims = Self::new(
            user.id.as_uuid(),
            session_id,
            &user.permissions,
            issuer,
            audience,
            now,
            expires_at,
        )?;
        Ok(Self {
            client_id: CLIENT_ID.into(),
            username: Some(user.username.as_str().into()),
            roles: user.roles.names().into_iter().map(Cow::from).collect(),
            ..claims
        })
    }

    /// Creates the claims of a client's own new access token.
    ///
    /// # Errors
    /// Returns [`ScopeTooLong`].
    pub(super) fn of_client(
        id: ClientId,
        session_id: SessionId,
        scope: &Permissions,
        issuer: &'a str,
        audience: &'a Audience,
        now: OffsetDateTime,
        expires_at: OffsetDateTime,
    ) -> Result<Self, ScopeTooLong> {
        let claims = Self::new(id.as_uuid(), session_id, scope, issuer, audience, now, expires_at)?;
        Ok(Self { client_id: id.to_string().into(), ..claims })
    }

    /// Creates the claims that all access tokens have, without a client.
    fn new(
        sub: Uuid,
        session_id: SessionId,
        scope: &Permissions,
        issuer: &'a str,
        audience: &'a Audience,
        now: OffsetDateTime,
        expires_at: OffsetDateTime,
    ) -> Result<Self, ScopeTooLong> {
        Ok(Self {
            iss: issuer.into(),
            aud: Recipients::List(audience.names(issuer).map(Cow::from).collect()),
            sub,
            client_id: Cow::default(),
            username: None,
            roles: Vec::new(),
            scope: bounded(scope.to_string())?.into(),
            sid: session_id,
            jti: TokenId::random(),
            iat: now.unix_timestamp(),
            nbf: Some(now.unix_timestamp()),
            exp: expires_at.unix_timestamp(),
        })
    }

    /// Returns `None` if the expiry is beyond the calendar.
    pub(super) fn into_access_claims(
        self,
        key_id: KeyId,
        service: &str,
        expires_at: i64,
    ) -> Option<AccessClaims> {
        let subject = match self.username {
            Some(username) if self.client_id == CLIENT_ID => {
                Subject::User { id: self.sub.into(), username: username.into_owned() }
            }
            _ => Subject::Client(self.sub.into()),
        };
        Some(AccessClaims {
            subject,
            roles: self.roles.iter().filter_map(|role| RoleName::parse(role).ok()).collect(),
            permissions: Permissions::from_scope(&self.scope),
            session_id: self.sid,
            token_id: self.jti,
            key_id,
            is_for_service: self.aud.contains(service),
            audience: self.aud.into_names(),
            issued_at: self.iat,
            expires_at: OffsetDateTime::from_unix_timestamp(expires_at).ok()?,
            issued_expires_at: OffsetDateTime::from_unix_timestamp(self.exp).ok()?,
            not_before: self.nbf,
        })
    }
}

/// Returns a scope, unless it is too long.
fn bounded(scope: String) -> Result<String, ScopeTooLong> {
    if scope.len() > MAX_SCOPE { Err(ScopeTooLong) } else { Ok(scope) }
}

impl Recipients<'_> {
    fn contains(&self, recipient: &str) -> bool {
        match self {
            Self::List(recipients) => recipients.iter().any(|known| known == recipient),
            Self::One(known) => known == recipient,
        }
    }

    fn into_names(self) -> Vec<String> {
        match self {
            Self::List(recipients) => recipients.into_iter().map(Cow::into_owned).collect(),
            Self::One(recipient) => vec![recipient.into_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_has_at_most_2_kib() {
        let longest = "a".repeat(MAX_SCOPE);

        assert_eq!(bounded(longest.clone()).unwrap(), longest);
        assert_eq!(bounded(longest + " b"), Err(ScopeTooLong));
    }
}
