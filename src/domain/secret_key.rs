//! `JWT_SECRET_KEY`: the secret that unwraps the root key, and signs access tokens in HS256 mode.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

/// Minimum length: that of the output of HMAC-SHA-256 (RFC 7518 section 3.2).
const MIN_BYTES: usize = 32;

/// Secret of at least 32 bytes.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<Vec<u8>>);

/// Reason to refuse a secret.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SecretKeyError {
    /// Fewer than 32 bytes.
    #[error(
        "is {0} bytes long and must be at least {MIN_BYTES}: make one with `openssl rand -hex 32`"
    )]
    TooShort(usize),
}

impl SecretKey {
    /// Parses a secret. Surrounding white space is removed.
    ///
    /// # Errors
    /// Returns [`SecretKeyError::TooShort`] if fewer than 32 bytes remain.
    pub fn parse(bytes: &[u8]) -> Result<Self, SecretKeyError> {
        let bytes = bytes.trim_ascii();
        if bytes.len() < MIN_BYTES {
            return Err(SecretKeyError::TooShort(bytes.len()));
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// Returns the secret.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns `true` if the secret does not look random: repeated text, or few different bytes.
    ///
    /// This estimates an upper bound of its entropy: that of its distribution of bytes, for each
    /// byte of the shortest text that it repeats. 32 random hexadecimal digits have about 115 bits.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        const LEAST_BITS: f64 = 96.0;
        let bytes = self.expose();
        let is_period =
            |length: &usize| bytes.iter().eq(bytes.iter().cycle().skip(*length).take(bytes.len()));
        let period = (1..bytes.len()).find(is_period).unwrap_or(bytes.len());
        let mut counts = [0_u32; 256];
        for &byte in &bytes[..period] {
            counts[usize::from(byte)] += 1;
        }
        let length = f64::from(counts.iter().sum::<u32>());
        let present = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count));
        let bits: f64 = present.map(|count| count * (length / count).log2()).sum();
        bits < LEAST_BITS
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_secret_is_refused_with_advice() {
        let error = SecretKey::parse(&[b'x'; 31]).unwrap_err();

        assert!(error.to_string().contains("openssl rand -hex 32"), "{error}");
        assert!(SecretKey::parse(&[b'x'; 32]).is_ok());
    }

    #[test]
    fn surrounding_white_space_is_removed() {
        let key = SecretKey::parse(b" 0123456789abcdef0123456789abcdef\n").unwrap();

        assert_eq!(key.expose(), b"0123456789abcdef0123456789abcdef");
        assert!(SecretKey::parse(&[b' '; 40]).is_err());
    }

    #[test]
    fn repeated_or_uniform_secret_is_weak() {
        let is_weak = |text: &str| SecretKey::parse(text.as_bytes()).unwrap().is_weak();

        for weak in [
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "0123456789abcdef0123456789abcdef",
            "change-me!change-me!change-me!change-me!",
            "passwordpasswordpasswordpassword1",
            "00000000000000000000000000000000000000000001",
        ] {
            assert!(is_weak(weak), "{weak}");
        }
        for random in [
            "1c6e0d5b8a97f2435be8d1c0a46f3927",
            "wYd3v0m1xv3hJ7kq2N5sT8bRzCfGpLuA",
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        ] {
            assert!(!is_weak(random), "{random}");
        }
    }

    #[test]
    fn debug_hides_the_secret() {
        let key = SecretKey::parse(&[b'x'; 32]).unwrap();

        assert_eq!(format!("{key:?}"), "SecretKey(..)");
    }
}
