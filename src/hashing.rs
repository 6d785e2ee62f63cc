//! Hashing and verification of passwords. New hashes are PBKDF2-HMAC-SHA256 (RFC 8018) through
//! `ring`; those of other systems are verified with their algorithm. All are slow by design: only
//! hashing threads and the command line run them.

use std::hint::black_box;
use std::num::NonZeroU32;

use argon2::Argon2;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA1, PBKDF2_HMAC_SHA256, PBKDF2_HMAC_SHA512};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::domain::{
    Argon2Variant, HashCost, HashParts, Password, PasswordHash, PasswordHashError, Pbkdf2Digest,
    Preparation,
};

/// Characters of a salt. A salt that is text can be written in the formats of other systems.
const SALT_CHARS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Number of characters of a salt: 131 bits.
const SALT_LENGTH: usize = 22;

const KEY_BYTES: usize = 32;

/// Number of bytes that bcrypt reads of a password, with the NUL that ends it.
const BCRYPT_BYTES: usize = 72;

/// Hashes and verifies passwords.
#[derive(Debug)]
pub struct PasswordHasher {
    iterations: NonZeroU32,
    random: SystemRandom,
}

/// Reason why a password could not be hashed.
#[derive(Clone, Debug, Error)]
pub enum HashingError {
    /// The operating system returned no random bytes for the salt.
    #[error("failed to get random bytes from the operating system")]
    Random,
    /// The hash cannot be encoded.
    #[error("failed to encode the hash")]
    Encoding(#[from] PasswordHashError),
}

impl PasswordHasher {
    /// Creates a hasher with the configured cost.
    #[must_use]
    pub fn new(iterations: NonZeroU32) -> Self {
        Self { iterations, random: SystemRandom::new() }
    }

    /// Hashes a password with a new salt at the configured cost.
    ///
    /// # Errors
    /// Returns [`HashingError::Random`] if the operating system returns no random bytes.
    pub fn hash(&self, password: &Password) -> Result<PasswordHash, HashingError> {
        self.hash_with(self.iterations, password)
    }

    /// Hashes a password with a new salt at a cost.
    ///
    /// # Errors
    /// Like [`Self::hash`], or [`HashingError::Encoding`] for too many iterations.
    pub fn hash_with(
        &self,
        iterations: NonZeroU32,
        password: &Password,
    ) -> Result<PasswordHash, HashingError> {
        let salt = self.random_salt()?;
        let mut key = [0; KEY_BYTES];
        pbkdf2::derive(PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut key);
        Ok(PasswordHash::new(iterations, &salt, &key)?)
    }

    /// Returns `true` if the password matches the hash. Other systems do not normalise passwords,
    /// so a hash is compared with the normalised password and with the one that was received; the
    /// likelier first. A wrong password takes the same time with every hash of one cost.
    ///
    /// PBKDF2 replaces a password that is longer than a block by its digest, and bcrypt ignores
    /// what follows the first 72 bytes, as its libraries do.
    #[must_use]
    pub fn verify(&self, password: &Password, stored: &PasswordHash) -> bool {
        match stored.parts() {
            None => self.refuse(password.count_forms()),
            Some(parts) if stored.is_own() => password.forms().any(|form| matches(parts, form)),
            Some(parts) => password.forms().rev().any(|form| matches(parts, form)),
        }
    }

    /// Takes the time of verifying a wrong password with a number of forms at the configured cost.
    /// Always returns `false`.
    #[must_use]
    pub fn refuse(&self, forms: u32) -> bool {
        for _ in 0..forms {
            spend(HashCost::pbkdf2_sha256(self.iterations));
        }
        false
    }

