//! The secret that signs access tokens.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

/// Minimum length: that of the output of HMAC-SHA-256 (RFC 7518 section 3.2).
const MIN_BYTES: usize = 32;

/// Secret of at least 32 bytes.
#[derive(Clone)]
pub struct SigningKey(Zeroizing<Vec<u8>>);

/// Reason why a secret cannot sign tokens.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SigningKeyError {
    /// Fewer than 32 bytes.
    #[error(
        "is {0} bytes long and must be at least {MIN_BYTES}: make one with `openssl rand -hex 32`"
    )]
    TooShort(usize),
}

impl SigningKey {
    /// Parses a secret. Surrounding white space is removed.
    ///
    /// # Errors
    /// Returns [`SigningKeyError::TooShort`] if fewer than 32 bytes remain.
    pub fn parse(bytes: &[u8]) -> Result<Self, SigningKeyError> {
        let bytes = bytes.trim_ascii();
        if bytes.len() < MIN_BYTES {
            return Err(SigningKeyError::TooShort(bytes.len()));
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// Returns the secret.
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
    fn short_secret_is_refused_with_advice() {
        let error = SigningKey::parse(&[b'x'; 31]).unwrap_err();

        assert!(error.to_string().contains("openssl rand -hex 32"), "{error}");
        assert!(SigningKey::parse(&[b'x'; 32]).is_ok());
    }

    #[test]
    fn surrounding_white_space_is_removed() {
        let key = SigningKey::parse(b" 0123456789abcdef0123456789abcdef\n").unwrap();

        assert_eq!(key.expose(), b"0123456789abcdef0123456789abcdef");
        assert!(SigningKey::parse(&[b' '; 40]).is_err());
    }

    #[test]
    fn debug_hides_the_secret() {
        let key = SigningKey::parse(&[b'x'; 32]).unwrap();

        assert_eq!(format!("{key:?}"), "SigningKey(..)");
    }
}
