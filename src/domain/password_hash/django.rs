//! Hashes of Django. The salts of PBKDF2 and scrypt are the text itself.
//!
//! | format | |
//! |---|---|
//! | `pbkdf2_sha256$N$salt$key`, `pbkdf2_sha1$…` | |
//! | `scrypt$N$salt$r$p$key` | key of 64 bytes |
//! | `argon2$argon2id$v=19$…`, `bcrypt$$2b$12$…` | a prefix and the hash of another library |
//! | `bcrypt_sha256$$2b$12$…` | bcrypt of the SHA-256 digest, in hexadecimal digits |
//! | `!…` | a password that cannot be used |

use std::num::NonZeroU32;

use super::encoding::{decimal, log2, padded_base64};
use super::parts::{HashParts, Preparation};
use super::{HashCost, Pbkdf2Digest, phc};

/// Beginning of the hash of a password that cannot be used.
pub(super) const UNUSABLE_PREFIX: char = '!';

/// Parses the parts. Returns `None` if the text has none of the formats.
pub(super) fn parse(text: &str) -> Option<HashParts> {
    if let Some(hash) = text.strip_prefix("argon2") {
        return phc::parse(hash).filter(|parts| matches!(parts.cost, HashCost::Argon2 { .. }));
    }
    if let Some(hash) = text.strip_prefix("bcrypt$") {
        return bcrypt(hash, Preparation::None);
    }
    if let Some(hash) = text.strip_prefix("bcrypt_sha256$") {
        return bcrypt(hash, Preparation::Sha256Hex);
    }
    let fields: Vec<&str> = text.split('$').collect();
    let (cost, salt, key) = match fields[..] {
        ["pbkdf2_sha256", iterations, salt, key] => {
            (pbkdf2(Pbkdf2Digest::Sha256, iterations)?, salt, key)
        }
        ["pbkdf2_sha1", iterations, salt, key] => {
            (pbkdf2(Pbkdf2Digest::Sha1, iterations)?, salt, key)
        }
        ["scrypt", n, salt, r, p, key] => {
            let log_n = log2(decimal(n)?)?;
            (HashCost::Scrypt { log_n, r: decimal(r)?, p: decimal(p)? }, salt, key)
        }
        _ => return None,
    };
    let (salt, key) = (salt.as_bytes().to_vec(), padded_base64(key)?);
    Some(HashParts { cost, salt, key, preparation: Preparation::None })
}

fn pbkdf2(digest: Pbkdf2Digest, iterations: &str) -> Option<HashCost> {
    Some(HashCost::Pbkdf2 { digest, iterations: NonZeroU32::new(decimal(iterations)?)? })
}

fn bcrypt(hash: &str, preparation: Preparation) -> Option<HashParts> {
    let is_bcrypt = |parts: &HashParts| {
        matches!(parts.cost, HashCost::Bcrypt { .. }) && parts.preparation == Preparation::None
    };
    let parts = phc::parse(hash).filter(is_bcrypt)?;
    Some(HashParts { preparation, ..parts })
}