    /// Returns random characters, each with the same probability.
    fn random_salt(&self) -> Result<[u8; SALT_LENGTH], HashingError> {
        let mut salt = [0; SALT_LENGTH];
        for char in &mut salt {
            *char = loop {
                let mut byte = [0];
                self.random.fill(&mut byte).map_err(|_| HashingError::Random)?;
                if let Some(&char) = SALT_CHARS.get(usize::from(byte[0] & 63)) {
                    break char;
                }
            };
        }
        Ok(salt)
    }
}

/// Takes the time of verifying a wrong password.
pub fn spend(cost: HashCost) {
    let salt = vec![0; 16];
    let key_length = if let HashCost::Bcrypt { .. } = cost { 23 } else { 16 };
    let parts = HashParts { cost, salt, key: vec![0; key_length], preparation: Preparation::None };
    black_box(matches(&parts, b"stand-in"));
}

/// Verifies real and stand-in hashes alike. The same arithmetic compiled in two places was seen to
/// differ by six per cent, which an attacker can measure; hence one function, never inlined.
#[inline(never)]
fn matches(parts: &HashParts, secret: &[u8]) -> bool {
    let HashParts { cost, salt, key, preparation } = parts;
    let secret = prepare(preparation, secret);
    derive(*cost, salt, &secret, key.len()).is_some_and(|derived| derived.ct_eq(key).into())
}

/// Derives a key. Returns `None` for parameters that the algorithm does not have, which no parsed
/// hash contains.
fn derive(cost: HashCost, salt: &[u8], secret: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut key = vec![0; length];
    match cost {
        HashCost::Pbkdf2 { digest, iterations } => {
            let algorithm = match digest {
                Pbkdf2Digest::Sha1 => PBKDF2_HMAC_SHA1,
                Pbkdf2Digest::Sha256 => PBKDF2_HMAC_SHA256,
                Pbkdf2Digest::Sha512 => PBKDF2_HMAC_SHA512,
            };
            pbkdf2::derive(algorithm, iterations, salt, secret, &mut key);
        }
        HashCost::Scrypt { log_n, r, p } => {
            let params = scrypt::Params::new(log_n.try_into().ok()?, r, p).ok()?;
            scrypt::scrypt(secret, salt, &params, &mut key).ok()?;
        }
        HashCost::Bcrypt { cost } => {
            let mut secret = Zeroizing::new(secret.to_vec());
            secret.push(0);
            secret.truncate(BCRYPT_BYTES);
            key = bcrypt::bcrypt(cost, salt.try_into().ok()?, &secret).get(..length)?.to_vec();
        }
        HashCost::Argon2 { variant, memory_kib, passes, lanes } => {
            let algorithm = match variant {
                Argon2Variant::Argon2d => argon2::Algorithm::Argon2d,
                Argon2Variant::Argon2i => argon2::Algorithm::Argon2i,
                Argon2Variant::Argon2id => argon2::Algorithm::Argon2id,
            };
            let params = argon2::Params::new(memory_kib, passes, lanes, Some(length)).ok()?;
            let argon2 = Argon2::new(algorithm, argon2::Version::V0x13, params);
            argon2.hash_password_into(secret, salt, &mut key).ok()?;
        }
    }
    Some(key)
}

/// Returns what is hashed in place of a password.
fn prepare(preparation: &Preparation, secret: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(match preparation {
        Preparation::None => secret.to_vec(),
        Preparation::Sha256Hex => {
            let digest = digest::digest(&digest::SHA256, secret);
            digest.as_ref().iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
        }
        Preparation::Sha256Base64 => {
            STANDARD.encode(digest::digest(&digest::SHA256, secret)).into()
        }
        Preparation::HmacSha256Base64 { key } => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            STANDARD.encode(hmac::sign(&key, secret)).into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::parse(text).unwrap()
    }

    fn hasher(iterations: u32) -> PasswordHasher {
        PasswordHasher::new(NonZeroU32::new(iterations).unwrap())
    }

    fn pbkdf2_sha256(iterations: u32, salt: &[u8], secret: &[u8]) -> Vec<u8> {
        let iterations = NonZeroU32::new(iterations).unwrap();
        let cost = HashCost::Pbkdf2 { digest: Pbkdf2Digest::Sha256, iterations };
        derive(cost, salt, secret, KEY_BYTES).unwrap()
    }

    fn from_hex(text: &str) -> Vec<u8> {
        let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    /// RFC 7914 section 11, truncated to 32 bytes.
    #[test]
    fn keys_match_the_rfc() {
        assert_eq!(
            pbkdf2_sha256(1, b"salt", b"passwd"),
            from_hex("55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc")
        );
        assert_eq!(
            pbkdf2_sha256(80_000, b"NaCl", b"Password"),
            from_hex("4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56")
        );
    }

    /// Fifth input of RFC 6070, with the widely published result for SHA-256.
    #[test]
    fn foreign_hash_verifies() {
        let salt = b"saltSALTsaltSALTsaltSALTsaltSALTsalt";
        let key = from_hex("348c89dbcbd32b2f32d814b8116e84cf2b17347ebc1800181c4e2a1fb8dd53e1");
        let stored = PasswordHash::new(NonZeroU32::new(4096).unwrap(), salt, &key).unwrap();

        assert!(hasher(1).verify(&password("passwordPASSWORDpassword"), &stored));
    }

    #[test]
    fn hash_verifies_only_its_password() {
        let hash = hasher(10).hash(&password("correct horse")).unwrap();

        assert!(hasher(10).verify(&password("correct horse"), &hash));
        assert!(!hasher(10).verify(&password("Correct horse"), &hash));
        assert!(!hasher(10).refuse(2));
    }

    #[test]
    fn hashes_of_one_password_differ() {
        let hash = || hasher(1).hash(&password("correct horse")).unwrap();

        assert_ne!(hash(), hash());
    }

    #[test]
    fn hash_of_another_cost_verifies() {
        let hash = hasher(10).hash(&password("correct horse")).unwrap();

        assert!(hasher(20).verify(&password("correct horse"), &hash));
        assert!(hasher(5).verify(&password("correct horse"), &hash));
    }

    /// Hash made by a library of another system; `tests/moving/hash_vectors.py` makes them.
    #[derive(serde::Deserialize)]
    struct Vector {
        system: String,
        /// `None` for the hash of a password that cannot be used.
        password: Option<String>,
        hash: String,
    }

    #[test]
    fn hashes_of_other_systems_verify_only_their_password() {
        for line in include_str!("../tests/moving/hash_vectors.jsonl").lines() {
            let vector: Vector = serde_json::from_str(line).unwrap();
            let stored: PasswordHash =
                vector.hash.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
            let verify = |text: &str| hasher(1).verify(&password(text), &stored);
            let right = vector.password.as_deref().unwrap_or("!");

            assert_eq!(verify(right), vector.password.is_some(), "{line}");
            // bcrypt ignores what follows the first 72 bytes, so that the change has to be before.
            assert!(!verify(&format!("x{right}")), "{line}");
            assert_eq!(stored.to_string(), vector.hash, "{}", vector.system);
            assert!(stored.replacement(NonZeroU32::MIN).is_some() || vector.password.is_none());
        }
    }

    #[test]
    fn hash_of_another_system_verifies_both_forms_of_a_password() {
        let (decomposed, composed) = ("cafe\u{301} noir", "caf\u{e9} noir");
        let own = hasher(1).hash(&password(composed)).unwrap();
        let of_composed: PasswordHash = own.to_django().unwrap().parse().unwrap();

        for stored in [&own, &of_composed] {
            assert!(hasher(1).verify(&password(decomposed), stored));
            assert!(hasher(1).verify(&password(composed), stored));
        }
    }

    /// Vector of OpenBSD's bcrypt, as in the tests of crypt_blowfish.
    #[test]
    fn bcrypt_ignores_what_follows_72_bytes() {
        let stored: PasswordHash =
            "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui".parse().unwrap();
        let long = format!(
            "0123456789{}{}",
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
        );
        let verify = |text: &str| hasher(1).verify(&password(text), &stored);

        assert!(verify(&long) && verify(&format!("{long}chars after 72 are ignored")));
        assert!(!verify(&long[..71]));
    }

    #[test]
    fn salts_are_text_that_other_systems_accept() {
        let hash = hasher(1).hash(&password("correct horse")).unwrap();
        let salt = &hash.parts().unwrap().salt;

        assert!(salt.len() == SALT_LENGTH && salt.iter().all(u8::is_ascii_alphanumeric));
        for written in [hash.to_werkzeug(), hash.to_django()] {
            let written: PasswordHash = written.unwrap().parse().unwrap();
            assert!(hasher(1).verify(&password("correct horse"), &written));
        }
    }

    /// Every cost that can be parsed can be computed: the library of each algorithm accepts it.
    #[test]
    fn stand_in_of_each_algorithm_is_computed() {
        for text in
            ["pbkdf2-sha1:9", "pbkdf2-sha512:9", "scrypt:1:1:9", "bcrypt:4", "argon2d:8:1:1"]
        {
            let cost: HashCost = text.parse().unwrap();
            let (salt, length) = if text.starts_with("bcrypt") { (16, 23) } else { (16, 16) };
            assert!(derive(cost, &vec![0; salt], b"stand-in", length).is_some(), "{text}");
            spend(cost);
        }
    }
}
