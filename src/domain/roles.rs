//! Roles and the permissions they grant.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use strum::{EnumIter, EnumString, IntoEnumIterator, IntoStaticStr, VariantNames};
use thiserror::Error;

/// Role of an account. Its variants' names are those used in JSON, in SQL and on the command line.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[serde(into = "&'static str")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum Role {
    /// Default role of a registered user.
    User,
    /// Administrator: manages accounts and introspects tokens.
    Admin,
    /// Service that introspects tokens.
    Introspector,
}

/// Permission of the bearer of an access token, in the form of a scope token (RFC 6749 section
/// 3.3).
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[serde(into = "&'static str")]
#[strum(const_into_str)]
pub enum Permission {
    /// Read the dashboard.
    #[strum(serialize = "dashboard:read")]
    DashboardRead,
    /// Read all accounts and the audit log.
    #[strum(serialize = "users:read")]
    UsersRead,
    /// Create, change and delete accounts.
    #[strum(serialize = "users:write")]
    UsersWrite,
    /// Read the signing keys.
    #[strum(serialize = "keys:read")]
    KeysRead,
    /// Rotate and revoke the signing keys.
    #[strum(serialize = "keys:write")]
    KeysWrite,
    /// Follow the revocations of all tokens.
    #[strum(serialize = "revocations:read")]
    RevocationsRead,
    /// Introspect (RFC 7662) and revoke (RFC 7009) the tokens of all users.
    #[strum(serialize = "tokens:introspect")]
    TokensIntrospect,
}

/// Set of roles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Roles(BTreeSet<Role>);

/// Set of permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Permissions(BTreeSet<Permission>);

/// Name that belongs to no role.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not a known name")]
pub struct UnknownRole(pub String);

impl Role {
    fn permissions(self) -> Permissions {
        match self {
            Self::User => Permissions(BTreeSet::from([Permission::DashboardRead])),
            Self::Admin => Permissions(Permission::iter().collect()),
            Self::Introspector => Permissions(BTreeSet::from([Permission::TokensIntrospect])),
        }
    }
}

impl Roles {
    /// Parses the names of roles.
    ///
    /// # Errors
    /// Returns the first name that belongs to no role.
    pub fn parse(names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, UnknownRole> {
        let parse = |name: &str| name.parse().map_err(|_| UnknownRole(name.to_owned()));
        names.into_iter().map(|name| parse(name.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Returns `true` if the set contains the role.
    #[must_use]
    pub fn contains(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    /// Returns the names of the roles.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(Role::into_str).collect()
    }

    /// Returns the permissions that the roles grant together.
    #[must_use]
    pub fn permissions(&self) -> Permissions {
        Permissions(self.0.iter().flat_map(|role| role.permissions().0).collect())
    }
}

impl Permissions {
    /// Parses the names in a `scope` (RFC 6749 section 3.3). Unknown names are skipped: an instance
    /// of an older version accepts the tokens of a newer one, and other services may have
    /// permissions of their own.
    #[must_use]
    pub fn from_scope(scope: &str) -> Self {
        Self(scope.split(' ').filter_map(|name| name.parse().ok()).collect())
    }

    /// Returns `true` if the set contains the permission.
    #[must_use]
    pub fn contains(&self, permission: Permission) -> bool {
        self.0.contains(&permission)
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().collect())
    }
}

/// Writes the names, separated by spaces.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(" "))
    }
}

/// Writes the names, separated by spaces, as in `scope` (RFC 6749 section 3.3).
impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(Permission::into_str).collect();
        f.write_str(&names.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_may_only_read_the_dashboard() {
        let permissions = Roles::from_iter([Role::User]).permissions();

        assert_eq!(permissions.to_string(), "dashboard:read");
    }

    #[test]
    fn admin_has_every_permission() {
        let permissions = Roles::from_iter([Role::Admin, Role::User]).permissions();

        assert!(Permission::iter().all(|permission| permissions.contains(permission)));
    }

    #[test]
    fn permissions_survive_a_scope() {
        let permissions = Roles::from_iter([Role::Admin]).permissions();

        assert_eq!(Permissions::from_scope(&permissions.to_string()), permissions);
    }

    #[test]
    fn unknown_permission_in_a_scope_is_skipped() {
        let permissions = Permissions::from_scope("users:read moon:walk");

        assert_eq!(permissions.to_string(), "users:read");
        assert_eq!(Permissions::from_scope(""), Permissions::default());
    }

    #[test]
    fn roles_are_parsed_by_name() {
        let roles = Roles::parse(["admin", "user", "admin"]).unwrap();

        assert_eq!(roles.names(), ["user", "admin"]);
        assert_eq!(Roles::parse(["user", "god"]), Err(UnknownRole("god".to_owned())));
    }
}
