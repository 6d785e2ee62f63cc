//! Usernames: their displayed form and their key.

use precis_profiles::precis_core::profile::{PrecisFastInvocation, Rules};
use precis_profiles::{Nickname, UsernameCaseMapped, UsernameCasePreserved};
use thiserror::Error;
use unicase::UniCase;

const MAX_CHARS: usize = 150;

/// Username in two forms of RFC 8265: case preserved for display, and case mapped as the key.
/// `Alice` and `alice` are one account.
///
/// Before the mapping, which goes letter by letter, the key is case-folded (Unicode, section
/// 3.13.3): `νικος` and `ΝΙΚΟΣ` are one account, and so are `weiß` and `WEISS`.
///
/// An account that was imported from another system may have a name that RFC 8265 forbids, such as
/// `John Doe`. Its key is mapped like a nickname of RFC 8266: spaces at the ends and repeated spaces
/// do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Username {
    displayed: String,
    key: String,
    unfolded_key: String,
}

/// Rule that a username violates. The text is for its user.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UsernameError {
    /// More than 150 characters.
    #[error("Username must be at most {MAX_CHARS} characters long")]
    TooLong,
    /// Empty, or with a character that RFC 8265 forbids (space, control character, symbol).
    #[error("Username must be made of letters, digits and ASCII punctuation, without spaces")]
    Forbidden,
    /// Empty, or with a control character or an invisible one, in a name of an existing account.
    #[error("Username must have visible characters and no others")]
    Invisible,
}

impl Username {
    /// Parses the username of a new account.
    ///
    /// # Errors
    /// Returns [`UsernameError`] if it is too long or forbidden by RFC 8265.
    pub fn parse(raw: &str) -> Result<Self, UsernameError> {
        // First, so that long input costs nothing more. The limit is in characters, not bytes.
        if raw.chars().nth(MAX_CHARS).is_some() {
            return Err(UsernameError::TooLong);
        }
        let displayed =
            UsernameCasePreserved::enforce(raw).map_err(|_| UsernameError::Forbidden)?;
        let folded = UniCase::unicode(displayed.as_ref()).to_folded_case();
        let key = case_mapped(&folded)?;
        let unfolded_key = case_mapped(&displayed)?;
        Ok(Self { displayed: displayed.into_owned(), key, unfolded_key })
    }

    /// Parses the username of an account that exists, as for a login: it may have been imported from
    /// a system with other rules.
    ///
    /// # Errors
    /// Returns [`UsernameError`] if it is too long, also after the mapping, or invisible.
    pub fn parse_existing(raw: &str) -> Result<Self, UsernameError> {
        match Self::parse(raw) {
            Err(UsernameError::Forbidden) => Self::parse_nickname(raw),
            parsed => parsed,
        }
    }

    /// Parses a name with the mappings of RFC 8266, but not its set of allowed code points, which is
    /// of Unicode 6.3.
    fn parse_nickname(raw: &str) -> Result<Self, UsernameError> {
        if raw.chars().any(is_invisible) {
            return Err(UsernameError::Invisible);
        }
        let mapped = nickname(raw)?;
        let displayed = raw.to_owned();
        // ` Alice` and `Alice` are one account.
        if let Ok(Self { key, unfolded_key, .. }) = Self::parse(&mapped) {
            return Ok(Self { displayed, key, unfolded_key });
        }
        let key = nickname(&UniCase::unicode(mapped).to_folded_case())?;
        Ok(Self { displayed, unfolded_key: key.clone(), key })
    }

    /// Returns the displayed form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.displayed
    }

    /// Returns the key, unique among all accounts.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Returns the key without case folding. Accounts that were created before the folding, and
    /// whose folded key another account has, keep it.
    #[must_use]
    pub fn unfolded_key(&self) -> &str {
        &self.unfolded_key
    }
}

fn case_mapped(name: &str) -> Result<String, UsernameError> {
    let mapped = UsernameCaseMapped::enforce(name).map_err(|_| UsernameError::Forbidden)?;
    Ok(mapped.into_owned())
}

