//! Clients: machines that authenticate with a secret (RFC 6749 section 2).

use std::fmt;

use serde::Serialize;
use thiserror::Error;
use time::OffsetDateTime;

use super::{Audience, ClientId, Permissions, SecretId, SessionId};

/// Maximum length of the name of a client, in characters.
const MAX_LENGTH: usize = 64;

/// Maximum number of secrets of a client: the present one and its successor.
pub const SECRETS_PER_CLIENT: usize = 2;

/// A client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub id: ClientId,
    /// Name, unique among all clients.
    pub name: ClientName,
    pub rights: ClientRights,
    /// Time of creation.
    pub created_at: OffsetDateTime,
    /// Time since which the client is refused; `None` for an enabled client.
    pub disabled_at: Option<OffsetDateTime>,
    /// Secrets in the order of their creation.
    pub secrets: Vec<ClientSecret>,
}

/// Rights of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientRights {
    /// Permissions of the client and of its tokens.
    pub permissions: Permissions,
    /// Audience of its tokens; `None` for the default one.
    pub audience: Option<Audience>,
    /// Audience of the tokens that it may introspect; `None` for all tokens.
    pub resource: Option<Audience>,
    /// Expiry of the client; `None` for never.
    pub expires_at: Option<OffsetDateTime>,
}

/// Secret of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSecret {
    pub id: SecretId,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// The `sid` claim of the tokens that are issued for the secret. A new one replaces it when they
    /// have to end.
    pub session_id: SessionId,
    /// Time of creation.
    pub created_at: OffsetDateTime,
    /// Latest expiry of the tokens that may have been issued; `None` before the first one.
    pub tokens_expire_at: Option<OffsetDateTime>,
}

/// All clients, and the version of the shared state at which they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSet {
    pub version: i64,
    /// Clients in the order of their names.
    pub clients: Vec<Client>,
    /// Names of clients whose rows do not parse.
    pub broken: Vec<String>,
}

/// Name of a client: letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ClientName(String);

/// Reason why a text is not the name of a client.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("The name of a client has 1 to 64 characters: A-Z, a-z, 0-9, `.`, `_` and `-`")]
pub struct ClientNameError;

impl Client {
    /// Returns `true` if the client is neither disabled nor expired.
    #[must_use]
    pub fn is_active(&self, now: OffsetDateTime) -> bool {
        self.disabled_at.is_none() && self.rights.expires_at.is_none_or(|expiry| now < expiry)
    }
}

impl ClientRights {
    /// Returns `true` if the permissions are good for more APIs, for more tokens or for longer than
    /// they were with the former rights.
    pub(super) fn extend(&self, former: &Self) -> bool {
        let includes = |former: &Option<Audience>, new: &Option<Audience>| match (former, new) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(former), Some(new)) => former.includes(new),
        };
        !includes(&former.audience, &self.audience)
            || !includes(&former.resource, &self.resource)
            || self.expiry() > former.expiry()
    }

    /// Returns `true` if tokens with these rights may have more than the new ones.
    pub(super) fn are_narrowed_by(&self, new: &Self) -> bool {
        !self.permissions.without(&new.permissions).is_empty()
            || self.audience != new.audience
            || new.expiry() < self.expiry()
    }

    fn expiry(&self) -> i64 {
        self.expires_at.map_or(i64::MAX, OffsetDateTime::unix_timestamp)
    }
}

/// Writes the permissions, and the other rights that are not the default.
impl fmt::Display for ClientRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.permissions)?;
        for (name, audience) in [("audience", &self.audience), ("resource", &self.resource)] {
            if let Some(audience) = audience {
                write!(f, ", {name} {audience}")?;
            }
        }
        match self.expires_at {
            Some(expiry) => write!(f, ", expires at {}", expiry.unix_timestamp()),
            None => Ok(()),
        }
    }
}

impl ClientName {
    /// Parses the name of a client.
    ///
    /// # Errors
    /// Returns [`ClientNameError`] if the text is empty, too long, or has other characters.
    pub fn parse(text: &str) -> Result<Self, ClientNameError> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > MAX_LENGTH || !text.chars().all(is_allowed) {
            return Err(ClientNameError);
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
