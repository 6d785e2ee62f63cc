//! Stored password hashes, of this service and of other systems.

mod cost;
mod django;
mod encoding;
mod parts;
mod phc;
mod werkzeug;

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

pub use cost::{Argon2Variant, HashCost, MAX_ITERATIONS, PasswordHashError, Pbkdf2Digest};
pub use parts::{HashParts, Preparation};

/// Beginning of the hashes that this service makes.
const OWN_PREFIX: &str = "$pbkdf2-sha256$i=";

/// Greatest length of a hash, in bytes.
const MAX_LENGTH: usize = 512;

/// Password hash that keeps its exact text. This service makes PBKDF2-HMAC-SHA256 hashes:
/// `$pbkdf2-sha256$i=600000,l=32$<salt>$<key>`. Those of other systems are verified, and replaced
/// at the first login. `phc.rs`, `werkzeug.rs` and `django.rs` list their formats.
#[derive(Clone)]
pub struct PasswordHash {
    text: String,
    /// `None` if no password matches.
    parts: Option<HashParts>,
}

impl PasswordHash {
    /// Creates a hash of this service from its parts.
    ///
    /// # Errors
    /// Returns [`PasswordHashError::TooCostly`] for more than 5 million iterations, and
    /// [`PasswordHashError::Malformed`] if the salt is not 1 to 64 bytes long or the key not 16 to
    /// 32.
    pub fn new(iterations: NonZeroU32, salt: &[u8], key: &[u8]) -> Result<Self, PasswordHashError> {
        let length = key.len();
        let [salt, key] = [salt, key].map(encoding::to_base64);
        format!("{OWN_PREFIX}{iterations},l={length}${salt}${key}").parse()
    }

    /// Returns the parts to verify a password with; `None` if no password matches.
    #[must_use]
    pub fn parts(&self) -> Option<&HashParts> {
        self.parts.as_ref()
    }

    /// Returns algorithm and parameters; `None` if no password matches, so that none is hashed.
    #[must_use]
    pub fn cost(&self) -> Option<HashCost> {
        self.parts.as_ref().map(|parts| parts.cost)
    }

    /// Returns `true` if the hash has the format of this service, which normalises passwords.
    /// Other systems hash the bytes that they receive.
    #[must_use]
    pub fn is_own(&self) -> bool {
        let is_whole = |parts: &HashParts| parts.key.len() == Pbkdf2Digest::Sha256.length();
        self.text.starts_with(OWN_PREFIX) && self.parts().is_some_and(is_whole)
    }

    /// Returns the iterations of the hash that replaces this one after a login; `None` if it stays.
    /// The cost never goes down.
    #[must_use]
    pub fn replacement(&self, configured: NonZeroU32) -> Option<NonZeroU32> {
        let iterations = match self.cost()? {
            HashCost::Pbkdf2 { iterations, .. } => iterations.max(configured),
            _ => configured,
        };
        let replacement = HashCost::pbkdf2_sha256(iterations);
        (!self.is_own() || self.cost() != Some(replacement)).then_some(iterations)
    }

    /// Writes the hash as Werkzeug would. Returns `None` unless it is one of Werkzeug, or
    /// PBKDF2-HMAC-SHA256 with a salt that is text.
    #[must_use]
    pub fn to_werkzeug(&self) -> Option<String> {
        if is_of_werkzeug(&self.text) {
            return Some(self.text.clone());
        }
        let (iterations, salt, key) = self.pbkdf2_sha256_with_text_salt()?;
        Some(format!("pbkdf2:sha256:{iterations}${salt}${}", encoding::to_hex(key)))
    }

    /// Writes the hash as Django would. Returns `None` unless it is one of Django, or
    /// PBKDF2-HMAC-SHA256 with a salt that is text.
    #[must_use]
    pub fn to_django(&self) -> Option<String> {
        if !self.text.starts_with('$') && !is_of_werkzeug(&self.text) {
            return Some(self.text.clone());
        }
        let (iterations, salt, key) = self.pbkdf2_sha256_with_text_salt()?;
        Some(format!("pbkdf2_sha256${iterations}${salt}${}", encoding::to_padded_base64(key)))
    }

    /// Returns iterations, salt and key of a hash that both Werkzeug and Django can verify.
    fn pbkdf2_sha256_with_text_salt(&self) -> Option<(NonZeroU32, &str, &[u8])> {
        let HashParts { cost, salt, key, .. } = self.parts.as_ref()?;
        let HashCost::Pbkdf2 { digest: Pbkdf2Digest::Sha256, iterations } = *cost else {
            return None;
        };
        let is_text = salt.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'$');
        let salt = std::str::from_utf8(salt).ok().filter(|_| is_text)?;
        (key.len() == Pbkdf2Digest::Sha256.length()).then_some((iterations, salt, key))
    }
}

impl FromStr for PasswordHash {
    type Err = PasswordHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_LENGTH {
            return Err(PasswordHashError::Malformed);
        }
        let parts = if text.starts_with('$') {
            phc::parse(text)
        } else if is_of_werkzeug(text) {
            werkzeug::parse(text)
        } else if text.starts_with(django::UNUSABLE_PREFIX) {
            return Ok(Self { text: text.to_owned(), parts: None });
        } else {
            django::parse(text)
        };
        let parts = parts.ok_or(PasswordHashError::Unknown)?.checked()?;
        Ok(Self { text: text.to_owned(), parts: Some(parts) })
    }
}

