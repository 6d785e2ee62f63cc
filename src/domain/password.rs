//! Passwords in plain text.

use std::fmt;

use precis_profiles::OpaqueString;
use precis_profiles::precis_core::profile::Rules;
use thiserror::Error;
use zeroize::Zeroizing;

/// Greatest length of a new password, in characters.
pub(super) const MAX_CHARS: usize = 256;

/// Password with any character but NUL. [`PasswordPolicy`](super::PasswordPolicy) has the rules for
/// new ones, their length among them: only the size of a request limits one that an account has.
///
/// Equivalent input is one password: the mappings of RFC 8265 `OpaqueString` are applied (every
/// space becomes U+0020, then Unicode form C). Its set of allowed code points is not: it is of
/// Unicode 6.3 and would refuse every letter and emoji added since.
#[derive(Clone)]
pub struct Password {
    text: Zeroizing<String>,
    /// Input before the mappings, if they change it.
    raw: Option<Zeroizing<String>>,
}

/// Rule that a password violates. The text is for its user.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PasswordError {
    /// Fewer characters than the settings require.
    #[error("Password must be at least {min_length} characters long")]
    TooShort {
        /// Minimum length, in characters.
        min_length: usize,
    },
    /// More than 256 characters.
    #[error("Password must be at most {MAX_CHARS} characters long")]
    TooLong,
    /// HMAC pads a short key with zero bytes: passwords that differ in trailing NULs have one hash.
    #[error("Password must not contain the character NUL")]
    ContainsNul,
    /// A word of the blocklist.
    #[error("Password is too common: choose one that is harder to guess")]
    TooCommon,
    /// The username of the account.
    #[error("Password must not be the username")]
    IsUsername,
}

impl Password {
    /// Parses a password of an account, as for a login.
    ///
    /// # Errors
    /// Returns [`PasswordError::ContainsNul`].
    pub fn parse(raw: &str) -> Result<Self, PasswordError> {
        let text = Zeroizing::new(mapped(raw));
        if text.contains('\0') {
            return Err(PasswordError::ContainsNul);
        }
        let raw = (*text != raw).then(|| Zeroizing::new(raw.to_owned()));
        Ok(Self { text, raw })
    }

    /// Returns the bytes to hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Returns the bytes that may have been hashed: the input with the mappings and, if it differs,
    /// without them, as other systems hash it.
    #[must_use]
    pub fn forms(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        [Some(&self.text), self.raw.as_ref()].into_iter().flatten().map(|form| form.as_bytes())
    }

    /// Returns the number of forms: one or two.
    #[must_use]
    pub fn count_forms(&self) -> u32 {
        if self.raw.is_some() { 2 } else { 1 }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// Applies the mappings of RFC 8265 `OpaqueString`.
pub(super) fn mapped(raw: &str) -> String {
    let profile = OpaqueString::new();
    let mapped =
        profile.additional_mapping_rule(raw).and_then(|text| profile.normalization_rule(text));
    // Neither rule can fail; if one did, the input would be used as it is.
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
    fn imported_passwords_may_have_any_length() {
        assert!(Password::parse("x").is_ok());
        assert!(Password::parse(&"é".repeat(10_000)).is_ok());
    }

    #[test]
    fn input_that_the_mappings_change_has_two_forms() {
        let forms = |text: &str| {
            let password = Password::parse(text).unwrap();
            password.forms().map(|form| String::from_utf8(form.into()).unwrap()).collect::<Vec<_>>()
        };

        assert_eq!(forms("caf\u{e9} noir"), ["caf\u{e9} noir"]);
        assert_eq!(forms("cafe\u{301} noir"), ["caf\u{e9} noir", "cafe\u{301} noir"]);
        assert_eq!(forms("correct\u{a0}horse"), ["correct horse", "correct\u{a0}horse"]);
    }

    #[test]
    fn equivalent_input_is_one_password() {
        let composed = Password::parse("caf\u{e9} noir").unwrap();
        let decomposed = Password::parse("cafe\u{301}\u{a0}noir").unwrap();

        assert_eq!(composed.as_bytes(), decomposed.as_bytes());
    }

    #[test]
    fn case_and_width_are_preserved() {
        let password = Password::parse("Ｆull Ｗidth").unwrap();

        assert_eq!(password.as_bytes(), "Ｆull Ｗidth".as_bytes());
    }

    #[test]
    fn characters_newer_than_the_rfc_are_accepted() {
        assert!(Password::parse("🫠🫡🫢🫣🫤🥹🫥🫦").is_ok());
    }

    #[test]
    fn nul_is_refused_anywhere() {
        for text in ["testpass\0", "\0testpass", "test\0pass", "x\0\0\0\0\0\0\0", "\0"] {
            assert_eq!(Password::parse(text).unwrap_err(), PasswordError::ContainsNul, "{text:?}");
        }
    }

    #[test]
    fn debug_hides_the_password() {
        let password = Password::parse("correct horse").unwrap();

        assert_eq!(format!("{password:?}"), "Password(..)");
    }

    proptest! {
        #[test]
        fn ascii_text_of_valid_length_is_accepted(text in "[ -~]{1,256}") {
            let password = Password::parse(&text).unwrap();
            prop_assert_eq!(password.as_bytes(), text.as_bytes());
        }

        #[test]
        fn parsing_is_idempotent(text in any::<String>()) {
            if let Ok(once) = Password::parse(&text) {
                let again = Password::parse(std::str::from_utf8(once.as_bytes()).unwrap()).unwrap();
                prop_assert_eq!(again.as_bytes(), once.as_bytes());
            }
        }
    }
}
