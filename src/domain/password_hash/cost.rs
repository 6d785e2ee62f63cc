//! Costs of password hashes: algorithm and parameters, and the greatest that are accepted.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use strum::{Display, EnumString};
use thiserror::Error;

use super::encoding::decimal;

const MIB: u64 = 1 << 20;

/// Greatest number of PBKDF2 iterations, a second or two: four times those of Django 6.
pub const MAX_ITERATIONS: u32 = 5_000_000;

/// Greatest number with SHA-512, which takes three times as long: nine times that of OWASP.
const MAX_SHA512_ITERATIONS: u32 = 2_000_000;

/// Greatest bcrypt cost. The usual ones are 10 to 12, seldom 14; each step doubles the time.
const MAX_BCRYPT_COST: u32 = 15;

/// Greatest memory of one hash of scrypt or Argon2. Libraries use 16 to 100 MiB by default.
const MAX_MEMORY: u64 = 256 * MIB;

/// Greatest memory that one hash fills in all passes: 320 MiB at PHP's default settings.
const MAX_FILLED: u64 = 1024 * MIB;

/// Algorithm of a password hash, with its parameters. The text is the name and the parameters,
/// separated by colons: `pbkdf2-sha256:600000`, `scrypt:15:8:1` (log₂ N, r, p), `bcrypt:12`,
/// `argon2id:65536:3:4` (KiB, passes, lanes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HashCost {
    /// PBKDF2 (RFC 8018) with HMAC.
    Pbkdf2 { digest: Pbkdf2Digest, iterations: NonZeroU32 },
    /// scrypt (RFC 7914).
    Scrypt { log_n: u32, r: u32, p: u32 },
    /// bcrypt. The cost is the binary logarithm of the rounds.
    Bcrypt { cost: u32 },
    /// Argon2 version 1.3 (RFC 9106).
    Argon2 { variant: Argon2Variant, memory_kib: u32, passes: u32, lanes: u32 },
}

/// Digest of PBKDF2, and the name of the algorithm with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Display, EnumString)]
pub enum Pbkdf2Digest {
    #[strum(serialize = "pbkdf2-sha1")]
    Sha1,
    #[strum(serialize = "pbkdf2-sha256")]
    Sha256,
    #[strum(serialize = "pbkdf2-sha512")]
    Sha512,
}

/// Variant of Argon2, and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Display, EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum Argon2Variant {
    Argon2d,
    Argon2i,
    Argon2id,
}

/// Reason why a text is not a supported hash, or cost of one. The text is for the importer of an
/// account.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PasswordHashError {
    /// The text has none of the supported formats.
    #[error("not a password hash of a supported format")]
    Unknown,
    /// The text has a supported format with an invalid parameter, salt or key.
    #[error("a password hash with an invalid parameter, salt or key")]
    Malformed,
    /// To verify the hash takes too much time or memory.
    #[error("a password hash that takes too long to verify: {0}")]
    TooCostly(&'static str),
}

