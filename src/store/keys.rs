//! The root key and the signing keys: their trait, and the row parsing that both dialects share.

use std::cmp::Reverse;

use async_trait::async_trait;
use strum::IntoStaticStr;
use thiserror::Error;

use super::columns::from_micros;
use super::error::StoreError;
use crate::domain::{
    ChangedKeys, KeyChange, KeyError, KeySet, KeyState, Requester, SigningKey, WrappedKey,
};

/// Storage of the root key and of the signing keys.
#[async_trait]
pub trait KeyStore {
    /// Returns every wrapping of the root key.
    async fn root_key_wrappings(&self) -> Result<Vec<WrappedKey>, StoreError>;

    /// Inserts the first wrapping of a new root key, and its audit record. Returns `false` and
    /// inserts nothing if there is a root key, or a signing key, which needs the root key that it
    /// was made with.
    async fn insert_root_key(&self, wrapped: &WrappedKey) -> Result<bool, StoreError>;

    /// Adds a wrapping of the root key, and its audit record, unless there is one for its secret.
    async fn add_wrapping(&self, wrapped: &WrappedKey) -> Result<(), StoreError>;

    /// Deletes the wrappings for all secrets but one, and inserts an audit record for each. Returns
    /// their number, or `None` and deletes nothing if there is none for that secret.
    async fn delete_other_wrappings(
        &self,
        secret_id: &str,
        requester: &Requester,
    ) -> Result<Option<usize>, StoreError>;

    /// Reads all signing keys.
    async fn read_keys(&self) -> Result<KeySet, StoreError>;

    /// Changes the set of signing keys, in one commit with the revocations and audit records.
    /// Returns `None` if nothing changed. Concurrent changes wait for each other.
    async fn change_keys(&self, change: &KeyChange) -> Result<Option<ChangedKeys>, KeyWriteError>;

    /// Stores a setting of the starting instance. Returns the value before, if it differs.
    async fn announce(
        &self,
        setting: SharedSetting,
        value: &str,
    ) -> Result<Option<String>, StoreError>;
}

/// Setting that all instances should share, since they refuse each other's access tokens otherwise.
/// The names of the variants are columns of `shared_state`.
#[derive(Clone, Copy, Debug, IntoStaticStr)]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum SharedSetting {
    Issuer,
    Algorithm,
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

/// Columns of a row of `signing_keys`. Times are in microseconds since the Unix epoch.
pub(super) struct KeyColumns {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) public_key: Vec<u8>,
    pub(super) sealed_private_key: Vec<u8>,
    pub(super) published_at: i64,
    pub(super) known_at: i64,
    pub(super) activated_at: Option<i64>,
    pub(super) signs_until: i64,
}

impl KeyColumns {
    /// Adds the key to a set. A row that does not parse is noted.
    pub(super) fn add_to(self, set: &mut KeySet) {
        let id = self.id.clone();
        match self.parse() {
            Ok(key) => set.keys.push(key),
            Err(_) => set.broken.push(id),
        }
    }

    fn parse(self) -> Result<SigningKey, StoreError> {
        let time = |column, micros| from_micros("signing_keys", column, micros);
        let id = self.id.parse();
        let state = self.state.parse::<KeyState>();
        let activated_at = self.activated_at.map(|micros| time("activated_at", micros));
        Ok(SigningKey {
            id: id.map_err(|error| StoreError::inconsistent("signing_keys", "id", error))?,
            state: state
                .map_err(|error| StoreError::inconsistent("signing_keys", "state", error))?,
            public_key: self.public_key,
            sealed_private_key: self.sealed_private_key,
            published_at: time("published_at", self.published_at)?,
            known_at: time("known_at", self.known_at)?,
            activated_at: activated_at.transpose()?,
            signs_until: time("signs_until", self.signs_until)?,
        })
    }
}

/// Returns the keys that a change has added or altered, in an order in which a key leaves a state
/// before the next one enters it: the database allows one pending and one active key.
pub(super) fn written_keys<'a>(
    before: &'a [SigningKey],
    after: &'a [SigningKey],
) -> Vec<&'a SigningKey> {
    let mut written: Vec<_> = after.iter().filter(|key| !before.contains(key)).collect();
    written.sort_by_key(|key| Reverse(key.state));
    written
}

/// Returns the ids of the keys that a change has removed.
pub(super) fn removed_ids(before: &[SigningKey], after: &[SigningKey]) -> Vec<String> {
    let is_removed = |key: &&SigningKey| after.iter().all(|kept| kept.id != key.id);
    before.iter().filter(is_removed).map(|key| key.id.to_string()).collect()
}
