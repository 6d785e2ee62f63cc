//! Accounts: their trait, and the types and row parsing that both dialects share.

use std::collections::HashSet;

use async_trait::async_trait;
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

use super::columns::to_micros;
use super::error::StoreError;
use super::requesters::parse_roles;
use super::revocations::CommittedRevocations;
use crate::domain::{
    AccountError, AuditAction, AuditRecord, ExternalId, HashCost, Metadata, PasswordHash,
    PasswordHashError, Permissions, Requester, ResetCodeHash, RoleName, Roles, User, UserChange,
    UserId, Username,
};

/// Greater than every character of a username.
const HIGHEST_CHAR: char = char::MAX;

/// Steps over the index from each cost to the next, however many accounts have the same.
pub(super) const SELECT_HASH_COSTS: &str = "
    with recursive costs (cost) as (
        select min(hash_cost) from users
        union all
        select (select min(hash_cost) from users where hash_cost > cost) from costs
        where cost is not null
    )
    select cost as hash_cost from costs where cost is not null";

/// Storage of accounts.
#[async_trait]
pub trait UserStore {
    /// Inserts an account and its audit record in one commit. Returns the account with the
    /// permissions of its roles.
    ///
    /// Returns [`AccountError::UsernameTaken`] if an account has the key of the username, folded or
    /// not, [`AccountError::ExternalIdTaken`], [`AccountError::UnknownRoles`],
    /// [`AccountError::PermissionsLacking`] or, if the session of the requester has ended,
    /// [`AccountError::RequesterSignedOut`].
    async fn insert_user(
        &self,
        new: &Credentials,
        record: &AuditRecord,
    ) -> Result<User, WriteError>;

    /// Inserts accounts that other systems had, and their audit records, in one commit, or in none
    /// for a rehearsal. Returns what became of each. No two of them have the same id, username or
    /// external id.
    ///
    /// Returns [`AccountError::UnknownRoles`] if one of their roles does not exist.
    async fn import_users(
        &self,
        imported: &[Credentials],
        commit: ImportCommit,
        at: OffsetDateTime,
    ) -> Result<Vec<ImportOutcome>, WriteError>;

    /// Lists accounts like [`Self::list_users`], with their password hashes as they are stored.
    async fn export_users(&self, query: &UserQuery) -> Result<Vec<ExportedUser>, StoreError>;

    /// Finds an account by its username, ignoring case. An account that kept its unfolded key comes
    /// before one with the folded key.
    async fn find_credentials(
        &self,
        username: &Username,
    ) -> Result<Option<Credentials>, StoreError>;

    /// Finds the enabled account that has a reset code, which has not expired by the clock of the
    /// database.
    async fn find_user_by_reset_code(
        &self,
        code: &ResetCodeHash,
    ) -> Result<Option<User>, StoreError>;

    /// Finds an account by its id.
    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError>;

    /// Lists accounts in the order of their username keys, with those that do not parse.
    async fn list_users(&self, query: &UserQuery) -> Result<Vec<ListedUser>, StoreError>;

    /// Replaces a password hash if it still equals `old`. Returns `true` if it did.
    async fn replace_password_hash(
        &self,
        id: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError>;

    /// Returns the distinct costs of the hashes. Rows that do not tell one are left out.
    async fn hash_costs(&self) -> Result<Vec<HashCost>, StoreError>;

    /// Changes an account, ends its sessions and inserts an audit record, all in one commit. An
    /// edit without effect ends no session and is not recorded. A reset code expires by the clock of
    /// the database.
    ///
    /// Returns the [`AccountError`] of [`UserChange::decide`], [`AccountError::UnknownRoles`],
    /// [`AccountError::ExternalIdTaken`] or, if the session of the requester has ended,
    /// [`AccountError::RequesterSignedOut`].
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
    /// Identifier in another system.
    pub external_id: Option<ExternalId>,
    /// Role that the accounts have.
    pub role: Option<RoleName>,
    /// Whether the accounts are disabled.
    pub is_disabled: Option<bool>,
    /// Username key of the last account of the previous page.
    pub after: Option<String>,
    /// Maximum number of accounts.
    pub limit: u32,
}

/// Account in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedUser {
    pub id: UserId,
    pub username: String,
    /// Key of its username: its position in the list.
    pub key: String,
    pub roles: Roles,
    /// Permissions that the roles grant together.
    pub permissions: Permissions,
    pub external_id: Option<ExternalId>,
    pub metadata: Metadata,
    pub created_at: OffsetDateTime,
    pub disabled_at: Option<OffsetDateTime>,
    /// First column that does not parse, as `table.column`; `None` for an account that can be used.
    /// Each field is then what could be read, or empty.
    pub broken: Option<String>,
}

