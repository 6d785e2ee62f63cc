//! Usernames: how they are shown, and what makes two of them the same.

use precis_profiles::precis_core::profile::PrecisFastInvocation;
use precis_profiles::{UsernameCaseMapped, UsernameCasePreserved};
use thiserror::Error;

const MAX_CHARS: usize = 150;

/// A username in its two forms of RFC 8265: case preserved, to be shown, and case mapped, to be
/// compared. `Alice` and `alice` are one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username {
    shown: String,
    key: String,
}

/// The rule that a username broke. Its text is for the person who chose it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UsernameError {
    /// More than 150 characters.
    #[error("Username must be at most {MAX_CHARS} characters long")]
    TooLong,
    /// Empty, or with a character that RFC 8265 forbids (a space, a control, a symbol).
    #[error("Username must be made of letters, digits and ASCII punctuation, without spaces")]
    Forbidden,
}

impl Username {
    /// Reads a username.
    ///
    /// # Errors
    /// When it is too long, or not a username by RFC 8265.
    pub fn parse(raw: &str) -> Result<Self, UsernameError> {
        // Before anything walks it: only characters count, so a byte bound would be wrong.
        if raw.chars().nth(MAX_CHARS).is_some() {
            return Err(UsernameError::TooLong);
        }
        let shown = UsernameCasePreserved::enforce(raw).map_err(|_| UsernameError::Forbidden)?;
        let key = UsernameCaseMapped::enforce(raw).map_err(|_| UsernameError::Forbidden)?;
        Ok(Self { shown: shown.into_owned(), key: key.into_owned() })
    }

    /// Returns the name as its owner wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// Returns the form that is unique among all accounts.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 8265, section 3.5, table 1.
    #[test]
    fn the_examples_of_the_rfc_are_read_as_it_says() {
        for name in
            ["juliet@example.com", "fussball", "fu\u{df}ball", "\u{3c0}", "\u{3a3}", "\u{3c3}"]
        {
            assert!(Username::parse(name).is_ok(), "{name}");
        }
        for name in ["foo bar", "", "henry\u{2163}", "\u{265a}"] {
            assert_eq!(Username::parse(name), Err(UsernameError::Forbidden), "{name}");
        }
    }

    #[test]
    fn case_and_width_are_for_show() {
        let name = Username::parse("ＡliCe").unwrap();

        assert_eq!(name.as_str(), "AliCe");
        assert_eq!(name.key(), "alice");
    }

    #[test]
    fn the_length_is_counted_in_characters() {
        assert!(Username::parse(&"é".repeat(150)).is_ok());
        assert_eq!(Username::parse(&"a".repeat(151)), Err(UsernameError::TooLong));
    }

    #[test]
    fn every_letter_that_is_accepted_is_read_back_as_it_was_stored() {
        for letter in char::MIN..=char::MAX {
            if let Ok(name) = Username::parse(&format!("a{letter}")) {
                assert_eq!(Username::parse(name.as_str()), Ok(name), "{letter:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_name_in_any_case_has_the_same_key(name in "[a-zA-Z0-9._@-]{1,40}") {
            let upper = Username::parse(&name.to_uppercase()).unwrap();
            let lower = Username::parse(&name.to_lowercase()).unwrap();
            prop_assert_eq!(upper.key(), lower.key());
        }

        #[test]
        fn what_is_shown_parses_to_itself(raw in any::<String>()) {
            if let Ok(name) = Username::parse(&raw) {
                let again = Username::parse(name.as_str()).unwrap();
                prop_assert_eq!(again, name);
            }
        }
    }
}
