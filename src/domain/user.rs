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
}
