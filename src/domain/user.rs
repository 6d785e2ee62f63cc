//! Accounts.

use time::OffsetDateTime;

use super::{ExternalId, Metadata, Permissions, RoleName, Roles, UserId, Username};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Identifier, fixed for the life of the account.
    pub id: UserId,
    /// Username, unique among all accounts.
    pub username: Username,
    /// Roles of the account.
    pub roles: Roles,
    /// Permissions that the roles grant together.
    pub permissions: Permissions,
    /// Identifier in another system.
    pub external_id: Option<ExternalId>,
    pub metadata: Metadata,
    /// Time of registration.
    pub created_at: OffsetDateTime,
    /// Time since which logins are refused; `None` for an enabled account.
    pub disabled_at: Option<OffsetDateTime>,
    pub version: UserVersion,
}

impl User {
    /// Creates an enabled account that is registered now.
    #[must_use]
    pub fn new(username: Username, roles: Roles, now: OffsetDateTime) -> Self {
        Self {
            id: UserId::random(),
            username,
            roles,
            permissions: Permissions::default(),
            external_id: None,
            metadata: Metadata::default(),
            created_at: now,
            disabled_at: None,
            version: UserVersion::FIRST,
        }
    }

    /// Returns `true` if the account is an administrator, enabled or not.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.roles.contains(&RoleName::ADMIN)
    }

    /// Returns `true` if the account is an enabled administrator.
    #[must_use]
    pub fn is_active_admin(&self) -> bool {
        self.is_admin() && self.disabled_at.is_none()
    }
}

/// Number of changes of an account that ended its sessions. A password check against one version
/// proves nothing about the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserVersion(u64);

impl UserVersion {
    /// Version of a new account.
    pub const FIRST: Self = Self(0);

    /// Returns the version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Returns the version as a number.
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
