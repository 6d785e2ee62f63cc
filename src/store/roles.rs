//! Roles: their trait, and the parsing that both dialects share.

use async_trait::async_trait;
use thiserror::Error;
use uuid::Uuid;

use super::error::StoreError;
use super::revocations::CommittedRevocations;
use crate::domain::{AuditAction, Permissions, Role, RoleChange, RoleError, RoleName};

/// Storage of roles.
#[async_trait]
pub trait RoleStore {
    /// Lists the roles by name.
    async fn list_roles(&self) -> Result<ListedRoles, StoreError>;

    /// Finds a role.
    async fn find_role(&self, name: &RoleName) -> Result<Option<Role>, StoreError>;

    /// Changes a role and inserts an audit record, in one commit. A change without effect is not
    /// recorded. Concurrent changes wait for each other.
    ///
    /// If a permission is taken away, the sessions of the members are to be ended from then on, by
    /// [`Self::end_sessions_of_roles`].
    async fn change_role(&self, change: &RoleChange) -> Result<ChangedRole, RoleWriteError>;

    /// Ends at most `limit` sessions of the members of a role that has lost a permission, in the
    /// order of their ids. Returns `None` if no session is left to end.
    ///
    /// If the call is given up, or the process ends, the next call continues.
    async fn end_sessions_of_roles(
        &self,
        limit: u32,
    ) -> Result<Option<CommittedRevocations>, StoreError>;
}

/// List of the roles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedRoles {
    pub roles: Vec<Role>,
    /// Names that do not parse.
    pub broken: Vec<String>,
}

/// Role after a change.
#[derive(Clone, Debug)]
pub struct ChangedRole {
    /// Role after the change; before its deletion, if the change deleted it.
    pub role: Role,
    /// Action of the change; `None` if it had no effect.
    pub action: Option<AuditAction>,
}

/// Failure to change a role.
#[derive(Debug, Error)]
pub enum RoleWriteError {
    /// The role does not allow it.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for RoleWriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Columns of a row of `roles`.
pub(super) struct RoleColumns {
    pub(super) name: String,
    /// Separated by spaces.
    pub(super) permissions: String,
    pub(super) ending_sessions: i64,
}

impl RoleColumns {
    /// Parses the role; `None` if its name does not parse.
    pub(super) fn parse(&self) -> Option<Role> {
        let name = RoleName::parse(&self.name).ok()?;
        let permissions = Permissions::from_scope(&self.permissions);
        Some(Role {
            permissions: name.built_in_permissions().unwrap_or_default().union(&permissions),
            name,
            ending_sessions: self.ending_sessions.try_into().unwrap_or_default(),
        })
    }

    /// Adds the role to a list.
    pub(super) fn add_to(self, list: &mut ListedRoles) {
        match self.parse() {
            Some(role) => list.roles.push(role),
            None => list.broken.push(self.name),
        }
    }
}

/// Returns the permissions that the row of a role has, beside the built-in ones.
pub(super) fn stored_permissions(name: &RoleName, permissions: &Permissions) -> Permissions {
    permissions.without(&name.built_in_permissions().unwrap_or_default())
}

/// Returns a value of `ending_after` that precedes all sessions: the first half of their ids, which
/// are UUIDs of version 4, is never zero. Each value is different, so that a batch in progress does
/// not take a new start for its own.
pub(super) fn before_all_sessions() -> Uuid {
    let (_, random) = Uuid::new_v4().as_u64_pair();
    Uuid::from_u64_pair(0, random)
}