impl Pbkdf2Digest {
    /// Returns the length of the digest, in bytes.
    #[must_use]
    pub fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl HashCost {
    /// Creates the cost of a hash of this service: PBKDF2-HMAC-SHA256.
    #[must_use]
    pub fn pbkdf2_sha256(iterations: NonZeroU32) -> Self {
        Self::Pbkdf2 { digest: Pbkdf2Digest::Sha256, iterations }
    }

    /// Returns the cost if its parameters are valid and not too costly.
    ///
    /// # Errors
    /// Returns [`PasswordHashError::Malformed`] or [`PasswordHashError::TooCostly`].
    pub(super) fn checked(self) -> Result<Self, PasswordHashError> {
        let is_valid = match self {
            Self::Pbkdf2 { .. } => true,
            Self::Scrypt { log_n, r, p } => log_n > 0 && r > 0 && p > 0,
            Self::Bcrypt { cost } => (4..=31).contains(&cost),
            Self::Argon2 { memory_kib, passes, lanes, .. } => {
                passes > 0 && (1..=255).contains(&lanes) && memory_kib >= 8 * lanes
            }
        };
        match self {
            _ if !is_valid => Err(PasswordHashError::Malformed),
            Self::Pbkdf2 { digest: Pbkdf2Digest::Sha512, iterations }
                if iterations.get() > MAX_SHA512_ITERATIONS =>
            {
                let limit = "PBKDF2 with SHA-512 may have at most 2,000,000 iterations";
                Err(PasswordHashError::TooCostly(limit))
            }
            Self::Pbkdf2 { iterations, .. } if iterations.get() > MAX_ITERATIONS => {
                Err(PasswordHashError::TooCostly("PBKDF2 may have at most 5,000,000 iterations"))
            }
            Self::Bcrypt { cost } if cost > MAX_BCRYPT_COST => {
                Err(PasswordHashError::TooCostly("bcrypt may have a cost of at most 15"))
            }
            Self::Scrypt { .. } | Self::Argon2 { .. }
                if self.memory() > MAX_MEMORY || self.work() > MAX_FILLED =>
            {
                Err(PasswordHashError::TooCostly(
                    "scrypt and Argon2 may use at most 256 MiB, and 1 GiB in all passes",
                ))
            }
            _ => Ok(self),
        }
    }

    /// Returns the memory that a hash takes, in bytes.
    fn memory(self) -> u64 {
        match self {
            Self::Pbkdf2 { .. } | Self::Bcrypt { .. } => 0,
            Self::Scrypt { log_n, r, p } => {
                let blocks = 1_u64.checked_shl(log_n).unwrap_or(u64::MAX).max(p.into());
                blocks.saturating_mul(128 * u64::from(r))
            }
            Self::Argon2 { memory_kib, .. } => 1024 * u64::from(memory_kib),
        }
    }

    /// Returns a measure to compare costs of one algorithm: of two, the greater takes longer.
    #[must_use]
    pub fn work(self) -> u64 {
        match self {
            Self::Pbkdf2 { iterations, .. } => iterations.get().into(),
            Self::Bcrypt { cost } => 1_u64.checked_shl(cost).unwrap_or(u64::MAX),
            Self::Scrypt { log_n, r, p } => {
                Self::Scrypt { log_n, r, p: 1 }.memory().saturating_mul(p.into())
            }
            Self::Argon2 { passes, .. } => self.memory().saturating_mul(passes.into()),
        }
    }

    /// Returns `true` if both costs are of the same algorithm.
    #[must_use]
    pub fn has_algorithm_of(self, other: Self) -> bool {
        match (self, other) {
            (Self::Pbkdf2 { digest, .. }, Self::Pbkdf2 { digest: other, .. }) => digest == other,
            (Self::Argon2 { variant, .. }, Self::Argon2 { variant: other, .. }) => variant == other,
            (Self::Scrypt { .. }, Self::Scrypt { .. })
            | (Self::Bcrypt { .. }, Self::Bcrypt { .. }) => true,
            _ => false,
        }
    }
}

impl FromStr for HashCost {
    type Err = PasswordHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, parameters) = text.split_once(':').ok_or(PasswordHashError::Unknown)?;
        let parameters: Option<Vec<u32>> = parameters.split(':').map(decimal).collect();
        let parameters = parameters.ok_or(PasswordHashError::Malformed)?;
        let cost = match (name, &parameters[..]) {
            ("scrypt", &[log_n, r, p]) => Self::Scrypt { log_n, r, p },
            ("bcrypt", &[cost]) => Self::Bcrypt { cost },
            (name, &[iterations]) => {
                let digest = name.parse().map_err(|_| PasswordHashError::Unknown)?;
                let iterations = NonZeroU32::new(iterations).ok_or(PasswordHashError::Malformed)?;
                Self::Pbkdf2 { digest, iterations }
            }
            (name, &[memory_kib, passes, lanes]) => {
                let variant = name.parse().map_err(|_| PasswordHashError::Unknown)?;
                Self::Argon2 { variant, memory_kib, passes, lanes }
            }
            _ => return Err(PasswordHashError::Malformed),
        };
        cost.checked()
    }
}

