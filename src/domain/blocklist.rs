//! Words that are refused as passwords.

use std::collections::HashSet;

use unicase::UniCase;
use zeroize::Zeroizing;

use super::password::{Password, mapped};

/// Words that are refused as passwords, ignoring case.
#[derive(Clone, Debug, Default)]
pub struct Blocklist(HashSet<String>);

impl Blocklist {
    /// Returns the 8,346 most common passwords of at least 8 characters, 80 KiB in the program. OWASP
    /// ASVS 5.0 section 6.2.4 asks for 3,000. `blocklist/LICENSE` names the source.
    #[must_use]
    pub fn common() -> Self {
        Self::from_lines(include_str!("blocklist/common.txt"))
    }

    /// Reads a list of words, one a line. Empty lines are skipped.
    #[must_use]
    pub fn from_lines(text: &str) -> Self {
        Self(
            text.lines()
                .filter(|word| !word.is_empty())
                .map(|word| folded(&mapped(word)))
                .collect(),
        )
    }

    /// Returns `true` if there is no word.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a word.
    pub fn insert(&mut self, word: &str) {
        self.0.insert(folded(&mapped(word)));
    }

    /// Returns `true` if a password is one of the words.
    #[must_use]
    pub fn contains(&self, password: &Password) -> bool {
        self.0.contains(Zeroizing::new(folded(password.as_str())).as_str())
    }
}

fn folded(text: &str) -> String {
    UniCase::unicode(text).to_folded_case()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::parse(text).unwrap()
    }

    #[test]
    fn words_are_compared_without_case_after_the_mapping() {
        let blocklist = Blocklist::from_lines("Hunter2hunter2\r\n\ncaf\u{e9} Stra\u{df}e\n");

        for word in ["hunter2hunter2", "HUNTER2HUNTER2", "cafe\u{301}\u{a0}STRASSE"] {
            assert!(blocklist.contains(&password(word)), "{word}");
        }
        for other in ["hunter2hunter", "hunter2hunter22", " hunter2hunter2", ""] {
            assert!(!blocklist.contains(&password(other)), "{other}");
        }
        assert!(Blocklist::from_lines("\n\r\n").is_empty());
    }

    #[test]
    fn common_passwords_are_sorted_and_long_enough() {
        let words: Vec<_> = include_str!("blocklist/common.txt").lines().collect();

        assert!(words.is_sorted(), "so that a change can be read");
        assert!(words.iter().all(|word| word.chars().count() >= 8));
        assert_eq!(Blocklist::common().0.len(), words.len(), "there are duplicates");
        assert_eq!(words.len(), 8_346);
        assert!(Blocklist::common().contains(&password("testpass")));
        assert!(!Blocklist::common().contains(&password("correct horse")));
    }
}
