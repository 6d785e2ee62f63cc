//! Reset codes: their text and their hash.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::root_key::CryptoError;
use crate::domain::ResetCodeHash;

/// Beginning of every reset code, so that tools find one that has leaked.
const PREFIX: &str = "pcr_";

/// Generates a reset code of 256 random bits, in base64url after a prefix, and its hash.
///
/// # Errors
/// Returns [`CryptoError`] if the operating system provides no random bytes.
pub fn generate_reset_code() -> Result<(Zeroizing<String>, ResetCodeHash), CryptoError> {
    let mut bytes = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(bytes.as_mut())?;
    let code = Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())));
    let hash = hash_reset_code(&code);
    Ok((code, hash))
}

/// Returns the hash of a reset code. It needs no salt and one round: the code cannot be guessed.
#[must_use]
pub fn hash_reset_code(code: &str) -> ResetCodeHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, code.as_bytes()).as_ref());
    hash.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_random_and_hashed() {
        let (code, hash) = generate_reset_code().unwrap();
        let (other, other_hash) = generate_reset_code().unwrap();

        assert!(code.starts_with("pcr_"));
        assert_eq!(code.len(), 47);
        assert_eq!(hash_reset_code(&code), hash);
        assert!(code != other && hash != other_hash);
        assert_eq!(format!("{hash:?}"), "ResetCodeHash(..)");
    }
}
