//! The keys of the service in the database: the root key and its secrets, and the changes to the
//! signing keys. The running service and the command line share them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use time::OffsetDateTime;

use crate::config::SecretKeySource;
use crate::domain::{
    KeyChange, KeyEdit, KeyError, KeyId, KeyPeriods, KeySet, NewKey, Requester, SecretKey,
};
use crate::store::{KeyStore, KeyWriteError, StoreError};
use crate::tokens::{self, CryptoError, KeyFileError, RootKey};

/// Signing keys of a database whose root key is known.
#[derive(Clone)]
pub struct Keys {
    store: Arc<dyn KeyStore>,
    root: Arc<RootKey>,
    periods: KeyPeriods,
}

/// Failure to decrypt the root key.
#[derive(Debug, Error)]
pub enum OpenKeysError {
    /// The root key is encrypted with other secrets.
    #[error(
        "JWT_SECRET_KEY is not the secret that protects the keys in the database; set that one, \
         or to change it, set JWT_SECRET_KEY_PREVIOUS to it"
    )]
    WrongSecret,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The root key was altered in the database, or none could be made.
    #[error("failed to make or to decrypt the root key")]
    Crypto(#[from] CryptoError),
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

/// Failure to load the secret.
#[derive(Debug, Error)]
#[error("failed to use the secret in {}", path.display())]
pub struct LoadSecretError {
    path: PathBuf,
    source: KeyFileError,
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
    /// Decrypts the root key with a secret, or makes one in a new database. With a previous secret,
    /// it is also encrypted with the new one, so that both can decrypt it from then on.
    ///
    /// # Errors
    /// Returns an [`OpenKeysError`].
    pub async fn open(
        store: Arc<dyn KeyStore>,
        secret: &SecretKey,
        previous: Option<&SecretKey>,
        periods: KeyPeriods,
    ) -> Result<Self, OpenKeysError> {
        let root = Arc::new(open_root_key(&*store, secret, previous).await?);
        Ok(Self { store, root, periods })
    }

    /// Returns the root key.
    #[must_use]
    pub fn root(&self) -> &Arc<RootKey> {
        &self.root
    }

    /// Reads the signing keys.
    ///
    /// # Errors
    /// Returns a [`StoreError`] if the database fails.
    pub async fn read(&self) -> Result<KeySet, StoreError> {
        self.store.read_keys().await
    }

    /// Returns the signing keys. Makes the first ones in a new database.
    ///
    /// # Errors
    /// Returns a [`KeysError`].
    pub async fn start(&self, at: OffsetDateTime) -> Result<KeySet, KeysError> {
        let edit = KeyEdit::Start(self.new_keys()?);
        match self.change(edit, at, Requester::SERVICE).await? {
            Some(keys) => Ok(keys),
            None => Ok(self.read().await?),
        }
    }

    /// Activates the pending key and publishes a new one.
    ///
    /// # Errors
    /// Returns a [`KeysError`], [`KeyError::TooEarly`] for example.
    pub async fn rotate(
        &self,
        at: OffsetDateTime,
        requester: Requester,
    ) -> Result<Option<KeySet>, KeysError> {
        self.change(KeyEdit::Rotate(self.new_key()?), at, requester).await
    }

    /// Rotates if the active key has signed for as long as the interval. Of several instances that
    /// do so at once, one rotates.
    ///
    /// # Errors
    /// Returns a [`KeysError`].
    pub async fn rotate_if_due(
        &self,
        interval: Duration,
        at: OffsetDateTime,
    ) -> Result<Option<KeySet>, KeysError> {
        let edit = KeyEdit::RotateIfDue(interval, self.new_key()?);
        self.change(edit, at, Requester::SERVICE).await
    }

    /// Removes a key, or all of them, and revokes every token that they signed.
    ///
    /// # Errors
    /// Returns a [`KeysError`], [`KeyError::NotFound`] for example.
    pub async fn revoke(
        &self,
        id: Option<KeyId>,
        at: OffsetDateTime,
        requester: Requester,
    ) -> Result<Option<KeySet>, KeysError> {
        let edit = match id {
            Some(id) => KeyEdit::Revoke(id, self.new_key()?),
            None => KeyEdit::RevokeAll(self.new_keys()?),
        };
        self.change(edit, at, requester).await
    }

    /// Deletes the keys whose tokens have all expired.
    ///
    /// # Errors
    /// Returns a [`KeysError`].
    pub async fn delete_expired(&self, at: OffsetDateTime) -> Result<Option<KeySet>, KeysError> {
        self.change(KeyEdit::DeleteExpired, at, Requester::SERVICE).await
    }

    /// Raises the expiry up to which the active key may sign. Returns the expiry that holds, or
    /// `None` if the key is not active.
    ///
    /// # Errors
    /// Returns a [`StoreError`] if the database fails.
    pub async fn extend(
        &self,
        id: KeyId,
        at: OffsetDateTime,
    ) -> Result<Option<OffsetDateTime>, StoreError> {
        self.store.extend_key(id, at + self.periods.horizon).await
    }

    async fn change(
        &self,
        edit: KeyEdit,
        at: OffsetDateTime,
        requester: Requester,
    ) -> Result<Option<KeySet>, KeysError> {
        let change = KeyChange { edit, periods: self.periods, at, requester };
        Ok(self.store.change_keys(&change).await?)
    }

    fn new_key(&self) -> Result<NewKey, CryptoError> {
        tokens::generate_key(&self.root)
    }

    fn new_keys(&self) -> Result<[NewKey; 2], CryptoError> {
        Ok([self.new_key()?, self.new_key()?])
    }
}

/// Loads the secret that protects the keys. Makes one where none is set and no file exists.
///
/// # Errors
/// Returns a [`LoadSecretError`] if the file of the secret cannot be used.
pub fn load_secret(source: &SecretKeySource) -> Result<SecretKey, LoadSecretError> {
    let secret = match source {
        SecretKeySource::Given(secret) => secret.clone(),
        SecretKeySource::KeptIn(path) => tokens::load_or_create(path)
            .map_err(|source| LoadSecretError { path: path.clone(), source })?,
    };
    if secret.is_weak() {
        tracing::warn!("JWT_SECRET_KEY looks guessable: make one with `openssl rand -hex 32`");
    }
    Ok(secret)
}

/// Deletes the wrappings of the root key for all secrets but the given one. Returns their number.
///
/// # Errors
/// Returns an [`OpenKeysError`]: without another secret, the given one must decrypt the root key.
pub async fn retire_other_secrets(
    store: &dyn KeyStore,
    secret: &SecretKey,
) -> Result<u64, OpenKeysError> {
    let wrappings = store.root_key_wrappings().await?;
    RootKey::unwrap_with(secret, &wrappings)?.ok_or(OpenKeysError::WrongSecret)?;
    Ok(store.delete_other_wrappings(&tokens::secret_id(secret)?).await?)
}

async fn open_root_key(
    store: &dyn KeyStore,
    secret: &SecretKey,
    previous: Option<&SecretKey>,
) -> Result<RootKey, OpenKeysError> {
    let mut wrappings = store.root_key_wrappings().await?;
    if wrappings.is_empty() {
        let root = RootKey::generate()?;
        if store.insert_root_key(&root.wrap(secret)?).await? {
            return Ok(root);
        }
        // Another instance was faster.
        wrappings = store.root_key_wrappings().await?;
    }
    if let Some(root) = RootKey::unwrap_with(secret, &wrappings)? {
        return Ok(root);
    }
    let previous = previous.ok_or(OpenKeysError::WrongSecret)?;
    let root = RootKey::unwrap_with(previous, &wrappings)?.ok_or(OpenKeysError::WrongSecret)?;
    store.add_wrapping(&root.wrap(secret)?).await?;
    Ok(root)
}
