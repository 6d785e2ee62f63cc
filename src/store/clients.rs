//! Clients: their trait, and the row parsing that both dialects share.

use async_trait::async_trait;
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

use super::columns::from_micros;
use super::error::StoreError;
use crate::domain::{
    Audience, ChangedClient, Client, ClientChange, ClientError, ClientName, ClientRights,
    ClientSecret, ClientSet, Permissions, SessionId,
};

/// Storage of clients.
#[async_trait]
pub trait ClientStore {
    /// Reads all clients.
    async fn read_clients(&self) -> Result<ClientSet, StoreError>;

    /// Changes a client, in one commit with the revocations and the audit record. Returns all
    /// clients after it; `None` if nothing changed. Concurrent changes wait for each other.
    async fn change_client(
        &self,
        change: &ClientChange,
    ) -> Result<Option<(ChangedClient, ClientSet)>, ClientWriteError>;

    /// Raises the latest expiry of the tokens that are issued for a secret. Returns `false` if the
    /// tokens of the secret have ended.
    async fn raise_token_expiry(
        &self,
        session_id: SessionId,
        tokens_expire_at: OffsetDateTime,
    ) -> Result<bool, StoreError>;
}

/// Failure to change a client.
#[derive(Clone, Debug, Error)]
pub enum ClientWriteError {
    /// The client does not allow the change.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for ClientWriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Columns of a client and of one of its secrets. Times are in microseconds since the Unix epoch.
pub(super) struct ClientColumns {
    pub(super) id: Uuid,
    pub(super) name: String,
    /// Separated by spaces.
    pub(super) permissions: String,
    pub(super) audience: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) created_at: i64,
    pub(super) expires_at: Option<i64>,
    pub(super) disabled_at: Option<i64>,
    pub(super) secret: Option<SecretColumns>,
}

/// Columns of a secret. Times are in microseconds since the Unix epoch.
pub(super) struct SecretColumns {
    pub(super) id: Uuid,
    pub(super) hash: Vec<u8>,
    pub(super) session_id: Uuid,
    pub(super) created_at: i64,
    pub(super) tokens_expire_at: Option<i64>,
}

impl ClientColumns {
    /// Adds the client, or only the secret if the client is the last one in the set. A client is
    /// noted instead if it, or one of its secrets, does not parse.
    pub(super) fn add_to(mut self, set: &mut ClientSet) {
        if set.broken.last() == Some(&self.name) {
            return;
        }
        let (id, name) = (self.id, self.name.clone());
        let secret = self.secret.take().map(SecretColumns::parse).transpose();
        if set.clients.last().is_none_or(|last| last.id.as_uuid() != id) {
            match self.parse() {
                Ok(client) => set.clients.push(client),
                Err(_) => return set.broken.push(name),
            }
        }
        if let (Ok(secret), Some(client)) = (secret, set.clients.last_mut()) {
            client.secrets.extend(secret);
        } else {
            set.clients.pop();
            set.broken.push(name);
        }
    }

    fn parse(self) -> Result<Client, StoreError> {
        let time = |column, micros| from_micros("clients", column, micros);
        let optional =
            |column, micros: Option<i64>| micros.map(|micros| time(column, micros)).transpose();
        let rights = ClientRights {
            permissions: Permissions::from_scope(&self.permissions),
            audience: self.audience.as_deref().map(Audience::from_text),
            resource: self.resource.as_deref().map(Audience::from_text),
            expires_at: optional("expires_at", self.expires_at)?,
        };
        Ok(Client {
            id: self.id.into(),
            name: ClientName::parse(&self.name)
                .map_err(|error| StoreError::inconsistent("clients", "name", error))?,
            rights,
            created_at: time("created_at", self.created_at)?,
            disabled_at: optional("disabled_at", self.disabled_at)?,
            secrets: Vec::new(),
        })
    }
}

impl SecretColumns {
    fn parse(self) -> Result<ClientSecret, StoreError> {
        let time = |column, micros| from_micros("client_secrets", column, micros);
        let tokens_expire_at = self.tokens_expire_at.map(|micros| time("tokens_expire_at", micros));
        let hash = self.hash.try_into();
        Ok(ClientSecret {
            id: self.id.into(),
            hash: hash
                .map_err(|_| StoreError::inconsistent("client_secrets", "hash", "its length"))?,
            session_id: self.session_id.into(),
            created_at: time("created_at", self.created_at)?,
            tokens_expire_at: tokens_expire_at.transpose()?,
        })
    }
}
