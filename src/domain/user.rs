//! Accounts, and what may become of them.

use time::OffsetDateTime;

use super::{AuditAction, PasswordHash, Role, Roles, UserId, Username};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Names the account for its whole life.
    pub id: UserId,
    /// What its owner logs in with.
    pub username: Username,
    /// What it may do.
    pub roles: Roles,
    /// When it was registered.
    pub created_at: OffsetDateTime,
    /// Since when nobody can log in to it, if that is so.
    pub disabled_at: Option<OffsetDateTime>,
    /// What it has been through.
    pub version: UserVersion,
}

impl User {
    /// Tells whether it can be used to manage the others.
    #[must_use]
    pub fn is_active_admin(&self) -> bool {
        self.roles.contains(Role::Admin) && self.disabled_at.is_none()
    }
}

/// Goes up with whatever ends the sessions of an account, such as a new password: who was checked
/// against one version has proved nothing to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserVersion(u64);

impl UserVersion {
    /// That of an account just registered.
    pub const FIRST: Self = Self(0);

    /// Returns the one after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Returns its number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl From<u64> for UserVersion {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

/// What becomes of an account. Each of them, where it is not so already, ends its sessions.
#[derive(Clone, Debug)]
pub enum UserEdit {
    /// It gets another password.
    Password(PasswordHash),
    /// It gets other roles.
    Roles(Roles),
    /// Nobody can log in to it any more.
    Disable,
    /// Its owner can log in to it again.
    Enable,
    /// It is deleted, and its name is free.
    Delete,
    /// It stays as it is.
    EndSessions,
}

impl UserEdit {
    /// Returns what the audit log calls it.
    #[must_use]
    pub fn action(&self) -> AuditAction {
        match self {
            Self::Password(_) => AuditAction::PasswordChanged,
            Self::Roles(_) => AuditAction::RolesChanged,
            Self::Disable => AuditAction::UserDisabled,
            Self::Enable => AuditAction::UserEnabled,
            Self::Delete => AuditAction::UserDeleted,
            Self::EndSessions => AuditAction::SessionsEnded,
        }
    }

    /// Tells whether an administrator is none afterwards.
    #[must_use]
    pub fn removes_admin(&self) -> bool {
        match self {
            Self::Roles(roles) => !roles.contains(Role::Admin),
            Self::Disable | Self::Delete => true,
            Self::Password(_) | Self::Enable | Self::EndSessions => false,
        }
    }
}
