//! PBKDF2-HMAC-SHA256 (RFC 8018) through `ring`. It is slow by design: only hashing threads and the
//! command line run it.

use std::hint::black_box;
use std::num::NonZeroU32;

use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;

use crate::domain::{Password, PasswordHash, PasswordHashError};

const SALT_BYTES: usize = 16;
const KEY_BYTES: usize = 32;

/// Hashes and verifies passwords at the configured cost.
#[derive(Debug)]
pub struct Pbkdf2 {
    iterations: NonZeroU32,
    random: SystemRandom,
}

/// Reason why a password could not be hashed.
#[derive(Clone, Debug, Error)]
pub enum HashingError {
    /// The operating system returned no random bytes for the salt.
    #[error("failed to get random bytes from the operating system")]
    Random,
    /// The hash cannot be encoded as a PHC string.
    #[error("failed to encode the hash")]
    Encoding(#[from] PasswordHashError),
}

impl Pbkdf2 {
    /// Creates a hasher with the given cost.
    #[must_use]
    pub fn new(iterations: NonZeroU32) -> Self {
        Self { iterations, random: SystemRandom::new() }
    }

    /// Hashes a password with a new salt.
    ///
    /// # Errors
    /// Returns [`HashingError::Random`] if the operating system returns no random bytes.
    pub fn hash(&self, password: &Password) -> Result<PasswordHash, HashingError> {
        let mut salt = [0; SALT_BYTES];
        self.random.fill(&mut salt).map_err(|_| HashingError::Random)?;
        let key = derive(self.iterations, &salt, password.as_bytes());
        Ok(PasswordHash::new(self.iterations, &salt, &key)?)
    }

    /// Returns `true` if the password matches the hash. The comparison takes constant time.
    ///
    /// Every check takes the same time, whether it succeeds or fails: the difference to a lower
    /// stored cost is made up for, and [`Pbkdf2::refuse`] stands in for a missing hash. A right
    /// password is no exception: the account may be disabled. Only a stored cost above the
    /// configured one, after the setting was lowered, can be told by time until it is rehashed.
    #[must_use]
    pub fn verify(&self, password: &Password, stored: &PasswordHash) -> bool {
        let cost = stored.iterations();
        let is_right = matches(cost, stored.salt(), password.as_bytes(), stored.key());
        spend(self.iterations.get().saturating_sub(cost.get()));
        is_right
    }

    /// Takes the time of verifying a wrong password. Always returns `false`.
    #[must_use]
    pub fn refuse(&self) -> bool {
        spend(self.iterations.get());
        false
    }
}

/// Verifies real and stand-in hashes alike. The same arithmetic compiled in two places was seen to
/// differ by six per cent, which an attacker can measure; hence one function, never inlined.
#[inline(never)]
fn matches(iterations: NonZeroU32, salt: &[u8], secret: &[u8], key: &[u8]) -> bool {
    pbkdf2::verify(PBKDF2_HMAC_SHA256, iterations, salt, secret, key).is_ok()
}

fn spend(iterations: u32) {
    if let Some(iterations) = NonZeroU32::new(iterations) {
        black_box(matches(iterations, &[0; SALT_BYTES], b"stand-in", &[0; KEY_BYTES]));
    }
}

fn derive(iterations: NonZeroU32, salt: &[u8], secret: &[u8]) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    pbkdf2::derive(PBKDF2_HMAC_SHA256, iterations, salt, secret, &mut key);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::parse(text).unwrap()
    }

    fn cost(iterations: u32) -> Pbkdf2 {
        Pbkdf2::new(NonZeroU32::new(iterations).unwrap())
    }

    fn from_hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    /// RFC 7914 section 11, truncated to 32 bytes.
    #[test]
    fn keys_match_the_rfc() {
        let one = NonZeroU32::MIN;
        let many = NonZeroU32::new(80_000).unwrap();

        assert_eq!(
            derive(one, b"salt", b"passwd").to_vec(),
            from_hex("55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc")
        );
        assert_eq!(
            derive(many, b"NaCl", b"Password").to_vec(),
            from_hex("4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56")
        );
    }

    /// Fifth input of RFC 6070, with the widely published result for SHA-256.
    #[test]
    fn foreign_hash_verifies() {
        let salt = b"saltSALTsaltSALTsaltSALTsaltSALTsalt";
        let key = from_hex(
            "348c89dbcbd32b2f32d814b8116e84cf2b17347ebc1800181c4e2a1fb8dd53e1c635518c7dac47e9",
        );
        let stored = PasswordHash::new(NonZeroU32::new(4096).unwrap(), salt, &key).unwrap();

        assert!(cost(1).verify(&password("passwordPASSWORDpassword"), &stored));
    }

    #[test]
    fn hash_verifies_only_its_password() {
        let hash = cost(10).hash(&password("correct horse")).unwrap();

        assert!(cost(10).verify(&password("correct horse"), &hash));
        assert!(!cost(10).verify(&password("Correct horse"), &hash));
        assert!(!cost(10).refuse());
    }

    #[test]
    fn hashes_of_one_password_differ() {
        let hash = || cost(1).hash(&password("correct horse")).unwrap();

        assert_ne!(hash(), hash());
    }

    #[test]
    fn hash_of_another_cost_verifies() {
        let hash = cost(10).hash(&password("correct horse")).unwrap();

        assert!(cost(20).verify(&password("correct horse"), &hash));
        assert!(cost(5).verify(&password("correct horse"), &hash));
    }
}
