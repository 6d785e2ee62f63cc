//! The audience of access tokens (RFC 7519 section 4.1.3).

use std::fmt;

use thiserror::Error;

/// Recipients of the access tokens of a session: the service itself, or APIs that verify tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience(Vec<String>);

/// Reason to refuse an audience: the list is empty, or has a name that is not offered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("Audiences must be among these: {}", .offered.join(", "))]
pub struct AudienceError {
    offered: Vec<String>,
}

impl AudienceError {
    /// Returns an example for documentation.
    #[must_use]
    pub fn example() -> Self {
        Self { offered: vec!["portcullis".to_owned(), "orders".to_owned()] }
    }
}

impl Audience {
    /// Creates an audience of names without spaces.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Restricts the audience to some of its names.
    ///
    /// # Errors
    /// Returns [`AudienceError`] if the list is empty or contains another name.
    pub fn restrict(&self, names: &[String]) -> Result<Self, AudienceError> {
        if names.is_empty() || names.iter().any(|name| !self.0.contains(name)) {
            return Err(AudienceError { offered: self.0.clone() });
        }
        Ok(Self(self.0.iter().filter(|name| names.contains(name)).cloned().collect()))
    }

    /// Parses the text that [`fmt::Display`] writes.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.split(' ').map(str::to_owned).collect())
    }

    /// Returns the names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// Writes the names, separated by spaces.
impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn audience_is_restricted_to_offered_names() {
        let offered = Audience::new(names("portcullis orders invoices"));

        let restricted = offered.restrict(&names("orders portcullis orders")).unwrap();

        assert_eq!(restricted.to_string(), "portcullis orders", "each name once");
        assert_eq!(Audience::from_text("portcullis orders"), restricted);
        for refused in ["", "orders payments"] {
            let error = offered.restrict(&names(refused)).unwrap_err();
            let text = "Audiences must be among these: portcullis, orders, invoices";
            assert_eq!(error.to_string(), text);
        }
    }
}
