//! One-time codes with which a user sets a new password.

use std::fmt;
use std::time::Duration;

/// Life of a reset code, by the clock of the database.
pub const RESET_CODE_LIFETIME: Duration = Duration::from_hours(1);

/// SHA-256 of a reset code. The code itself, of 256 random bits, is shown once and not stored.
#[derive(Clone, PartialEq, Eq)]
pub struct ResetCodeHash([u8; 32]);

impl ResetCodeHash {
    /// Returns the bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; 32]> for ResetCodeHash {
    fn from(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl fmt::Debug for ResetCodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetCodeHash(..)")
    }
}
