//! Permissions of the bearers of access tokens.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use thiserror::Error;

/// Maximum length of a permission, in characters.
const MAX_LENGTH: usize = 64;

/// Permission in the form of a scope token (RFC 6749 section 3.3), such as `orders:read`. Those of
/// the service itself are constants; every other one belongs to an API that the tokens protect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Permission(Cow<'static, str>);

/// Set of permissions, sorted. A vector, since it takes the least memory in cached tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Permissions(Vec<Permission>);

/// Reason why a text is no permission.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "A permission has 1 to 64 printable ASCII characters, without space, quotation mark and backslash"
)]
pub struct PermissionError;

impl Permission {
    /// Read the dashboard.
    pub const DASHBOARD_READ: Self = Self::of_service("dashboard:read");
    /// Read all accounts and their sessions.
    pub const USERS_READ: Self = Self::of_service("users:read");
    /// Create, change and delete accounts.
    pub const USERS_WRITE: Self = Self::of_service("users:write");
    /// Read the roles.
    pub const ROLES_READ: Self = Self::of_service("roles:read");
    /// Create, change and delete roles.
    pub const ROLES_WRITE: Self = Self::of_service("roles:write");
    /// Read the clients.
    pub const CLIENTS_READ: Self = Self::of_service("clients:read");
    /// Create, change and delete clients.
    pub const CLIENTS_WRITE: Self = Self::of_service("clients:write");
    /// Read the signing keys.
    pub const KEYS_READ: Self = Self::of_service("keys:read");
    /// Rotate and revoke the signing keys.
    pub const KEYS_WRITE: Self = Self::of_service("keys:write");
    /// Read the audit log.
    pub const AUDIT_READ: Self = Self::of_service("audit:read");
    /// Introspect the tokens of all users and clients (RFC 7662).
    pub const TOKENS_INTROSPECT: Self = Self::of_service("tokens:introspect");
    /// Revoke the tokens of all users and clients (RFC 7009).
    pub const TOKENS_REVOKE: Self = Self::of_service("tokens:revoke");
    /// Follow the revocation feed.
    pub const REVOCATIONS_READ: Self = Self::of_service("revocations:read");

    /// All permissions of the service itself.
    pub const OF_SERVICE: [Self; 13] = [
        Self::DASHBOARD_READ,
        Self::USERS_READ,
        Self::USERS_WRITE,
        Self::ROLES_READ,
        Self::ROLES_WRITE,
        Self::CLIENTS_READ,
        Self::CLIENTS_WRITE,
        Self::KEYS_READ,
        Self::KEYS_WRITE,
        Self::AUDIT_READ,
        Self::TOKENS_INTROSPECT,
        Self::TOKENS_REVOKE,
        Self::REVOCATIONS_READ,
    ];

    const fn of_service(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// Parses a permission.
    ///
    /// # Errors
    /// Returns [`PermissionError`] if the text is no scope token, or too long.
    pub fn parse(text: &str) -> Result<Self, PermissionError> {
        // A token of an administrator has all of them, and is parsed at each check.
        let known = Self::OF_SERVICE.into_iter().find(|permission| permission.0 == text);
        if let Some(permission) = known {
            return Ok(permission);
        }
        let is_scope_char = |c| matches!(c, '!' | '#'..='[' | ']'..='~');
        if text.is_empty() || text.len() > MAX_LENGTH || !text.chars().all(is_scope_char) {
            return Err(PermissionError);
        }
        Ok(Self(Cow::Owned(text.to_owned())))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Permissions {
    /// Returns all permissions of the service itself.
    #[must_use]
    pub fn of_service() -> Self {
        Permission::OF_SERVICE.into_iter().collect()
    }

    /// Parses a list of permissions.
    ///
    /// # Errors
    /// Returns [`PermissionError`] if one of them does not parse.
    pub fn parse(
        names: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, PermissionError> {
        names.into_iter().map(|name| Permission::parse(name.as_ref())).collect()
    }

    /// Parses a `scope` (RFC 6749 section 3.3). Names that do not parse are skipped.
    #[must_use]
    pub fn from_scope(scope: &str) -> Self {
        scope.split(' ').filter_map(|name| Permission::parse(name).ok()).collect()
    }

    /// Returns `true` if the set contains the permission.
    #[must_use]
    pub fn contains(&self, permission: &Permission) -> bool {
        self.0.binary_search(permission).is_ok()
    }

    /// Returns `true` if the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the permissions that are not in the other set.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.0.iter().filter(|permission| !other.contains(permission)).cloned().collect()
    }

    /// Returns the permissions that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.0.iter().filter(|permission| other.contains(permission)).cloned().collect()
    }

    /// Returns the permissions of both sets.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).cloned().collect()
    }

    /// Returns the texts.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(Permission::as_str).collect()
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        let mut permissions: Vec<_> = permissions.into_iter().collect();
        permissions.sort_unstable();
        permissions.dedup();
        Self(permissions)
    }
}

/// Writes the texts, separated by spaces, as in `scope` (RFC 6749 section 3.3).
impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permission_is_a_scope_token() {
        let longest = "x".repeat(64);
        for text in ["orders:read", "users:read", "!#[]~", &longest] {
            assert_eq!(Permission::parse(text).unwrap().as_str(), text);
        }
        let too_long = "x".repeat(65);
        for text in ["", "a b", "\"", "\\", "é", "\u{7f}", "\t", &too_long] {
            assert_eq!(Permission::parse(text), Err(PermissionError), "{text:?}");
        }
    }

    #[test]
    fn permissions_survive_a_scope() {
        let permissions = Permissions::parse(["users:write", "orders:read"]).unwrap();

        assert_eq!(permissions.to_string(), "orders:read users:write");
        assert_eq!(Permissions::from_scope(&permissions.to_string()), permissions);
        assert_eq!(Permissions::from_scope(""), Permissions::default());
        assert_eq!(Permissions::from_scope("users:read \u{e9}").to_string(), "users:read");
    }
}
