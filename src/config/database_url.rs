//! The URL of the database: its kind, its parts, and the files beside an SQLite database.

use std::path::{Path, PathBuf};

use super::settings::Secret;

pub(super) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Parameters of a PostgreSQL URL that `sqlx` knows, apart from other spellings.
pub(super) const URL_PARAMETERS: &[&str] = &[
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Path, query and fragment of a URL, split as every program splits them.
pub(super) struct UrlParts<'a> {
    path: &'a str,
    query: &'a str,
    has_fragment: bool,
}

impl<'a> UrlParts<'a> {
    pub(super) fn new(url: &'a str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let has_fragment = rest.contains('#');
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = rest.split_once('/').map_or("", |(_, path)| path);
        Self { path, query, has_fragment }
    }

    /// Returns `true` if the URL has an `@` after its authority, or a fragment: a password that
    /// contains `/`, `?` or `#` ends there, and its rest is not taken for a password.
    pub(super) fn has_misplaced_password(&self) -> bool {
        let mut unsupported = self.parameters().filter(|(name, _)| !is_supported(name));
        self.has_fragment
            || self.path.contains('@')
            || unsupported.any(|(name, value)| name.contains('@') || value.contains('@'))
    }

    pub(super) fn has_unsupported_parameter(&self) -> bool {
        self.parameters().any(|(name, _)| !is_supported(name))
    }

    fn parameters(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let parameters = self.query.split('&').filter(|parameter| !parameter.is_empty());
        parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
    }
}

fn is_supported(parameter: &str) -> bool {
    let other_spellings = ["ssl-mode", "ssl-root-cert", "ssl-ca", "ssl-cert", "ssl-key"];
    URL_PARAMETERS.contains(&parameter)
        || other_spellings.contains(&parameter)
        || parameter.starts_with("options[")
}

/// Removes white space around a URL, such as the line break that `echo` adds to a secret.
pub(super) fn trimmed(url: &Secret) -> Secret {
    Secret::new(url.expose().trim().to_owned())
}

/// Returns the path of the signing key of an SQLite database: `a.key` for `a.db`, and
/// `a.sqlite-key` for `a.sqlite`, since another database in the folder may be named `a.db`.
///
/// A database of before this rule keeps `a.key`, unless there is an `a.db` that owns it.
pub(super) fn key_path(database: &Path) -> PathBuf {
    let mut own_key = database.as_os_str().to_owned();
    own_key.push("-key");
    let own_key = PathBuf::from(own_key);
    let key = database.with_extension("key");
    let default_name = database.with_extension("db");
    let is_older = || database.exists() && key.exists() && !own_key.exists();
    let is_owned = || key == database || default_name.exists();
    if database == default_name || is_older() && !is_owned() { key } else { own_key }
}

/// Returns the path in a SQLite URL, or `None` for a PostgreSQL URL.
pub(super) fn sqlite_path(url: &str) -> Result<Option<PathBuf>, String> {
    match url.strip_prefix("sqlite://") {
        None if is_postgres(url) => Ok(None),
        Some(path) if !path.is_empty() && path != ":memory:" && !path.contains('?') => {
            Ok(Some(path.into()))
        }
        // Without the URL, which may contain a password.
        _ => Err("must be postgres://USER:PASSWORD@HOST/NAME or sqlite://PATH, without options"
            .to_owned()),
    }
}
