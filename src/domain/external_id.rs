//! Identifiers of accounts in other systems.

use serde::Serialize;
use thiserror::Error;

/// Identifier of an account in another system, such as its former integer id; unique among all
/// accounts. At most 255 characters, none of them a control character.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct ExternalId(String);

/// The text is no [`ExternalId`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "external_id must have 1 to {} characters, and no control characters",
    ExternalId::MAX_CHARS
)]
pub struct ExternalIdError;

impl ExternalId {
    /// Maximum length, in characters.
    pub const MAX_CHARS: usize = 255;

    /// Parses an identifier.
    ///
    /// # Errors
    /// Returns [`ExternalIdError`] if it is empty, too long or has a control character.
    pub fn parse(text: &str) -> Result<Self, ExternalIdError> {
        let is_valid = !text.is_empty()
            && text.chars().nth(Self::MAX_CHARS).is_none()
            && !text.chars().any(char::is_control);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(ExternalIdError) }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_valid_length_is_accepted() {
        for text in ["42", "é", "a b", &"é".repeat(255)] {
            assert_eq!(ExternalId::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "a\0b", "a\nb", &"a".repeat(256)] {
            assert_eq!(ExternalId::parse(text), Err(ExternalIdError), "{text:?}");
        }
    }
}
