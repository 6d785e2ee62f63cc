//! Hashes that begin with `$`: PHC strings, their variants of passlib, and bcrypt.
//!
//! | format | made by |
//! |---|---|
//! | `$pbkdf2-sha256$i=N,l=32$salt$key`, also `-sha1` and `-sha512` | this service, PHC libraries |
//! | `$pbkdf2-sha256$N$salt$key`, `$pbkdf2-sha512$…`, `$pbkdf2$…` (SHA-1) | passlib |
//! | `$scrypt$ln=,r=,p=$salt$key` | passlib, PHC libraries |
//! | `$argon2id$v=19$m=,t=,p=$salt$key`, also `argon2i` and `argon2d` | PHP, argon2-cffi, passlib, PHC libraries |
//! | `$2b$12$…`, also `2a` and `2y` | PHP, bcrypt, passlib |
//! | `$bcrypt-sha256$v=2,t=2b,r=12$salt$key`, `$bcrypt-sha256$2b,12$salt$key` | passlib |

use std::num::NonZeroU32;

use super::encoding::{base64, bcrypt_base64, decimal, parameters};
use super::parts::{HashParts, Preparation};
use super::{Argon2Variant, HashCost, Pbkdf2Digest};

/// Length of the salt of bcrypt, in characters. The rest is the key.
const BCRYPT_SALT: usize = 22;

/// Parses the parts. Returns `None` if the text has none of the formats.
pub(super) fn parse(text: &str) -> Option<HashParts> {
    let fields: Vec<&str> = text.split('$').collect();
    match fields[..] {
        ["", "pbkdf2" | "pbkdf2-sha1", cost, salt, key] => {
            pbkdf2(Pbkdf2Digest::Sha1, cost, salt, key)
        }
        ["", "pbkdf2-sha256", cost, salt, key] => pbkdf2(Pbkdf2Digest::Sha256, cost, salt, key),
        ["", "pbkdf2-sha512", cost, salt, key] => pbkdf2(Pbkdf2Digest::Sha512, cost, salt, key),
        ["", "scrypt", cost, salt, key] => {
            let [log_n, r, p] = parameters(cost, ["ln", "r", "p"])?;
            parts(HashCost::Scrypt { log_n, r, p }, salt, key)
        }
        ["", "argon2id", "v=19", cost, salt, key] => {
            argon2(Argon2Variant::Argon2id, cost, salt, key)
        }
        ["", "argon2i", "v=19", cost, salt, key] => argon2(Argon2Variant::Argon2i, cost, salt, key),
        ["", "argon2d", "v=19", cost, salt, key] => argon2(Argon2Variant::Argon2d, cost, salt, key),
        ["", "2a" | "2b" | "2y", cost, data] if cost.len() == 2 => {
            let (salt, key) = data.split_at_checked(BCRYPT_SALT)?;
            bcrypt(decimal(cost.trim_start_matches('0'))?, salt, key, Preparation::None)
        }
        ["", "bcrypt-sha256", cost, salt, key] => {
            let (cost, preparation) = match cost.strip_prefix("v=2,t=2b,r=") {
                Some(cost) => (cost, Preparation::HmacSha256Base64 { key: salt.into() }),
                None => (
                    cost.strip_prefix("2a,").or(cost.strip_prefix("2b,"))?,
                    Preparation::Sha256Base64,
                ),
            };
            bcrypt(decimal(cost)?, salt, key, preparation)
        }
        _ => None,
    }
}

fn pbkdf2(digest: Pbkdf2Digest, cost: &str, salt: &str, key: &str) -> Option<HashParts> {
    let (iterations, length) = match decimal(cost) {
        Some(iterations) => (iterations, None),
        None => {
            parameters(cost, ["i", "l"]).map(|[iterations, length]| (iterations, Some(length)))?
        }
    };
    let iterations = NonZeroU32::new(iterations)?;
    let parts = parts(HashCost::Pbkdf2 { digest, iterations }, salt, key)?;
    let is_whole = length.is_none_or(|length| usize::try_from(length) == Ok(parts.key.len()));
    is_whole.then_some(parts)
}

fn argon2(variant: Argon2Variant, cost: &str, salt: &str, key: &str) -> Option<HashParts> {
    let [memory_kib, passes, lanes] = parameters(cost, ["m", "t", "p"])?;
    parts(HashCost::Argon2 { variant, memory_kib, passes, lanes }, salt, key)
}

fn bcrypt(cost: u32, salt: &str, key: &str, preparation: Preparation) -> Option<HashParts> {
    let cost = HashCost::Bcrypt { cost };
    Some(HashParts { cost, salt: bcrypt_base64(salt)?, key: bcrypt_base64(key)?, preparation })
}

fn parts(cost: HashCost, salt: &str, key: &str) -> Option<HashParts> {
    let preparation = Preparation::None;
    Some(HashParts { cost, salt: base64(salt)?, key: base64(key)?, preparation })
}
