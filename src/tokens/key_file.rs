//! The file of a generated secret: the first start needs no setting.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::is_readable_by_others;
use crate::domain::{SecretKey, SecretKeyError};

/// Reason why a file provides no secret.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The content is not a secret.
    #[error(transparent)]
    Content(#[from] SecretKeyError),
}

/// Reads the secret from a file. If there is no file, creates one with a random secret, readable
/// by its owner only (mode 0600); so is a folder that is missing. Processes that do this at the
/// same time get the same key.
///
/// # Errors
/// Returns [`KeyFileError`] if the file cannot be read or written, or its secret is too short.
pub fn load_or_create(path: &Path) -> Result<SecretKey, KeyFileError> {
    match read_secret(path) {
        Err(KeyFileError::File(error)) if error.kind() == io::ErrorKind::NotFound => {
            create(path)?;
            read_secret(path)
        }
        outcome => outcome,
    }
}

/// Generates a random secret of 32 bytes, in base64url.
///
/// # Errors
/// Returns an error if the operating system returns no random bytes.
pub fn generate_secret() -> io::Result<Zeroizing<String>> {
    let mut secret = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(secret.as_mut()).map_err(|_| io::Error::other("no random bytes"))?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(secret)))
}

/// Reads the secret from a file.
///
/// # Errors
/// Returns [`KeyFileError`] if the file cannot be read, or its secret is too short.
pub fn read_secret(path: &Path) -> Result<SecretKey, KeyFileError> {
    let key = SecretKey::parse(&Zeroizing::new(fs::read(path)?))?;
    if is_readable_by_others(&fs::metadata(path)?) {
        let path = path.display();
        tracing::warn!(%path, "other users of this machine can read the secret");
    }
    Ok(key)
}

/// Writes a random secret to the file, unless another process has created it first.
fn create(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let secret = generate_secret()?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", *secret)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(refused) if refused.error.kind() != io::ErrorKind::AlreadyExists => Err(refused.error),
        // Without this, a power cut may lose the directory entry, and with it the key of every
        // token.
        _ => fs::File::open(folder)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secret_is_generated_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data").join("portcullis.key");

        let first = load_or_create(&path).unwrap();
        let second = load_or_create(&path).unwrap();

        assert_eq!(first.expose(), second.expose());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn concurrent_starts_share_one_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("portcullis.key");

        let keys = std::thread::scope(|scope| {
            let threads = [(); 8].map(|()| scope.spawn(|| load_or_create(&path).unwrap()));
            threads.map(|thread| thread.join().unwrap())
        });

        assert!(keys.iter().all(|key| key.expose() == keys[0].expose()));
    }

    #[test]
    fn short_secret_in_a_file_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("portcullis.key");
        fs::write(&path, "secret").unwrap();

        assert!(matches!(load_or_create(&path), Err(KeyFileError::Content(_))));
        assert_eq!(fs::read(&path).unwrap(), b"secret");
    }
}
