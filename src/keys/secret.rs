//! `JWT_SECRET_KEY` and the root key that it decrypts.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::{KeySettings, SecretKeySource};
use crate::domain::{Requester, SecretKey, WrappedKey};
use crate::store::{KeyStore, StoreError};
use crate::tokens::{self, CryptoError, KeyFileError, RootKey};

/// Failure to decrypt the root key.
#[derive(Debug, Error)]
pub enum OpenKeysError {
    /// The root key is encrypted with other secrets.
    #[error(
        "JWT_SECRET_KEY is not the secret that protects the keys in the database; set that one, \
         or to change it, set JWT_SECRET_KEY_PREVIOUS to it"
    )]
    WrongSecret,
    /// The file of the secret is missing, and the database needs that secret.
    #[error(
        "{} is missing, which has the secret that protects the keys in the database; restore it, \
         or set JWT_SECRET_KEY",
        .0.display()
    )]
    SecretLost(PathBuf),
    /// The signing keys have no root key.
    #[error(
        "the database has signing keys, but not the root key that they are encrypted with; restore \
         root_key_wrappings from a backup, or delete the rows of signing_keys to end every token"
    )]
    RootKeyLost,
    /// The file of the secret cannot be used.
    #[error("failed to use the secret in {}", path.display())]
    SecretFile { path: PathBuf, source: KeyFileError },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The root key was altered in the database, or none could be made.
    #[error("failed to make or to decrypt the root key")]
    Crypto(#[from] CryptoError),
}

/// Returns the secret and the root key. In a new database, both are made where they are missing.
///
/// With a previous secret, the root key is also encrypted with the new one, so that both can decrypt
/// it from then on.
///
/// # Errors
/// Returns an [`OpenKeysError`].
pub async fn open_root_key(
    store: &dyn KeyStore,
    settings: &KeySettings,
) -> Result<(SecretKey, RootKey), OpenKeysError> {
    let mut wrappings = store.root_key_wrappings().await?;
    let secret = load_secret(&settings.secret, &wrappings)?;
    if wrappings.is_empty() {
        let root = RootKey::generate()?;
        if store.insert_root_key(&root.wrap(&secret)?).await? {
            return Ok((secret, root));
        }
        // Another instance was faster.
        wrappings = store.root_key_wrappings().await?;
        if wrappings.is_empty() {
            return Err(OpenKeysError::RootKeyLost);
        }
    }
    if let Some(root) = RootKey::unwrap_with(&secret, &wrappings)? {
        return Ok((secret, root));
    }
    let previous = settings.previous_secret.as_ref().ok_or(OpenKeysError::WrongSecret)?;
    let root = RootKey::unwrap_with(previous, &wrappings)?.ok_or(OpenKeysError::WrongSecret)?;
    store.add_wrapping(&root.wrap(&secret)?).await?;
    Ok((secret, root))
}

/// State of the secret and of the root key, for `portcullis doctor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretState {
    /// The database has no root key yet. The next start makes it.
    New,
    /// The previous secret decrypts the root key. The next start adds the present one.
    NotAdded,
    /// The secret decrypts the root key, and so do some others.
    Opens { others: usize },
}

/// Returns the state of the secret. Changes nothing.
///
/// # Errors
/// Returns an [`OpenKeysError`] where the service would not start.
pub async fn inspect_secret(
    store: &dyn KeyStore,
    settings: &KeySettings,
) -> Result<SecretState, OpenKeysError> {
    let wrappings = store.root_key_wrappings().await?;
    if wrappings.is_empty() {
        let keys = store.read_keys().await?;
        let has_keys = !keys.keys.is_empty() || !keys.broken.is_empty();
        return if has_keys { Err(OpenKeysError::RootKeyLost) } else { Ok(SecretState::New) };
    }
    let secret = match &settings.secret {
        SecretKeySource::Given(secret) => secret.clone(),
        SecretKeySource::KeptIn(path) => read_existing(path)?,
    };
    if RootKey::unwrap_with(&secret, &wrappings)?.is_some() {
        return Ok(SecretState::Opens { others: wrappings.len() - 1 });
    }
    let previous = settings.previous_secret.as_ref().ok_or(OpenKeysError::WrongSecret)?;
    match RootKey::unwrap_with(previous, &wrappings)? {
        Some(_) => Ok(SecretState::NotAdded),
        None => Err(OpenKeysError::WrongSecret),
    }
}

/// Deletes what the other secrets can decrypt, for an operator on the command line. Returns the
/// number of those secrets.
///
/// # Errors
/// Returns an [`OpenKeysError`]: the present secret must decrypt the root key.
pub async fn retire_other_secrets(
    store: &dyn KeyStore,
    settings: &KeySettings,
) -> Result<usize, OpenKeysError> {
    let wrappings = store.root_key_wrappings().await?;
    let secret = load_secret(&settings.secret, &wrappings)?;
    RootKey::unwrap_with(&secret, &wrappings)?.ok_or(OpenKeysError::WrongSecret)?;
    let id = tokens::secret_id(&secret)?;
    let retired = store.delete_other_wrappings(&id, &Requester::COMMAND_LINE).await?;
    retired.ok_or(OpenKeysError::WrongSecret)
}

/// Loads the secret. Makes one where none is set and none is needed yet.
fn load_secret(
    source: &SecretKeySource,
    wrappings: &[WrappedKey],
) -> Result<SecretKey, OpenKeysError> {
    let secret = match source {
        SecretKeySource::Given(secret) => secret.clone(),
        SecretKeySource::KeptIn(path) if wrappings.is_empty() => load_or_create(path)?,
        SecretKeySource::KeptIn(path) => read_existing(path)?,
    };
    if secret.is_weak() {
        tracing::warn!("JWT_SECRET_KEY looks guessable: make one with `openssl rand -hex 32`");
    }
    Ok(secret)
}

/// Reads the secret that the database needs.
fn read_existing(path: &Path) -> Result<SecretKey, OpenKeysError> {
    tokens::read_secret(path).map_err(|source| match source {
        KeyFileError::File(error) if error.kind() == io::ErrorKind::NotFound => {
            OpenKeysError::SecretLost(path.to_owned())
        }
        source => OpenKeysError::SecretFile { path: path.to_owned(), source },
    })
}

fn load_or_create(path: &Path) -> Result<SecretKey, OpenKeysError> {
    tokens::load_or_create(path)
        .map_err(|source| OpenKeysError::SecretFile { path: path.to_owned(), source })
}
