//! The secret that signs tokens.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

/// The key of HMAC-SHA-256 must be as long as its output (RFC 7518 section 3.2).
const MIN_BYTES: usize = 32;

/// A secret of at least 32 bytes.
#[derive(Clone)]
pub struct SigningKey(Zeroizing<Vec<u8>>);

/// Why a secret cannot sign tokens.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SigningKeyError {
    /// Too easy to guess.
    #[error(
        "is {0} bytes long and must be at least {MIN_BYTES}: make one with `openssl rand -hex 32`"
    )]
    TooShort(usize),
}

impl SigningKey {
    /// Takes a secret from its bytes; white space around it does not count.
    ///
    /// # Errors
    /// When it is under 32 bytes long.
    pub fn parse(bytes: &[u8]) -> Result<Self, SigningKeyError> {
        let bytes = bytes.trim_ascii();
        if bytes.len() < MIN_BYTES {
            return Err(SigningKeyError::TooShort(bytes.len()));
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// Returns the secret itself.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_under_32_bytes_is_refused_with_the_command_that_makes_a_good_one() {
        let error = SigningKey::parse(&[b'x'; 31]).unwrap_err();

        assert!(error.to_string().contains("openssl rand -hex 32"), "{error}");
        assert!(SigningKey::parse(&[b'x'; 32]).is_ok());
    }

    #[test]
    fn white_space_around_a_secret_does_not_count() {
        let key = SigningKey::parse(b" 0123456789abcdef0123456789abcdef\n").unwrap();

        assert_eq!(key.expose(), b"0123456789abcdef0123456789abcdef");
        assert!(SigningKey::parse(&[b' '; 40]).is_err());
    }

    #[test]
    fn debug_shows_nothing() {
        let key = SigningKey::parse(&[b'x'; 32]).unwrap();

        assert_eq!(format!("{key:?}"), "SigningKey(..)");
    }
}