/// Maps spaces, and normalises to form KC.
fn nickname(name: &str) -> Result<String, UsernameError> {
    let profile = Nickname::new();
    let mapped =
        profile.additional_mapping_rule(name).and_then(|name| profile.normalization_rule(name));
    let mapped = mapped.map_err(|_| UsernameError::Invisible)?;
    match mapped.chars().nth(MAX_CHARS) {
        Some(_) => Err(UsernameError::TooLong),
        None if mapped.is_empty() => Err(UsernameError::Invisible),
        None => Ok(mapped.into_owned()),
    }
}

/// Returns `true` for controls and for format characters: names that differ in them look alike.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 8265, section 3.5, table 1.
    #[test]
    fn rfc_examples_are_accepted_and_refused() {
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
    fn key_ignores_case_and_width() {
        let name = Username::parse("ＡliCe").unwrap();

        assert_eq!(name.as_str(), "AliCe");
        assert_eq!(name.key(), "alice");
    }

    #[test]
    fn names_that_fold_alike_have_one_key() {
        for names in
            [["νικος", "ΝΙΚΟΣ", "νικοσ"], ["weiß", "WEISS", "WEIẞ"], ["ᾳδης", "ΑΙΔΗΣ", "αιδησ"]]
        {
            let keys = names.map(|name| Username::parse(name).unwrap().key().to_owned());
            assert!(keys.iter().all(|key| *key == keys[0]), "{names:?} have the keys {keys:?}");
        }
        assert_ne!(Username::parse("ı").unwrap().key(), Username::parse("i").unwrap().key());
    }

    #[test]
    fn unfolded_key_is_that_of_the_rfc() {
        let name = Username::parse("Weiß").unwrap();

        assert_eq!((name.key(), name.unfolded_key()), ("weiss", "weiß"));
    }

    #[test]
    fn length_is_counted_in_characters() {
        assert!(Username::parse(&"é".repeat(150)).is_ok());
        assert_eq!(Username::parse(&"a".repeat(151)), Err(UsernameError::TooLong));
    }

    #[test]
    fn every_accepted_letter_parses_to_itself() {
        for letter in char::MIN..=char::MAX {
            if let Ok(name) = Username::parse(&format!("a{letter}")) {
                // Letters of later versions of Unicode occur in keys only.
                if let Ok(by_key) = Username::parse(name.key()) {
                    assert_eq!(by_key.key(), name.key(), "{letter:?}");
                }
                assert_eq!(Username::parse(name.as_str()), Ok(name), "{letter:?}");
            }
        }
    }

    #[test]
    fn existing_names_may_break_the_rules_of_new_ones() {
        for (raw, key) in [
            ("John Doe", "john doe"),
            ("  JOHN\u{a0} doe ", "john doe"),
            (" Alice", "alice"),
            ("ﬁsh & Weiß", "fish & weiss"),
            ("user🫠", "user🫠"),
            ("Alice", "alice"),
        ] {
            let name = Username::parse_existing(raw).unwrap();
            assert_eq!((name.as_str(), name.key()), (raw, key));
        }
        let too_long = "\u{fdfa}".repeat(10);
        for (raw, error) in [
            ("", UsernameError::Invisible),
            ("  ", UsernameError::Invisible),
            ("John\u{200b}Doe", UsernameError::Invisible),
            ("John\nDoe", UsernameError::Invisible),
            ("a\0 b", UsernameError::Invisible),
            (&too_long, UsernameError::TooLong),
        ] {
            assert_eq!(Username::parse_existing(raw), Err(error), "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn existing_name_is_found_by_its_displayed_form(raw in any::<String>()) {
            if let Ok(name) = Username::parse_existing(&raw) {
                let again = Username::parse_existing(name.as_str()).unwrap();
                prop_assert_eq!(again, name);
            }
        }

        #[test]
        fn key_is_the_same_in_any_case(name in "[a-zA-Z0-9._@-]{1,40}") {
            let upper = Username::parse(&name.to_uppercase()).unwrap();
            let lower = Username::parse(&name.to_lowercase()).unwrap();
            prop_assert_eq!(upper.key(), lower.key());
        }

        #[test]
        fn displayed_form_parses_to_itself(raw in any::<String>()) {
            if let Ok(name) = Username::parse(&raw) {
                let again = Username::parse(name.as_str()).unwrap();
                prop_assert_eq!(again, name);
            }
        }
    }
}
