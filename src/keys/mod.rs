//! The keys of the service in the database. The running service and the command line share them.

mod secret;

use std::sync::Arc;

use thiserror::Error;

use crate::clock::Clock;
use crate::domain::{
    ChangedKeys, KeyChange, KeyEdit, KeyError, KeyId, KeyPeriods, KeySet, NewKey, Requester,
};
use crate::store::{KeyStore, KeyWriteError, StoreError};
use crate::tokens::{self, CryptoError, RootKey};

pub use secret::{OpenKeysError, SecretState, inspect_secret, open_root_key, retire_other_secrets};

/// Signing keys of a database whose root key is known.
#[derive(Clone)]
pub struct Keys {
    pub store: Arc<dyn KeyStore>,
    pub root: Arc<RootKey>,
    pub periods: KeyPeriods,
    /// Clock of this machine. A key becomes active, or is deleted, only if it and that of the
    /// database agree that it is time.
    pub host: Arc<dyn Clock>,
}

/// Failure to change the signing keys.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The keys do not allow the change.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No key could be made.
    #[error("failed to make a signing key")]
    Crypto(#[from] CryptoError),
}

impl From<KeyWriteError> for KeysError {
    fn from(error: KeyWriteError) -> Self {
        match error {
            KeyWriteError::Key(error) => Self::Key(error),
            KeyWriteError::Store(error) => Self::Store(error),
        }
    }
}

impl Keys {
    /// Reads the signing keys.
    ///
    /// # Errors
    /// Returns a [`StoreError`] if the database fails.
    pub async fn read(&self) -> Result<KeySet, StoreError> {
        self.store.read_keys().await
    }

    /// Returns the signing keys, after it has provided those that are missing.
    ///
    /// # Errors
    /// Returns a [`KeysError`].
    pub async fn provide(&self) -> Result<KeySet, KeysError> {
        let edit = KeyEdit::Provide(self.new_keys()?);
        let changed = self.change(edit, Requester::SERVICE).await?;
        Ok(self.read_after(changed).await?)
    }

    /// Returns the signing keys after a change. Reads them if it changed nothing.
    ///
    /// # Errors
    /// Returns a [`StoreError`] if the database fails.
    pub async fn read_after(&self, changed: Option<ChangedKeys>) -> Result<KeySet, StoreError> {
        match changed {
            Some(changed) => Ok(changed.set),
            None => self.read().await,
        }
    }

    /// Activates the pending key and publishes a new one.
    ///
    /// # Errors
    /// Returns a [`KeysError`], [`KeyError::TooEarly`] for example.
    pub async fn rotate(&self, requester: Requester) -> Result<Option<ChangedKeys>, KeysError> {
        self.change(KeyEdit::Rotate(self.new_key()?), requester).await
    }

    /// Removes a key, or all of them, and revokes every token that they signed.
    ///
    /// # Errors
    /// Returns a [`KeysError`], [`KeyError::NotFound`] for example.
    pub async fn revoke(
        &self,
        id: Option<KeyId>,
        requester: Requester,
    ) -> Result<Option<ChangedKeys>, KeysError> {
        let edit = match id {
            Some(id) => KeyEdit::Revoke(id, self.new_key()?),
            None => KeyEdit::RevokeAll(self.new_keys()?),
        };
        self.change(edit, requester).await
    }

    /// Changes the signing keys. Returns `None` if nothing changed: another instance did it before.
    ///
    /// # Errors
    /// Returns a [`KeysError`].
    pub async fn change(
        &self,
        edit: KeyEdit,
        requester: Requester,
    ) -> Result<Option<ChangedKeys>, KeysError> {
        let change = KeyChange { edit, periods: self.periods, at: self.host.now(), requester };
        Ok(self.store.change_keys(&change).await?)
    }

    /// Generates a key pair.
    ///
    /// # Errors
    /// Returns [`CryptoError`] if the operating system provides no random bytes.
    pub fn new_key(&self) -> Result<NewKey, CryptoError> {
        tokens::generate_key(&self.root)
    }

    /// Generates an active and a pending key pair.
    ///
    /// # Errors
    /// Returns [`CryptoError`] if the operating system provides no random bytes.
    pub fn new_keys(&self) -> Result<[NewKey; 2], CryptoError> {
        Ok([self.new_key()?, self.new_key()?])
    }
}
