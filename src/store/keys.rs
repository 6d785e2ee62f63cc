//! The root key and the signing keys: their trait, and the row parsing that both dialects share.

use async_trait::async_trait;
use thiserror::Error;
use time::OffsetDateTime;

use super::error::StoreError;
use crate::domain::{KeyChange, KeyError, KeyId, KeySet, KeyState, SigningKey, WrappedKey};

/// Storage of the root key and of the signing keys.
#[async_trait]
pub trait KeyStore {
    /// Returns every wrapping of the root key.
    async fn root_key_wrappings(&self) -> Result<Vec<WrappedKey>, StoreError>;

    /// Inserts the first wrapping of a new root key. Returns `false` and inserts nothing if there is
    /// a root key.
    async fn insert_root_key(&self, wrapped: &WrappedKey) -> Result<bool, StoreError>;

    /// Adds a wrapping of the root key, unless there is one for its secret.
    async fn add_wrapping(&self, wrapped: &WrappedKey) -> Result<(), StoreError>;

    /// Deletes the wrappings for all secrets but one. Returns their number.
    async fn delete_other_wrappings(&self, secret_id: &str) -> Result<u64, StoreError>;

    /// Reads all signing keys.
    async fn read_keys(&self) -> Result<KeySet, StoreError>;

    /// Changes the set of signing keys, in one commit with the revocations and audit records.
    /// Returns the set, or `None` if nothing changed. Concurrent changes wait for each other.
    async fn change_keys(&self, change: &KeyChange) -> Result<Option<KeySet>, KeyWriteError>;

    /// Raises the expiry up to which the active key may sign. Returns the expiry that holds, or
    /// `None` if the key is not active.
    async fn extend_key(
        &self,
        id: KeyId,
        signs_until: OffsetDateTime,
    ) -> Result<Option<OffsetDateTime>, StoreError>;

    /// Stores the issuer of the starting instance. Returns the one before, if it differs.
    async fn replace_issuer(&self, issuer: &str) -> Result<Option<String>, StoreError>;
}

/// Failure to change the signing keys.
#[derive(Debug, Error)]
pub enum KeyWriteError {
    /// The keys do not allow the change.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for KeyWriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Columns of a row of `signing_keys`.
pub(super) struct KeyColumns<'a> {
    pub(super) id: &'a str,
    pub(super) state: &'a str,
    pub(super) public_key: Vec<u8>,
    pub(super) sealed_private_key: Vec<u8>,
    pub(super) published_at: OffsetDateTime,
    pub(super) activated_at: Option<OffsetDateTime>,
    pub(super) signs_until: OffsetDateTime,
}

impl KeyColumns<'_> {
    pub(super) fn parse(self) -> Result<SigningKey, StoreError> {
        let id = self.id.parse();
        let state = self.state.parse::<KeyState>();
        Ok(SigningKey {
            id: id.map_err(|error| StoreError::inconsistent("signing_keys", "id", error))?,
            state: state
                .map_err(|error| StoreError::inconsistent("signing_keys", "state", error))?,
            public_key: self.public_key,
            sealed_private_key: self.sealed_private_key,
            published_at: self.published_at,
            activated_at: self.activated_at,
            signs_until: self.signs_until,
        })
    }
}