/// Account with its password hash, for another system.
#[derive(Clone, Debug)]
pub struct ExportedUser {
    pub user: ListedUser,
    /// Hash of its password, as it is stored.
    pub password_hash: String,
}

/// Whether an import is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportCommit {
    Commit,
    /// Nothing is changed; the outcome is that of an import.
    Rehearse,
}

/// Outcome of the import of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    Added,
    /// The same account has the username: it has the same id or the same external id or, if both
    /// have no external id, the same time of registration or the same password hash.
    Exists,
    /// An account has the username, and may belong to another person.
    UsernameTaken,
    /// An account with another username has the external id.
    ExternalIdTaken,
    /// An account with another username has the id.
    IdTaken,
}

/// Columns of an account, each with its own result.
pub(super) struct UserColumns {
    pub(super) id: Result<Uuid, StoreError>,
    pub(super) username: Result<String, StoreError>,
    pub(super) roles: Result<Vec<String>, StoreError>,
    /// Those that the rows of the roles have, separated by spaces.
    pub(super) permissions: Result<String, StoreError>,
    pub(super) external_id: Result<Option<String>, StoreError>,
    /// JSON.
    pub(super) metadata: Result<String, StoreError>,
    pub(super) created_at: Result<OffsetDateTime, StoreError>,
    pub(super) disabled_at: Result<Option<OffsetDateTime>, StoreError>,
    pub(super) version: Result<i64, StoreError>,
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

    /// Returns the last username key of the previous page.
    pub(super) fn previous_key(&self) -> &str {
        self.after.as_deref().unwrap_or_default()
    }
}

impl ChangedUser {
    /// Returns the result of an edit that ended no session.
    pub(super) fn without_ended(user: User, at: OffsetDateTime) -> Self {
        let revocations = Vec::new();
        let locked = HashSet::new();
        Self { user, ended: CommittedRevocations { revocations, committed_at: at, locked } }
    }
}

impl From<sqlx::Error> for WriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Account that has the username, the external id or the id of an imported one.
pub(super) struct Conflict {
    pub(super) id: Uuid,
    pub(super) username_key: String,
    pub(super) external_id: Option<String>,
    /// `None` if it does not parse.
    pub(super) created_at: Option<OffsetDateTime>,
    pub(super) password_hash: String,
}

impl Conflict {
    /// Returns `true` if an account with the same username is the imported one. The username alone
    /// does not tell: a stranger may have registered it.
    fn is_same(&self, imported: &Credentials) -> bool {
        let Credentials { user, password_hash } = imported;
        if self.id == user.id.as_uuid() {
            return true;
        }
        match (&self.external_id, &user.external_id) {
            (None, None) => {
                self.created_at.map(to_micros) == Some(to_micros(user.created_at))
                    || self.password_hash == password_hash.to_string()
            }
            (external_id, imported) => {
                external_id.as_deref() == imported.as_ref().map(ExternalId::as_str)
            }
        }
    }
}

impl ImportOutcome {
    /// Returns the outcome of an account that was not added because of one of the conflicts.
    pub(super) fn of_conflict(imported: &Credentials, conflicts: &[Conflict]) -> Self {
        let User { username, external_id, .. } = &imported.user;
        let keys = [username.key(), username.unfolded_key()];
        let external_id = external_id.as_ref().map(ExternalId::as_str);
        let has_external_id = |other: &Conflict| other.external_id.as_deref() == external_id;
        match conflicts.iter().find(|other| keys.contains(&other.username_key.as_str())) {
            Some(other) if other.is_same(imported) => Self::Exists,
            Some(_) => Self::UsernameTaken,
            None if external_id.is_some() && conflicts.iter().any(has_external_id) => {
                Self::ExternalIdTaken
            }
            None => Self::IdTaken,
        }
    }
}

