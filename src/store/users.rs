//! Accounts: their trait, and the types and row parsing that both dialects share.

use async_trait::async_trait;
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

use super::error::StoreError;
use super::revocations::CommittedRevocations;
use crate::domain::{
    AccountError, AuditRecord, PasswordHash, PasswordHashError, Role, Roles, User, UserChange,
    UserId, Username,
};

/// Greater than every character of a username.
const HIGHEST_CHAR: char = char::MAX;

/// Storage of accounts.
#[async_trait]
pub trait UserStore {
    /// Inserts an account and its audit record in one commit.
    ///
    /// Returns [`AccountError::UsernameTaken`] if an account has the key of the username, folded or
    /// not, or, if the session of the requester has ended, [`AccountError::RequesterSignedOut`].
    async fn insert_user(&self, new: &Credentials, record: &AuditRecord) -> Result<(), WriteError>;

    /// Finds an account by its username, ignoring case. An account that kept its unfolded key comes
    /// before one with the folded key.
    async fn find_credentials(
        &self,
        username: &Username,
    ) -> Result<Option<Credentials>, StoreError>;

    /// Finds an account by its id.
    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError>;

    /// Lists accounts in the order of their username keys.
    async fn list_users(&self, query: &UserQuery) -> Result<Vec<User>, StoreError>;

    /// Replaces a password hash if it still equals `old`. Returns `true` if it did.
    async fn replace_password_hash(
        &self,
        id: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError>;

    /// Changes an account, ends its sessions and inserts an audit record, all in one commit. An
    /// edit without effect ends no session and is not recorded.
    ///
    /// Returns the [`AccountError`] of [`UserChange::decide`] or, if the session of the requester
    /// has ended, [`AccountError::RequesterSignedOut`].
    async fn change_user(&self, change: &UserChange) -> Result<ChangedUser, WriteError>;
}

/// Account with its password hash.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub user: User,
    /// Hash of its password.
    pub password_hash: PasswordHash,
}

/// Filter and page of the list of accounts, ordered by username key. `None` matches every account.
#[derive(Clone, Debug, Default)]
pub struct UserQuery {
    /// Prefix of the usernames, ignoring case.
    pub prefix: Option<Username>,
    /// The username, ignoring case.
    pub username: Option<Username>,
    /// Role that the accounts have.
    pub role: Option<Role>,
    /// Whether the accounts are disabled.
    pub is_disabled: Option<bool>,
    /// Last username of the previous page.
    pub after: Option<Username>,
    /// Maximum number of accounts.
    pub limit: u32,
}

/// Account after a change.
#[derive(Clone, Debug)]
pub struct ChangedUser {
    /// Account after the change; before its deletion, if the change deleted it.
    pub user: User,
    /// Revocations of the sessions that the change ended.
    pub ended: CommittedRevocations,
}

/// Failure to create or change an account.
#[derive(Clone, Debug, Error)]
pub enum WriteError {
    /// The account does not allow it.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl UserQuery {
    /// Returns the lowest username key, inclusive.
    pub(super) fn lower_bound(&self) -> &str {
        let prefix = self.prefix.as_ref().map_or("", Username::key);
        let username = self.username.as_ref();
        prefix.max(username.map_or("", |name| name.key().min(name.unfolded_key())))
    }

    /// Returns the highest username key, inclusive.
    pub(super) fn upper_bound(&self) -> String {
        let prefix = self.prefix.as_ref().map_or("", Username::key);
        let end_of_prefix = format!("{prefix}{HIGHEST_CHAR}");
        match &self.username {
            Some(name) => end_of_prefix.min(name.key().max(name.unfolded_key()).to_owned()),
            None => end_of_prefix,
        }
    }

    /// Returns the username keys to list: with and without case folding.
    pub(super) fn keys(&self) -> Option<[&str; 2]> {
        self.username.as_ref().map(|name| [name.key(), name.unfolded_key()])
    }

    /// Returns the keys that the last account of the previous page may have: without case folding,
    /// if it kept that key, or with it.
    pub(super) fn previous_keys(&self) -> [&str; 2] {
        self.after.as_ref().map_or(["", ""], |name| [name.unfolded_key(), name.key()])
    }
}

impl ChangedUser {
    /// Returns the result of an edit without effect.
    pub(super) fn unchanged(user: User, at: OffsetDateTime) -> Self {
        Self { user, ended: CommittedRevocations { revocations: Vec::new(), committed_at: at } }
    }
}

impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Parses the columns of an account.
pub(super) fn parse_user<'a>(
    id: Uuid,
    username: &str,
    roles: impl IntoIterator<Item = &'a str>,
    created_at: OffsetDateTime,
    disabled_at: Option<OffsetDateTime>,
    version: i64,
) -> Result<User, StoreError> {
    let username = Username::parse(username)
        .map_err(|error| StoreError::inconsistent("users", "username", error))?;
    let roles =
        Roles::parse(roles).map_err(|error| StoreError::inconsistent("users", "roles", error))?;
    let version = u64::try_from(version)
        .map_err(|error| StoreError::inconsistent("users", "version", error))?;
    Ok(User { id: id.into(), username, roles, created_at, disabled_at, version: version.into() })
}

pub(super) fn parse_password_hash(text: &str) -> Result<PasswordHash, StoreError> {
    text.parse().map_err(|error: PasswordHashError| {
        StoreError::inconsistent("users", "password_hash", error)
    })
}
