//! Requesters of changes: parsing that both dialects share.

use super::error::StoreError;
use crate::domain::{Grantable, Permissions, RoleName, Roles};

/// Returns the permissions that a requester holds: those of its token that it has not lost since.
/// `permissions` are those of the client, or those in the rows of the user's roles.
pub(super) fn grantable(
    scope: &Permissions,
    roles: Vec<String>,
    permissions: &str,
) -> Result<Grantable, StoreError> {
    Ok(Grantable::Held(scope.intersection(&held_permissions(roles, permissions)?)))
}

/// Returns the permissions of roles: the built-in ones, and those in the rows of the roles.
pub(super) fn held_permissions(
    roles: Vec<String>,
    permissions: &str,
) -> Result<Permissions, StoreError> {
    let built_in = parse_roles(roles)?.built_in_permissions();
    Ok(built_in.union(&Permissions::from_scope(permissions)))
}

/// Parses the names of stored roles.
pub(super) fn parse_roles(names: Vec<String>) -> Result<Roles, StoreError> {
    Roles::parse(names).map_err(|error| StoreError::inconsistent("users", "roles", error))
}

/// Returns the roles that exist. Rows that do not parse are skipped.
pub(super) fn known_roles(names: &[String]) -> Roles {
    names.iter().filter_map(|name| RoleName::parse(name).ok()).collect()
}
