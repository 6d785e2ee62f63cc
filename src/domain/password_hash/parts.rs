//! Parts of a password hash.

use std::ops::RangeInclusive;

use super::{HashCost, PasswordHashError};

/// Greatest length of a salt, in bytes. Libraries make 8 to 22.
const MAX_SALT: usize = 64;

/// Least and greatest length of a key, in bytes. A shorter one could match a wrong password.
const KEY_LENGTHS: RangeInclusive<usize> = 16..=64;

/// Parts of a hash.
#[derive(Clone)]
pub struct HashParts {
    pub cost: HashCost,
    pub salt: Vec<u8>,
    /// Key derived from the password.
    pub key: Vec<u8>,
    pub preparation: Preparation,
}

/// Transformation of a password before it is hashed. bcrypt reads only the first 72 bytes, so
/// some libraries give it a digest.
#[derive(Clone, PartialEq, Eq)]
pub enum Preparation {
    None,
    /// SHA-256, in hexadecimal digits (Django).
    Sha256Hex,
    /// SHA-256, in base64 (passlib before 1.7.3).
    Sha256Base64,
    /// HMAC-SHA256, in base64 (passlib).
    HmacSha256Base64 {
        /// Text of the salt.
        key: Vec<u8>,
    },
}

impl HashParts {
    /// Returns the parts if they can be verified.
    ///
    /// # Errors
    /// Returns [`PasswordHashError::Malformed`] or [`PasswordHashError::TooCostly`].
    pub(super) fn checked(self) -> Result<Self, PasswordHashError> {
        let Self { cost, salt, key, .. } = &self;
        let cost = cost.checked()?;
        let is_valid = match cost {
            HashCost::Pbkdf2 { digest, .. } => key.len() <= digest.length() && !salt.is_empty(),
            HashCost::Scrypt { .. } => !salt.is_empty(),
            HashCost::Bcrypt { .. } => salt.len() == 16 && key.len() == 23,
            HashCost::Argon2 { .. } => salt.len() >= 8,
        };
        if is_valid && salt.len() <= MAX_SALT && KEY_LENGTHS.contains(&key.len()) {
            Ok(self)
        } else {
            Err(PasswordHashError::Malformed)
        }
    }
}
