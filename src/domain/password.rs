//! Passwords as people type them.

use std::fmt;

use precis_profiles::OpaqueString;
use precis_profiles::precis_core::profile::Rules;
use thiserror::Error;
use zeroize::Zeroizing;

const MIN_CHARS: usize = 8;
const MAX_CHARS: usize = 256;

/// A password of acceptable length: 8 to 256 characters, any character (NIST SP 800-63B).
///
/// Two ways of typing the same text are one password: the mappings of RFC 8265 `OpaqueString` are
/// applied (every space becomes U+0020, then Unicode form C). Its list of allowed code points is
/// not: that list is of Unicode 6.3 and would refuse every letter and emoji made since.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// The rule that a password broke. Its text is for the person who chose it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PasswordError {
    /// Fewer than 8 characters.
    #[error("Password must be at least {MIN_CHARS} characters long")]
    TooShort,
    /// More than 256 characters.
    #[error("Password must be at most {MAX_CHARS} characters long")]
    TooLong,
}

impl Password {
    /// Reads a password.
    ///
    /// # Errors
    /// When it is too short or too long, counted in characters after mapping.
    pub fn parse(raw: &str) -> Result<Self, PasswordError> {
        let text = Zeroizing::new(mapped(raw));
        match text.chars().take(MAX_CHARS + 1).count() {
            ..MIN_CHARS => Err(PasswordError::TooShort),
            MIN_CHARS..=MAX_CHARS => Ok(Self(text)),
            _ => Err(PasswordError::TooLong),
        }
    }

    /// Returns what is hashed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn mapped(raw: &str) -> String {
    let profile = OpaqueString::new();
    let mapped =
        profile.additional_mapping_rule(raw).and_then(|text| profile.normalization_rule(text));
    // Neither rule can fail; were one to, the text as it was typed is a password too.
    mapped.map_or_else(|_| raw.to_owned(), Into::into)
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_length_is_counted_in_characters() {
        assert_eq!(Password::parse("short12").unwrap_err(), PasswordError::TooShort);
        assert!(Password::parse("testpass").is_ok());
        assert!(Password::parse("пароль12").is_ok());
        assert!(Password::parse(&"é".repeat(256)).is_ok());
        assert_eq!(Password::parse(&"a".repeat(257)).unwrap_err(), PasswordError::TooLong);
    }

    #[test]
    fn the_same_text_typed_in_two_ways_is_one_password() {
        let composed = Password::parse("caf\u{e9} noir").unwrap();
        let decomposed = Password::parse("cafe\u{301}\u{a0}noir").unwrap();

        assert_eq!(composed.as_bytes(), decomposed.as_bytes());
    }

    #[test]
    fn case_and_width_are_kept() {
        let password = Password::parse("Ｆull Ｗidth").unwrap();

        assert_eq!(password.as_bytes(), "Ｆull Ｗidth".as_bytes());
    }

    #[test]
    fn a_character_newer_than_the_rfc_is_welcome() {
        assert!(Password::parse("🫠🫡🫢🫣🫤🥹🫥🫦").is_ok());
    }

    #[test]
    fn debug_shows_nothing() {
        let password = Password::parse("correct horse").unwrap();

        assert_eq!(format!("{password:?}"), "Password(..)");
    }

    proptest! {
        #[test]
        fn any_text_of_the_right_length_is_accepted(text in "[ -~]{8,256}") {
            let password = Password::parse(&text).unwrap();
            prop_assert_eq!(password.as_bytes(), text.as_bytes());
        }

        #[test]
        fn parsing_twice_changes_nothing(text in any::<String>()) {
            if let Ok(once) = Password::parse(&text) {
                let again = Password::parse(std::str::from_utf8(once.as_bytes()).unwrap()).unwrap();
                prop_assert_eq!(again.as_bytes(), once.as_bytes());
            }
        }
    }
}
