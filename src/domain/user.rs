//! Accounts.

use time::OffsetDateTime;

use super::{Roles, UserId, Username};

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
    /// What it has been through.
    pub version: UserVersion,
}

/// Goes up with whatever ends the sessions of an account, such as a new password: who was checked
/// against one version has proved nothing to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserVersion(u64);

impl UserVersion {
    /// That of an account just registered.
    pub const FIRST: Self = Self(0);

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
