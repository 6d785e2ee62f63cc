//! Stored password hashes, in the PHC string format.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use phc::{Output, PasswordHash as PhcString, Salt};
use thiserror::Error;

const ALGORITHM: &str = "pbkdf2-sha256";

/// PBKDF2-HMAC-SHA256 hash: `$pbkdf2-sha256$i=600000,l=32$<salt>$<key>`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    iterations: NonZeroU32,
    salt: Salt,
    key: Output,
}

/// Reason why a text is not a supported hash.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PasswordHashError {
    /// Not a PHC string, or a salt or key of a length outside the format.
    #[error("not a PHC string: {0}")]
    Malformed(#[from] phc::Error),
    /// A PHC string of another algorithm or with other parameters.
    #[error("not a {ALGORITHM} hash with `i`, `l`, a salt and a key")]
    Unsupported,
}

impl PasswordHash {
    /// Creates a hash from its parts.
    ///
    /// # Errors
    /// Returns [`PasswordHashError::Malformed`] if the salt is not 8 to 48 bytes long or the key
    /// not 10 to 64.
    pub fn new(iterations: NonZeroU32, salt: &[u8], key: &[u8]) -> Result<Self, PasswordHashError> {
        Ok(Self { iterations, salt: Salt::new(salt)?, key: Output::new(key)? })
    }

    /// Returns the number of PBKDF2 iterations.
    #[must_use]
    pub fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// Returns the algorithm and its parameters.
    #[must_use]
    pub fn cost(&self) -> String {
        format!("{ALGORITHM}:{}", self.iterations)
    }

    /// Returns the hash in the format of werkzeug; `None` if it has none.
    #[must_use]
    pub fn to_werkzeug(&self) -> Option<String> {
        None
    }

    /// Returns the hash in the format of Django; `None` if it has none.
    #[must_use]
    pub fn to_django(&self) -> Option<String> {
        None
    }

    /// Returns the salt.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Returns the derived key.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.key.as_bytes()
    }
}

impl FromStr for PasswordHash {
    type Err = PasswordHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let phc = PhcString::new(text)?;
        let (Some(salt), Some(key)) = (phc.salt, phc.hash) else {
            return Err(PasswordHashError::Unsupported);
        };
        let iterations = phc.params.get_decimal("i").and_then(NonZeroU32::new);
        let length = phc.params.get_decimal("l").and_then(|length| usize::try_from(length).ok());
        let is_supported = phc.algorithm.as_str() == ALGORITHM
            && phc.version.is_none()
            && phc.params.iter().count() == 2
            && length == Some(key.len());
        match iterations {
            Some(iterations) if is_supported => Ok(Self { iterations, salt, key }),
            _ => Err(PasswordHashError::Unsupported),
        }
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { iterations, salt, key } = self;
        write!(f, "${ALGORITHM}$i={iterations},l={}${salt}${key}", key.len())
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash(i={}, ..)", self.iterations)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "$pbkdf2-sha256$i=600000,l=32$AAECAwQFBgcICQoLDA0ODw$\
                         AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    #[test]
    fn valid_string_is_parsed() {
        let hash: PasswordHash = VALID.parse().unwrap();

        assert_eq!(hash.iterations().get(), 600_000);
        assert_eq!(hash.salt(), (0..16).collect::<Vec<u8>>());
        assert_eq!(hash.key(), (0..32).collect::<Vec<u8>>());
    }

    #[test]
    fn other_strings_are_refused() {
        let tampered = [
            ("pbkdf2-sha256", "argon2id"),
            ("i=600000", "i=0"),
            ("i=600000", "i=99999999999"),
            ("i=600000,", ""),
            ("l=32", "l=31"),
            (",l=32", ""),
            ("l=32", "l=32,x=1"),
            ("$i=", "$v=1$i="),
            ("$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", ""),
        ];
        for (from, to) in tampered {
            let text = VALID.replace(from, to);
            assert!(text.parse::<PasswordHash>().is_err(), "{text}");
        }
    }

    #[test]
    fn debug_hides_salt_and_key() {
        let hash: PasswordHash = VALID.parse().unwrap();

        assert_eq!(format!("{hash:?}"), "PasswordHash(i=600000, ..)");
    }

    proptest! {
        #[test]
        fn written_hash_is_parsed_back(
            iterations in 1..=u32::MAX,
            salt in prop::collection::vec(any::<u8>(), 8..=48),
            key in prop::collection::vec(any::<u8>(), 10..=64),
        ) {
            let iterations = NonZeroU32::new(iterations).unwrap();
            let hash = PasswordHash::new(iterations, &salt, &key).unwrap();
            prop_assert_eq!(hash.to_string().parse::<PasswordHash>().unwrap(), hash);
        }

        #[test]
        fn parser_never_panics(text in any::<String>()) {
            let _ = text.parse::<PasswordHash>();
        }
    }
}