impl PartialEq for PasswordHash {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PasswordHash {}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cost() {
            Some(cost) => write!(f, "PasswordHash({cost}, ..)"),
            None => f.write_str("PasswordHash(unusable)"),
        }
    }
}

/// Returns `true` if a text begins like a hash of Werkzeug: its parameters follow colons.
fn is_of_werkzeug(text: &str) -> bool {
    text.starts_with("pbkdf2:") || text.starts_with("scrypt:")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: &str = "$pbkdf2-sha256$i=600000,l=32$AAECAwQFBgcICQoLDA0ODw$\
                       AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    /// One text of each format, and its cost.
    const FORMATS: &[(&str, &str)] = &[
        (OWN, "pbkdf2-sha256:600000"),
        ("$pbkdf2$131000$c2FsdA$AAECAwQFBgcICQoLDA0ODxAREhM", "pbkdf2-sha1:131000"),
        (
            "$pbkdf2-sha256$29000$c2FsdA$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            "pbkdf2-sha256:29000",
        ),
        ("$pbkdf2-sha512$i=25000,l=16$c2FsdA$AAECAwQFBgcICQoLDA0ODw", "pbkdf2-sha512:25000"),
        ("$scrypt$ln=16,r=8,p=1$c2FsdA$AAECAwQFBgcICQoLDA0ODw", "scrypt:16:8:1"),
        ("$argon2id$v=19$m=65536,t=4,p=1$c2FsdHNhbHQ$AAECAwQFBgcICQoLDA0ODw", "argon2id:65536:4:1"),
        ("$argon2i$v=19$m=65536,t=4,p=1$c2FsdHNhbHQ$AAECAwQFBgcICQoLDA0ODw", "argon2i:65536:4:1"),
        ("$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", "bcrypt:10"),
        (
            "$bcrypt-sha256$v=2,t=2b,r=12$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2",
            "bcrypt:12",
        ),
        (
            "$bcrypt-sha256$2b,12$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2",
            "bcrypt:12",
        ),
        ("pbkdf2:sha1:1000$salt$000102030405060708090a0b0c0d0e0f10111213", "pbkdf2-sha1:1000"),
        ("scrypt:32768:8:1$salt$000102030405060708090a0b0c0d0e0f", "scrypt:15:8:1"),
        ("pbkdf2_sha1$1000$salt$AAECAwQFBgcICQoLDA0ODxAREhM=", "pbkdf2-sha1:1000"),
        ("scrypt$16384$salt$8$5$AAECAwQFBgcICQoLDA0ODw==", "scrypt:14:8:5"),
        (
            "argon2$argon2id$v=19$m=102400,t=2,p=8$c2FsdHNhbHQ$AAECAwQFBgcICQoLDA0ODw",
            "argon2id:102400:2:8",
        ),
        ("bcrypt$$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", "bcrypt:10"),
        ("bcrypt_sha256$$2b$04$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", "bcrypt:4"),
    ];

    fn parse(text: &str) -> PasswordHash {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_format_keeps_its_text_and_has_a_cost() {
        for (text, cost) in FORMATS {
            let hash = parse(text);
            assert_eq!(hash.to_string(), *text);
            assert_eq!(hash.cost(), Some(cost.parse().unwrap()), "{text}");
            assert_eq!(hash.is_own(), *text == OWN, "{text}");
        }
    }

    #[test]
    fn unusable_hash_has_no_cost() {
        let hash = parse("!qLVkfHAnGFzpxSWMWqRHHkXUmTl1pkVeFTTRBXhP");
        assert!(hash.cost().is_none() && hash.parts().is_none());
        assert_eq!(hash.replacement(NonZeroU32::MIN), None);
        assert_eq!(hash.to_django(), Some(hash.to_string()));
        assert_eq!(hash.to_werkzeug(), None);
    }

    #[test]
    fn parts_are_decoded() {
        let own = parse(OWN);
        let parts = own.parts().unwrap();
        assert_eq!(parts.salt, (0..16).collect::<Vec<u8>>());
        assert_eq!(parts.key, (0..32).collect::<Vec<u8>>());

        let werkzeug = parse("scrypt:32768:8:1$c2FsdA$000102030405060708090a0b0c0d0e0f");
        assert_eq!(werkzeug.parts().unwrap().salt, b"c2FsdA", "the text is the salt");
    }

    #[test]
    fn other_strings_are_refused() {
        let tampered = [
            ("pbkdf2-sha256", "pbkdf2-md5"),
            ("i=600000", "i=0"),
            ("i=600000", "i=99999999999"),
            ("i=600000,", ""),
            ("l=32", "l=31"),
            (",l=32", ""),
            ("l=32", "l=32,x=1"),
            ("$i=", "$v=1$i="),
            ("$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", ""),
            ("$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "$AAEC"),
            ("$AAECAwQFBgcICQoLDA0ODw$", "$$"),
        ];
        for (from, to) in tampered {
            let text = OWN.replace(from, to);
            assert!(text.parse::<PasswordHash>().is_err(), "{text}");
        }
        for text in [
            "",
            "secret",
            "$1$salt$hash",
            "sha256$salt$000102030405060708090a0b0c0d0e0f",
            "pbkdf2:sha256$salt$000102030405060708090a0b0c0d0e0f",
            "scrypt:32767:8:1$salt$000102030405060708090a0b0c0d0e0f",
            "$argon2id$m=65536,t=4,p=1$c2FsdHNhbHQ$AAECAwQFBgcICQoLDA0ODw",
            "$argon2id$v=19$m=65536,t=4,p=1$c2FsdA$AAECAwQFBgcICQoLDA0ODw",
            "$2x$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
            "$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhW",
            "bcrypt$$bcrypt-sha256$2b,12$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2",
        ] {
            assert!(text.parse::<PasswordHash>().is_err(), "{text}");
        }
        assert!(format!("!{}", "x".repeat(MAX_LENGTH)).parse::<PasswordHash>().is_err());
    }

    #[test]
    fn too_costly_hash_names_the_cap() {
        let error = OWN.replace("600000", "5000001").parse::<PasswordHash>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "a password hash that takes too long to verify: \
             PBKDF2 may have at most 5,000,000 iterations"
        );
    }

    #[test]
    fn replacement_never_lowers_the_cost() {
        let replacement = |text: &str, configured| {
            let iterations = parse(text).replacement(NonZeroU32::new(configured).unwrap());
            iterations.map(NonZeroU32::get)
        };
        let django = "pbkdf2_sha1$1000000$salt$AAECAwQFBgcICQoLDA0ODxAREhM=";

        assert_eq!(replacement(OWN, 600_000), None);
        assert_eq!(replacement(OWN, 700_000), Some(700_000));
        assert_eq!(replacement(OWN, 500_000), None, "the setting was lowered");
        assert_eq!(replacement(django, 600_000), Some(1_000_000));
        assert_eq!(replacement(django, 2_000_000), Some(2_000_000));
        for (text, _) in &FORMATS[4..10] {
            assert_eq!(replacement(text, 600_000), Some(600_000), "{text}");
        }
    }

    #[test]
    fn hash_with_a_text_salt_is_written_for_other_systems() {
        let key: Vec<u8> = (0..32).collect();
        let own = PasswordHash::new(NonZeroU32::MIN, b"saltSALT123", &key).unwrap();
        let werkzeug = own.to_werkzeug().unwrap();
        let django = own.to_django().unwrap();

        assert_eq!(
            werkzeug,
            "pbkdf2:sha256:1$saltSALT123$\
             000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
        );
        assert_eq!(
            django,
            "pbkdf2_sha256$1$saltSALT123$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
        );
        assert_eq!(parse(&werkzeug).to_django(), Some(django.clone()));
        assert_eq!(parse(&django).to_werkzeug(), Some(werkzeug));
        assert_eq!(parse(OWN).to_werkzeug(), None, "the salt is binary");
        assert_eq!(parse(OWN).to_django(), None);
        let bcrypt = "bcrypt$$2b$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
        assert_eq!(parse(bcrypt).to_django(), Some(bcrypt.to_owned()));
        assert_eq!(parse(bcrypt).to_werkzeug(), None);
    }

    #[test]
    fn debug_hides_salt_and_key() {
        assert_eq!(format!("{:?}", parse(OWN)), "PasswordHash(pbkdf2-sha256:600000, ..)");
    }

    proptest! {
        #[test]
        fn written_hash_is_parsed_back(
            iterations in 1..=5_000_000_u32,
            salt in prop::collection::vec(any::<u8>(), 1..=64),
            key in prop::collection::vec(any::<u8>(), 16..=32),
        ) {
            let iterations = NonZeroU32::new(iterations).unwrap();
            let hash = PasswordHash::new(iterations, &salt, &key).unwrap();
            let parts = hash.parts().unwrap();
            prop_assert_eq!((&parts.salt, &parts.key), (&salt, &key));
            prop_assert_eq!(hash.to_string().parse::<PasswordHash>().unwrap(), hash);
        }

        #[test]
        fn parser_never_panics(text in any::<String>(), prefix in 0..FORMATS.len()) {
            let _ = text.parse::<PasswordHash>();
            let (format, _) = FORMATS[prefix];
            let (start, _) = format.split_at(format.len() / 2);
            let _ = format!("{start}{text}").parse::<PasswordHash>();
        }

        /// One character of a hash is replaced.
        #[test]
        fn near_misses_keep_their_text_or_are_refused(
            format in 0..FORMATS.len(),
            position in any::<prop::sample::Index>(),
            char in any::<char>(),
        ) {
            let mut chars: Vec<char> = FORMATS[format].0.chars().collect();
            let position = position.index(chars.len());
            chars[position] = char;
            let text: String = chars.into_iter().collect();
            if let Ok(hash) = text.parse::<PasswordHash>() {
                prop_assert_eq!(hash.to_string(), text);
            }
        }
    }
}
