//! Rules for new passwords.

use std::sync::Arc;

use super::password::MAX_CHARS;
use super::{Blocklist, Password, PasswordError, Username};

/// Rules for new passwords. Logins do not apply them: a password that was set under other rules, or
/// imported, stays valid.
#[derive(Clone, Debug)]
pub struct PasswordPolicy {
    min_length: usize,
    /// Words that are refused; `None` also allows the username.
    blocklist: Option<Arc<Blocklist>>,
}

/// New password that follows the rules, except that it may be the username: [`Self::for_user`]
/// completes the check.
#[derive(Clone, Debug)]
pub struct NewPassword {
    password: Password,
    may_be_username: bool,
}

impl PasswordPolicy {
    /// Least minimum length, in characters (OWASP ASVS 5.0 section 6.2.1).
    pub const LEAST_MIN_LENGTH: usize = 8;

    /// Greatest minimum length, in characters. NIST SP 800-63B-4 section 3.1.1.2 asks for at least 15
    /// where the password is the only factor, and to allow passwords of 64.
    pub const GREATEST_MIN_LENGTH: usize = 64;

    /// Creates the rules. `min_length` is in characters, and is moved into the range from
    /// [`Self::LEAST_MIN_LENGTH`] to [`Self::GREATEST_MIN_LENGTH`].
    #[must_use]
    pub fn new(min_length: usize, blocklist: Option<Blocklist>) -> Self {
        let min_length = min_length.clamp(Self::LEAST_MIN_LENGTH, Self::GREATEST_MIN_LENGTH);
        Self { min_length, blocklist: blocklist.map(Arc::new) }
    }

    /// Returns `true` if some words are refused.
    #[must_use]
    pub fn has_blocklist(&self) -> bool {
        self.blocklist.is_some()
    }

    /// Parses a new password.
    ///
    /// # Errors
    /// Returns [`PasswordError`], but never [`PasswordError::IsUsername`].
    pub fn parse(&self, raw: &str) -> Result<NewPassword, PasswordError> {
        let password = Password::parse(raw)?;
        let length = password.as_str().chars().count();
        if length < self.min_length {
            return Err(PasswordError::TooShort { min_length: self.min_length });
        }
        if length > MAX_CHARS {
            return Err(PasswordError::TooLong);
        }
        if self.blocklist.as_ref().is_some_and(|blocklist| blocklist.contains(&password)) {
            return Err(PasswordError::TooCommon);
        }
        Ok(NewPassword { password, may_be_username: self.blocklist.is_none() })
    }
}

impl Default for PasswordPolicy {
    /// Creates the rules of the default settings.
    fn default() -> Self {
        Self::new(Self::LEAST_MIN_LENGTH, None)
    }
}

impl NewPassword {
    /// Returns the password for the account with a username.
    ///
    /// # Errors
    /// Returns [`PasswordError::IsUsername`] if it is the username, in any case, and there is a
    /// blocklist.
    pub fn for_user(self, username: &Username) -> Result<Password, PasswordError> {
        let is_username = || {
            Username::parse_existing(self.password.as_str())
                .is_ok_and(|name| name.key() == username.key())
        };
        if !self.may_be_username && is_username() {
            return Err(PasswordError::IsUsername);
        }
        Ok(self.password)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(policy: &PasswordPolicy, text: &str) -> Result<(), PasswordError> {
        policy.parse(text).map(|_| ())
    }

    #[test]
    fn length_is_counted_in_characters_after_the_mapping() {
        let too_short = |min_length| Err(PasswordError::TooShort { min_length });
        let (eight, fifteen) = (PasswordPolicy::default(), PasswordPolicy::new(15, None));

        assert_eq!(parse(&eight, "short12"), too_short(8));
        assert_eq!(parse(&eight, "cafe\u{301}123"), too_short(8));
        for accepted in ["testpass", "пароль12", "🫠🫡🫢🫣🫤🥹🫥🫦"] {
            assert_eq!(parse(&eight, accepted), Ok(()));
        }
        assert_eq!(parse(&fifteen, "fourteen chars"), too_short(15));
        assert_eq!(parse(&fifteen, "fifteen letters"), Ok(()));
        assert_eq!(parse(&eight, &"é".repeat(256)), Ok(()));
        assert_eq!(parse(&eight, &"a".repeat(257)), Err(PasswordError::TooLong));
        assert_eq!(parse(&eight, "testpass\0"), Err(PasswordError::ContainsNul));
    }

    #[test]
    fn minimum_length_is_bounded() {
        let min_length = |length| PasswordPolicy::new(length, None).min_length;
        assert_eq!([0, 8, 64, 65].map(min_length), [8, 8, 64, 64]);
    }

    #[test]
    fn blocklist_refuses_its_words_and_the_username() {
        let policy = PasswordPolicy::new(8, Some(Blocklist::from_lines("testpass")));
        let alice = Username::parse("Weiß-Alice").unwrap();
        let for_alice =
            |policy: &PasswordPolicy, text| policy.parse(text).unwrap().for_user(&alice).err();

        assert_eq!(parse(&policy, "TestPass"), Err(PasswordError::TooCommon));
        for name in ["Weiß-Alice", "WEISS-ALICE", "ｗeiss-alice"] {
            assert_eq!(for_alice(&policy, name), Some(PasswordError::IsUsername), "{name}");
        }
        for other in ["weiss-alice1", "weiss alice", "correct horse"] {
            assert_eq!(for_alice(&policy, other), None, "{other}");
        }
        assert_eq!(parse(&PasswordPolicy::default(), "testpass"), Ok(()));
        assert_eq!(for_alice(&PasswordPolicy::default(), "Weiß-Alice"), None);
    }
}
