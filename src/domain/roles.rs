//! Roles: named sets of permissions that accounts have.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use thiserror::Error;

use super::{Permission, Permissions};

/// Maximum length of the name of a role, in characters.
const MAX_LENGTH: usize = 64;

/// Name of a role: lowercase letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RoleName(Cow<'static, str>);

/// Role that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    pub name: RoleName,
    /// Permissions that the role grants: the built-in ones, and those that were set.
    pub permissions: Permissions,
    /// Number of sessions that are to be ended, since a permission was taken away.
    pub ending_sessions: u64,
}

/// Set of roles, sorted. They may not all exist.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Roles(Vec<RoleName>);

/// Reason why a text is not the name of a role.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("The name of a role has 1 to 64 characters: a-z, 0-9, `.`, `_` and `-`")]
pub struct RoleNameError;

impl RoleName {
    /// Role of a registered user.
    pub const USER: Self = Self(Cow::Borrowed("user"));
    /// Role of an administrator, who has every permission of the service.
    pub const ADMIN: Self = Self(Cow::Borrowed("admin"));
    /// Role of a service that introspects tokens.
    pub const INTROSPECTOR: Self = Self(Cow::Borrowed("introspector"));

    /// Parses the name of a role.
    ///
    /// # Errors
    /// Returns [`RoleNameError`] if the text is empty, too long, or has other characters.
    pub fn parse(text: &str) -> Result<Self, RoleNameError> {
        let built_in = [Self::USER, Self::ADMIN, Self::INTROSPECTOR];
        if let Some(role) = built_in.into_iter().find(|role| role.0 == text) {
            return Ok(role);
        }
        let is_allowed = |c| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
        if text.is_empty() || text.len() > MAX_LENGTH || !text.chars().all(is_allowed) {
            return Err(RoleNameError);
        }
        Ok(Self(Cow::Owned(text.to_owned())))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the permissions that the role always has; `None` if the role is not a built-in one.
    /// They are not stored, so that an upgrade can add some.
    #[must_use]
    pub fn built_in_permissions(&self) -> Option<Permissions> {
        match self.as_str() {
            "user" => Some(Permissions::from_iter([Permission::DASHBOARD_READ])),
            "admin" => Some(Permissions::of_service()),
            "introspector" => Some(Permissions::from_iter([Permission::TOKENS_INTROSPECT])),
            _ => None,
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Roles {
    /// Parses the names of roles.
    ///
    /// # Errors
    /// Returns [`RoleNameError`] if one of them does not parse.
    pub fn parse(names: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, RoleNameError> {
        names.into_iter().map(|name| RoleName::parse(name.as_ref())).collect()
    }

    /// Returns `true` if the set contains the role.
    #[must_use]
    pub fn contains(&self, role: &RoleName) -> bool {
        self.0.contains(role)
    }

    /// Returns the names of the roles.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(RoleName::as_str).collect()
    }

    /// Returns the roles.
    pub fn iter(&self) -> impl Iterator<Item = &RoleName> {
        self.0.iter()
    }

    /// Returns the permissions that the built-in roles of the set always have.
    #[must_use]
    pub fn built_in_permissions(&self) -> Permissions {
        let of_roles = self.0.iter().filter_map(RoleName::built_in_permissions);
        of_roles.fold(Permissions::default(), |all, role| all.union(&role))
    }
}

impl FromIterator<RoleName> for Roles {
    fn from_iter<I: IntoIterator<Item = RoleName>>(roles: I) -> Self {
        let mut roles: Vec<_> = roles.into_iter().collect();
        roles.sort_unstable();
        roles.dedup();
        Self(roles)
    }
}

/// Writes the names, separated by spaces.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_parsed_by_name() {
        let roles = Roles::parse(["user", "orders.clerk-2", "user"]).unwrap();

        assert_eq!(roles.names(), ["orders.clerk-2", "user"]);
        let too_long = "x".repeat(65);
        for name in ["", "Admin", "a b", "é", "a:b", &too_long] {
            assert_eq!(Roles::parse([name]), Err(RoleNameError), "{name:?}");
        }
    }

    #[test]
    fn built_in_roles_have_their_permissions() {
        let permissions = |role| Roles::from_iter([role]).built_in_permissions().to_string();

        assert_eq!(permissions(RoleName::USER), "dashboard:read");
        assert_eq!(permissions(RoleName::INTROSPECTOR), "tokens:introspect");
        assert_eq!(permissions(RoleName::ADMIN), Permissions::of_service().to_string());
        assert_eq!(permissions(RoleName::parse("clerk").unwrap()), "");
    }
}