impl fmt::Display for HashCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pbkdf2 { digest, iterations } => write!(f, "{digest}:{iterations}"),
            Self::Scrypt { log_n, r, p } => write!(f, "scrypt:{log_n}:{r}:{p}"),
            Self::Bcrypt { cost } => write!(f, "bcrypt:{cost}"),
            Self::Argon2 { variant, memory_kib, passes, lanes } => {
                write!(f, "{variant}:{memory_kib}:{passes}:{lanes}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn costs_round_trip() {
        for text in [
            "pbkdf2-sha256:600000",
            "pbkdf2-sha1:131000",
            "pbkdf2-sha512:2000000",
            "scrypt:15:8:1",
            "scrypt:14:8:5",
            "bcrypt:15",
            "argon2id:65536:3:4",
            "argon2i:102400:2:8",
            "argon2d:262144:4:1",
        ] {
            assert_eq!(text.parse::<HashCost>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn caps_are_the_greatest_accepted_costs() {
        for (greatest, beyond) in [
            ("pbkdf2-sha256:5000000", "pbkdf2-sha256:5000001"),
            ("pbkdf2-sha512:2000000", "pbkdf2-sha512:2000001"),
            ("bcrypt:15", "bcrypt:16"),
            ("scrypt:18:8:4", "scrypt:18:8:5"),
            ("scrypt:18:8:1", "scrypt:19:8:1"),
            ("scrypt:18:8:1", "scrypt:4294967295:4294967295:4294967295"),
            ("argon2id:262144:4:4", "argon2id:262144:5:4"),
            ("argon2id:262144:1:1", "argon2id:262145:1:1"),
        ] {
            assert!(greatest.parse::<HashCost>().is_ok(), "{greatest}");
            let error = beyond.parse::<HashCost>().unwrap_err();
            assert!(matches!(error, PasswordHashError::TooCostly(_)), "{beyond}: {error}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "pbkdf2-sha256",
            "pbkdf2-sha256:",
            "pbkdf2-sha256:0",
            "pbkdf2-sha256:+1",
            "pbkdf2-sha256:01",
            "pbkdf2-sha256:1:1",
            "pbkdf2-md5:1000",
            "scrypt:0:8:1",
            "scrypt:15:0:1",
            "scrypt:15:8",
            "bcrypt:3",
            "argon2id:65536:0:4",
            "argon2id:7:1:1",
            "argon2id:65536:3:256",
            "argon2x:65536:3:4",
        ] {
            assert!(text.parse::<HashCost>().is_err(), "{text}");
        }
    }

    #[test]
    fn work_orders_the_costs_of_an_algorithm() {
        for (less, more) in [
            ("pbkdf2-sha1:1", "pbkdf2-sha1:2"),
            ("bcrypt:11", "bcrypt:12"),
            ("scrypt:15:8:1", "scrypt:14:8:5"),
            ("argon2id:65536:3:4", "argon2id:102400:2:8"),
        ] {
            let [less, more] = [less, more].map(|text| text.parse::<HashCost>().unwrap());
            assert!(less.work() < more.work() && less.has_algorithm_of(more), "{less} {more}");
        }
        let [one, other] = ["pbkdf2-sha1:1", "pbkdf2-sha256:1"].map(|text| text.parse().unwrap());
        assert!(!HashCost::has_algorithm_of(one, other));
    }

    proptest! {
        #[test]
        fn parser_never_panics(text in any::<String>()) {
            let _ = text.parse::<HashCost>();
        }

        #[test]
        fn numbers_never_panic(
            name in "pbkdf2-sha1|scrypt|bcrypt|argon2id",
            numbers in prop::collection::vec(any::<u32>(), 1..4),
        ) {
            let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
            let text = format!("{name}:{}", numbers.join(":"));
            if let Ok(cost) = text.parse::<HashCost>() {
                prop_assert_eq!(cost.to_string(), text);
            }
        }
    }
}
