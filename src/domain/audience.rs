//! The audience of access tokens (RFC 7519 section 4.1.3).

use std::fmt;

use thiserror::Error;

/// Text for the service itself, whose name is the issuer. The issuer can change while a session is
/// open.
const SERVICE: &str = ".";

/// Recipients of access tokens: the service itself, and APIs that verify tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audience {
    has_service: bool,
    apis: Vec<String>,
}

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
    /// Creates the audience of the service and of APIs, whose names have no spaces.
    #[must_use]
    pub fn new(apis: Vec<String>) -> Self {
        Self { has_service: true, apis }
    }

    /// Restricts the audience to some of its names. The service has the name of the issuer.
    ///
    /// # Errors
    /// Returns [`AudienceError`] if the list is empty or contains another name.
    pub fn restrict(&self, names: &[String], issuer: &str) -> Result<Self, AudienceError> {
        let is_offered = |name: &String| self.names(issuer).any(|offered| offered == name);
        if names.is_empty() || !names.iter().all(is_offered) {
            let offered = self.names(issuer).map(str::to_owned).collect();
            return Err(AudienceError { offered });
        }
        Ok(Self {
            has_service: self.has_service && names.iter().any(|name| name == issuer),
            apis: self.apis.iter().filter(|api| names.contains(api)).cloned().collect(),
        })
    }

    /// Returns `true` if every name of the other audience is in this one.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        let is_known = |api: &String| self.apis.contains(api);
        (self.has_service || !other.has_service) && other.apis.iter().all(is_known)
    }

    /// Returns the names. The service has the name of the issuer.
    pub fn names<'a>(&'a self, issuer: &'a str) -> impl Iterator<Item = &'a str> {
        self.has_service.then_some(issuer).into_iter().chain(self.apis.iter().map(String::as_str))
    }

    /// Parses the text that [`fmt::Display`] writes.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let names = text.split_ascii_whitespace();
        let (service, apis): (Vec<_>, Vec<_>) = names.partition(|name| *name == SERVICE);
        Self {
            has_service: !service.is_empty(),
            apis: apis.into_iter().map(str::to_owned).collect(),
        }
    }
}

/// Writes the names, separated by spaces, with `.` for the service.
impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names(SERVICE).collect();
        f.write_str(&names.join(" "))
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
        let offered = Audience::new(names("orders invoices"));

        let restricted =
            offered.restrict(&names("orders portcullis orders"), "portcullis").unwrap();

        let all: Vec<_> = restricted.names("portcullis").collect();
        assert_eq!(all, ["portcullis", "orders"], "each name once");
        let alone = offered.restrict(&names("orders"), "portcullis").unwrap();
        assert_eq!(alone.names("portcullis").collect::<Vec<_>>(), ["orders"]);
        for refused in ["", "orders payments", "."] {
            let error = offered.restrict(&names(refused), "portcullis").unwrap_err();
            let text = "Audiences must be among these: portcullis, orders, invoices";
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn stored_audience_survives_a_change_of_the_issuer() {
        let offered = Audience::new(names("orders"));
        for chosen in ["portcullis orders", "portcullis", "orders"] {
            let restricted = offered.restrict(&names(chosen), "portcullis").unwrap();
            let read = Audience::from_text(&restricted.to_string());
            assert_eq!(read, restricted, "{chosen}");
            let renamed = chosen.replace("portcullis", "https://auth.example.com");
            assert_eq!(read.names("https://auth.example.com").collect::<Vec<_>>(), names(&renamed));
        }
    }
}
