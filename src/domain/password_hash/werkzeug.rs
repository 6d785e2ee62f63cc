//! Hashes of Werkzeug, as Flask applications have them. The salt is the text itself.
//!
//! | format | key |
//! |---|---|
//! | `pbkdf2:sha256:N$salt$hex`, also `sha1` and `sha512` | 32, 20 or 64 bytes |
//! | `scrypt:N:r:p$salt$hex` | 64 bytes |

use std::num::NonZeroU32;

use super::encoding::{decimal, hex, log2};
use super::parts::{HashParts, Preparation};
use super::{HashCost, Pbkdf2Digest};

/// Parses the parts. Returns `None` if the text has none of the formats.
pub(super) fn parse(text: &str) -> Option<HashParts> {
    let fields: Vec<&str> = text.split('$').collect();
    let [method, salt, key] = fields[..] else { return None };
    let method: Vec<&str> = method.split(':').collect();
    let cost = match method[..] {
        ["pbkdf2", digest, iterations] => {
            let digest = match digest {
                "sha1" => Pbkdf2Digest::Sha1,
                "sha256" => Pbkdf2Digest::Sha256,
                "sha512" => Pbkdf2Digest::Sha512,
                _ => return None,
            };
            HashCost::Pbkdf2 { digest, iterations: NonZeroU32::new(decimal(iterations)?)? }
        }
        ["scrypt", n, r, p] => {
            HashCost::Scrypt { log_n: log2(decimal(n)?)?, r: decimal(r)?, p: decimal(p)? }
        }
        _ => return None,
    };
    let preparation = Preparation::None;
    Some(HashParts { cost, salt: salt.as_bytes().to_vec(), key: hex(key)?, preparation })
}