impl UserColumns {
    /// Parses the account.
    pub(super) fn parse(self) -> Result<User, StoreError> {
        let username = Username::parse_existing(&self.username?)
            .map_err(|error| StoreError::inconsistent("users", "username", error))?;
        let roles = parse_roles(self.roles?)?;
        let permissions = Permissions::from_scope(&self.permissions?);
        let external_id = self.external_id?.as_deref().map(ExternalId::parse).transpose();
        let external_id =
            external_id.map_err(|error| StoreError::inconsistent("users", "external_id", error))?;
        let metadata: Result<Metadata, _> = self.metadata?.parse();
        let metadata =
            metadata.map_err(|error| StoreError::inconsistent("users", "metadata", error))?;
        let version = u64::try_from(self.version?)
            .map_err(|error| StoreError::inconsistent("users", "version", error))?;
        Ok(User {
            id: self.id?.into(),
            username,
            permissions: roles.built_in_permissions().union(&permissions),
            roles,
            external_id,
            metadata,
            created_at: self.created_at?,
            disabled_at: self.disabled_at?,
            version: version.into(),
        })
    }

    /// Creates the entry of a list. A row that does not parse is still listed.
    pub(super) fn list(self, key: String, hash: Result<String, StoreError>) -> ListedUser {
        let roles = self.roles.as_deref().unwrap_or_default();
        let known_roles: Roles =
            roles.iter().filter_map(|name| RoleName::parse(name).ok()).collect();
        let permissions = self.permissions.as_deref().unwrap_or_default();
        let permissions =
            known_roles.built_in_permissions().union(&Permissions::from_scope(permissions));
        let listed = ListedUser {
            id: self.id.as_ref().copied().unwrap_or_default().into(),
            username: self.username.as_ref().map_or_else(|_| String::new(), Clone::clone),
            key,
            roles: known_roles,
            permissions,
            external_id: self
                .external_id
                .as_ref()
                .ok()
                .and_then(|id| ExternalId::parse(id.as_deref()?).ok()),
            metadata: self
                .metadata
                .as_ref()
                .ok()
                .and_then(|json| json.parse().ok())
                .unwrap_or_default(),
            created_at: self.created_at.as_ref().map_or(OffsetDateTime::UNIX_EPOCH, |time| *time),
            disabled_at: self.disabled_at.as_ref().map_or(None, |time| *time),
            broken: None,
        };
        let parsed = self.parse().and_then(|_| parse_password_hash(&hash?));
        let broken = parsed.err().and_then(|error| error.inconsistent_column());
        ListedUser { broken, ..listed }
    }
}

/// Keeps the accounts that a change needs: the one to change, and the others that parse. An account
/// that does not parse cannot log in, so that it does not count as an administrator.
pub(super) fn affected_users(
    users: impl IntoIterator<Item = UserColumns>,
    changed: UserId,
) -> Result<Vec<User>, StoreError> {
    let mut affected = Vec::new();
    for columns in users {
        let is_changed = columns.id.as_ref().is_ok_and(|&id| id == changed.as_uuid());
        match columns.parse() {
            Ok(user) => affected.push(user),
            Err(error) if is_changed => return Err(error),
            Err(_) => {}
        }
    }
    Ok(affected)
}

/// Creates the audit record of an imported account.
pub(super) fn imported_record(user: &User, at: OffsetDateTime) -> AuditRecord {
    AuditRecord::for_user(at, AuditAction::UserImported, user, Requester::COMMAND_LINE)
}

pub(super) fn parse_password_hash(text: &str) -> Result<PasswordHash, StoreError> {
    text.parse().map_err(|error: PasswordHashError| {
        StoreError::inconsistent("users", "password_hash", error)
    })
}
