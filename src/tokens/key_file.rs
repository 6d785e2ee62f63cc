//! The file that keeps a signing key made here, so that a first start needs no setting.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::domain::{SigningKey, SigningKeyError};

/// Why a file gives no signing key.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] io::Error),
    /// What it holds is no signing key.
    #[error("the secret in it {0}")]
    Content(#[from] SigningKeyError),
}

/// Reads the signing key kept in a file, or makes a random one and keeps it there, for its owner
/// alone (mode 0600). Processes that do this at once end up with the same key.
///
/// # Errors
/// When the file cannot be read or written, or holds too short a secret.
pub fn load_or_create(path: &Path) -> Result<SigningKey, KeyFileError> {
    match read(path) {
        Err(KeyFileError::File(error)) if error.kind() == io::ErrorKind::NotFound => {
            create(path)?;
            read(path)
        }
        outcome => outcome,
    }
}

/// Makes a random secret of 32 bytes, in base64url.
///
/// # Errors
/// When the operating system has no random bytes to give.
pub fn generate_secret() -> io::Result<Zeroizing<String>> {
    let mut secret = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(secret.as_mut()).map_err(|_| io::Error::other("no random bytes"))?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(secret)))
}

fn read(path: &Path) -> Result<SigningKey, KeyFileError> {
    Ok(SigningKey::parse(&Zeroizing::new(fs::read(path)?))?)
}

/// Puts a random secret where none is. One that got there first is left as it is.
fn create(path: &Path) -> io::Result<()> {
    let named = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = named.unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let secret = generate_secret()?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", *secret)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(refused) if refused.error.kind() != io::ErrorKind::AlreadyExists => Err(refused.error),
        // Without this a power cut may take the name of the file, and with it every token.
        _ => fs::File::open(folder)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data").join("portcullis.key");

        let first = load_or_create(&path).unwrap();
        let second = load_or_create(&path).unwrap();

        assert_eq!(first.expose(), second.expose());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn many_that_start_at_once_share_one_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("portcullis.key");

        let keys = std::thread::scope(|scope| {
            let threads = [(); 8].map(|()| scope.spawn(|| load_or_create(&path).unwrap()));
            threads.map(|thread| thread.join().unwrap())
        });

        assert!(keys.iter().all(|key| key.expose() == keys[0].expose()));
    }

    #[test]
    fn a_file_with_too_short_a_secret_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("portcullis.key");
        fs::write(&path, "secret").unwrap();

        assert!(matches!(load_or_create(&path), Err(KeyFileError::Content(_))));
        assert_eq!(fs::read(&path).unwrap(), b"secret");
    }
}
