//! Accounts on SQLite.

use std::collections::HashSet;
use std::slice;

use async_trait::async_trait;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row, Sqlite};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit;
use super::database::{NOW, SqliteStore, micros, now};
use super::requesters::{find_grantable, is_signed_in, permissions_of_roles, permissions_of_user};
use super::revocations::{TOKENS_EXPIRE_AT, insert_revocation};
use super::throttle::delete_counters;
use crate::domain::{
    AccountError, AuditRecord, EditOutcome, ExternalId, HashCost, MAX_LEEWAY, PasswordHash,
    Permissions, RESET_CODE_LIFETIME, ResetCodeHash, Revocation, Rights, RoleName, Roles,
    SessionId, User, UserChange, UserEdit, UserId, Username,
};
use crate::store::columns::{column, from_micros, to_i64, to_micros};
use crate::store::error::StoreError;
use crate::store::revocations::CommittedRevocations;
use crate::store::users::{
    ChangedUser, Conflict, Credentials, ExportedUser, ImportCommit, ImportOutcome, ListedUser,
    SELECT_HASH_COSTS, UserColumns, UserQuery, UserStore, WriteError, affected_users,
    imported_record, parse_password_hash,
};

/// Columns of an account.
macro_rules! columns {
    () => {
        concat!(
            "id, username, roles, external_id, metadata, created_at, disabled_at, version, ",
            permissions_of_user!(),
            " as permissions"
        )
    };
}

/// Inserts an account from the parameters that [`bind_new`] binds.
macro_rules! insert {
    () => {
        "insert into users (id, username, username_key, password_hash, hash_cost, roles,
                            external_id, metadata, created_at, disabled_at)
         values (?1, ?2, coalesce((select username_key from users where username_key = ?4), ?3),
                 ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
    };
}

#[async_trait]
impl UserStore for SqliteStore {
    async fn insert_user(
        &self,
        new: &Credentials,
        record: &AuditRecord,
    ) -> Result<User, WriteError> {
        let Credentials { user, password_hash } = new;
        let mut transaction = self.begin_write().await?;
        if !is_signed_in(&mut transaction, &record.requester).await? {
            return Err(AccountError::RequesterSignedOut.into());
        }
        let permissions = permissions_of_roles(&mut transaction, &user.roles).await?;
        let grantable = find_grantable(&mut transaction, &record.requester).await?;
        grantable.check(&permissions).map_err(AccountError::from)?;
        let insert = bind_new(sqlx::query(insert!()), user, password_hash);
        insert.execute(&mut *transaction).await.map_err(taken)?;
        audit::insert(&mut transaction, slice::from_ref(record)).await?;
        transaction.commit().await?;
        Ok(User { permissions, ..user.clone() })
    }

    async fn import_users(
        &self,
        imported: &[Credentials],
        commit: ImportCommit,
        at: OffsetDateTime,
    ) -> Result<Vec<ImportOutcome>, WriteError> {
        let mut transaction = self.begin_write().await?;
        let roles: Roles = imported.iter().flat_map(|new| new.user.roles.iter().cloned()).collect();
        permissions_of_roles(&mut transaction, &roles).await?;
        let mut outcomes = Vec::with_capacity(imported.len());
        for new in imported {
            let Credentials { user, password_hash } = new;
            let insert = sqlx::query(concat!(insert!(), " on conflict do nothing"));
            let insert = bind_new(insert, user, password_hash);
            if insert.execute(&mut *transaction).await?.rows_affected() == 1 {
                audit::insert(&mut transaction, &[imported_record(user, at)]).await?;
                outcomes.push(ImportOutcome::Added);
            } else {
                let conflicts = find_conflicts(&mut transaction, user).await?;
                outcomes.push(ImportOutcome::of_conflict(new, &conflicts));
            }
        }
        match commit {
            ImportCommit::Commit => transaction.commit().await?,
            ImportCommit::Rehearse => transaction.rollback().await?,
        }
        Ok(outcomes)
    }

    async fn export_users(&self, query: &UserQuery) -> Result<Vec<ExportedUser>, StoreError> {
        let rows = self.select_users(query).await?;
        let export = |row| {
            let user = listed_user(row)?;
            Ok(ExportedUser { user, password_hash: column(row, "users", "password_hash")? })
        };
        rows.iter().map(export).collect()
    }

    async fn find_credentials(
        &self,
        username: &Username,
    ) -> Result<Option<Credentials>, StoreError> {
        let select = sqlx::query(concat!(
            "select password_hash, ",
            columns!(),
            " from users where username_key in (?1, ?2) order by username_key = ?2 desc limit 1"
        ));
        let select = select.bind(username.key()).bind(username.unfolded_key());
        let row = select.fetch_optional(&self.pool).await?;
        row.as_ref().map(credentials_from_row).transpose()
    }

    async fn find_user_by_reset_code(
        &self,
        code: &ResetCodeHash,
    ) -> Result<Option<User>, StoreError> {
        let select = sqlx::query(AssertSqlSafe(format!(
            concat!(
                "select ",
                columns!(),
                " from users where reset_code_hash = ?1 and reset_code_expires_at > {}
                  and disabled_at is null"
            ),
            NOW
        )));
        let row = select.bind(code.as_bytes()).fetch_optional(&self.pool).await?;
        row.as_ref().map(user_from_row).transpose()
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        find_user(&mut *self.pool.acquire().await?, id).await
    }

    async fn list_users(&self, query: &UserQuery) -> Result<Vec<ListedUser>, StoreError> {
        self.select_users(query).await?.iter().map(listed_user).collect()
    }

    async fn replace_password_hash(
        &self,
        id: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let result =
            sqlx::query("update users set password_hash = ?3, hash_cost = ?4 where id = ?1 and password_hash = ?2")
                .bind(id.as_uuid())
                .bind(old.to_string())
                .bind(new.to_string())
                .bind(new.cost().map(|cost| cost.to_string()))
                .execute(&self.pool)
                .await?;
        Ok(result.rows_affected() == 1)
    }

    async fn hash_costs(&self) -> Result<Vec<HashCost>, StoreError> {
        let rows = sqlx::query(SELECT_HASH_COSTS).fetch_all(&self.pool).await?;
        let costs = rows.iter().filter_map(|row| row.try_get::<String, _>("hash_cost").ok());
        Ok(costs.filter_map(|cost| cost.parse().ok()).collect())
    }

    async fn change_user(&self, change: &UserChange) -> Result<ChangedUser, WriteError> {
        // The write lock replaces the row locks of PostgreSQL.
        let mut transaction = self.begin_write().await?;
        if !is_signed_in(&mut transaction, &change.requester).await? {
            return Err(AccountError::RequesterSignedOut.into());
        }
        let affected = select_affected_users(&mut transaction, change).await?;
        let rights = rights(&mut transaction, change).await?;
        let user = match change.decide(affected, &rights)? {
            EditOutcome::Changed(user) => user,
            EditOutcome::Unchanged(user) => return Ok(ChangedUser::without_ended(user, change.at)),
        };
        let changed = if change.edit.ends_sessions() {
            let ended = end_sessions(&mut transaction, change).await?;
            ChangedUser { user, ended }
        } else {
            ChangedUser::without_ended(user, change.at)
        };
        let user = &changed.user;
        update_user(user, &change.edit).execute(&mut *transaction).await.map_err(taken)?;
        if change.edit.clears_failures() {
            delete_counters(&mut transaction, user.id).await?;
        }
        audit::insert(&mut transaction, &[change.audit_record(user)]).await?;
        transaction.commit().await?;
        Ok(changed)
    }
}

impl SqliteStore {
    async fn select_users(&self, query: &UserQuery) -> Result<Vec<SqliteRow>, StoreError> {
        // SQLite seeks one lower bound in the index: the `+` keeps it from taking the lesser one,
        // which would read all earlier pages again.
        let select = sqlx::query(concat!(
            "select username_key, password_hash, ",
            columns!(),
            " from users
             where username_key >= case when ?9 is null then max(?1, ?3) else
                       (select max(?1, ?3, username_key) from users where external_id = ?9) end
               and username_key <= ?2 and +username_key > ?3
               and (?4 is null or username_key in (?4, ?5))
               and (?6 is null or instr(' ' || roles || ' ', ' ' || ?6 || ' ') > 0)
               and (?7 is null or (disabled_at is not null) = ?7)
               and (?9 is null or external_id = ?9)
             order by username_key limit ?8"
        ));
        let rows = select
            .bind(query.lower_bound())
            .bind(query.upper_bound())
            .bind(query.previous_key())
            .bind(query.keys().map(|[folded, _]| folded))
            .bind(query.keys().map(|[_, unfolded]| unfolded))
            .bind(query.role.as_ref().map(RoleName::as_str))
            .bind(query.is_disabled)
            .bind(query.limit)
            .bind(query.external_id.as_ref().map(ExternalId::as_str))
            .fetch_all(&self.pool)
            .await?;
        Ok(rows)
    }
}

/// Binds the columns of `insert!`.
fn bind_new<'q>(
    insert: Query<'q, Sqlite, SqliteArguments>,
    user: &User,
    password_hash: &PasswordHash,
) -> Query<'q, Sqlite, SqliteArguments> {
    insert
        .bind(user.id.as_uuid())
        .bind(user.username.as_str().to_owned())
        .bind(user.username.key().to_owned())
        .bind(user.username.unfolded_key().to_owned())
        .bind(password_hash.to_string())
        .bind(password_hash.cost().map(|cost| cost.to_string()))
        .bind(user.roles.to_string())
        .bind(user.external_id.as_ref().map(ExternalId::as_str).map(str::to_owned))
        .bind(user.metadata.to_string())
        .bind(to_micros(user.created_at))
        .bind(user.disabled_at.map(to_micros))
}

/// Finds the accounts that have the username, the external id or the id of an imported one.
async fn find_conflicts(
    connection: &mut SqliteConnection,
    imported: &User,
) -> Result<Vec<Conflict>, StoreError> {
    let select = sqlx::query(
        "select id, username_key, external_id, created_at, password_hash from users
         where username_key in (?1, ?2) or external_id = ?3 or id = ?4",
    );
    let rows = select
        .bind(imported.username.key())
        .bind(imported.username.unfolded_key())
        .bind(imported.external_id.as_ref().map(ExternalId::as_str))
        .bind(imported.id.as_uuid())
        .fetch_all(connection)
        .await?;
    let conflict = |row: &SqliteRow| {
        let created_at = column(row, "users", "created_at");
        Ok(Conflict {
            id: row.try_get("id")?,
            username_key: row.try_get("username_key")?,
            external_id: row.try_get("external_id")?,
            created_at: created_at
                .and_then(|micros| from_micros("users", "created_at", micros))
                .ok(),
            password_hash: row.try_get("password_hash")?,
        })
    };
    rows.iter().map(conflict).collect()
}

/// Maps the violation of a unique constraint to the reason that it stands for.
fn taken(error: sqlx::Error) -> WriteError {
    if violates_uniqueness_of(&error, "users.username_key") {
        return AccountError::UsernameTaken.into();
    }
    if violates_uniqueness_of(&error, "users.external_id") {
        return AccountError::ExternalIdTaken.into();
    }
    error.into()
}

pub(super) async fn find_user(
    connection: &mut SqliteConnection,
    id: UserId,
) -> Result<Option<User>, StoreError> {
    let select = sqlx::query(concat!("select ", columns!(), " from users where id = ?1"));
    let row = select.bind(id.as_uuid()).fetch_optional(connection).await?;
    row.as_ref().map(user_from_row).transpose()
}

/// Finds the account and, if the edit may remove an administrator, every active administrator.
async fn select_affected_users(
    connection: &mut SqliteConnection,
    change: &UserChange,
) -> Result<Vec<User>, StoreError> {
    let select = sqlx::query(concat!(
        "select ",
        columns!(),
        " from users
         where id = ?1
            or (?2 and instr(' ' || roles || ' ', ' admin ') > 0 and disabled_at is null)"
    ));
    let rows = select
        .bind(change.user_id.as_uuid())
        .bind(change.edit.removes_admin())
        .fetch_all(connection)
        .await?;
    affected_users(rows.iter().map(user_columns), change.user_id)
}

/// Reads the permissions that decide about a change.
async fn rights(
    connection: &mut SqliteConnection,
    change: &UserChange,
) -> Result<Rights, WriteError> {
    let of_roles = match &change.edit {
        UserEdit::Roles(roles) => permissions_of_roles(connection, roles).await?,
        _ => Permissions::default(),
    };
    let has_reset_code = match &change.edit {
        UserEdit::ResetPassword(_, code) => {
            has_reset_code(connection, change.user_id, code).await?
        }
        _ => false,
    };
    let grantable = find_grantable(connection, &change.requester).await?;
    Ok(Rights { grantable, of_roles, has_reset_code })
}

/// Returns `true` if an account has a reset code that has not expired.
async fn has_reset_code(
    connection: &mut SqliteConnection,
    id: UserId,
    code: &ResetCodeHash,
) -> Result<bool, StoreError> {
    let select = sqlx::query(AssertSqlSafe(format!(
        "select 1 from users
         where id = ?1 and reset_code_hash = ?2 and reset_code_expires_at > {NOW}"
    )));
    let select = select.bind(id.as_uuid()).bind(code.as_bytes());
    Ok(select.fetch_optional(connection).await?.is_some())
}

/// Ends the sessions of the account, except the one to keep.
async fn end_sessions(
    connection: &mut SqliteConnection,
    change: &UserChange,
) -> Result<CommittedRevocations, StoreError> {
    let committed_at = now(connection).await?;
    let rows = sqlx::query(AssertSqlSafe(format!(
        "delete from sessions where user_id = ?1 and id is not ?2
         returning id, max(coalesce(?3, 0), {TOKENS_EXPIRE_AT} + ?4) as expires_at"
    )))
    .bind(change.user_id.as_uuid())
    .bind(change.keep_session.map(SessionId::as_uuid))
    .bind(change.revoked_until.map(to_micros))
    .bind(micros(MAX_LEEWAY))
    .fetch_all(&mut *connection)
    .await?;
    let revocations = rows.iter().map(revocation_from_row).collect::<Result<Vec<_>, _>>()?;
    for revocation in &revocations {
        insert_revocation(connection, revocation, Some(change.user_id), committed_at).await?;
    }
    Ok(CommittedRevocations { revocations, committed_at, locked: HashSet::new() })
}

/// Builds the statement that stores the account after the edit, or deletes it.
fn update_user(after: &User, edit: &UserEdit) -> Query<'static, Sqlite, SqliteArguments> {
    if let UserEdit::Delete = edit {
        return sqlx::query("delete from users where id = ?1").bind(after.id.as_uuid());
    }
    if let UserEdit::ResetCode(code) = edit {
        let update = sqlx::query(AssertSqlSafe(format!(
            "update users set reset_code_hash = ?2, reset_code_expires_at = {NOW} + ?3 where id = ?1"
        )));
        let update = update.bind(after.id.as_uuid()).bind(code.as_bytes().to_vec());
        return update.bind(micros(RESET_CODE_LIFETIME));
    }
    let password_hash = match edit {
        UserEdit::Password(hash) | UserEdit::ResetPassword(hash, _) => Some(hash),
        _ => None,
    };
    sqlx::query(
        "update users
         set password_hash = coalesce(?2, password_hash), roles = ?3, disabled_at = ?4, version = ?5,
             reset_code_hash = case when ?6 then reset_code_hash end,
             hash_cost = coalesce(?7, hash_cost), external_id = ?8, metadata = ?9
         where id = ?1",
    )
    .bind(after.id.as_uuid())
    .bind(password_hash.map(PasswordHash::to_string))
    .bind(after.roles.to_string())
    .bind(after.disabled_at.map(to_micros))
    .bind(to_i64(after.version.number()))
    .bind(edit.keeps_reset_code())
    .bind(password_hash.and_then(PasswordHash::cost).map(|cost| cost.to_string()))
    .bind(after.external_id.as_ref().map(ExternalId::as_str).map(str::to_owned))
    .bind(after.metadata.to_string())
}

fn listed_user(row: &SqliteRow) -> Result<ListedUser, StoreError> {
    let password_hash = column(row, "users", "password_hash");
    Ok(user_columns(row).list(column(row, "users", "username_key")?, password_hash))
}

fn user_from_row(row: &SqliteRow) -> Result<User, StoreError> {
    user_columns(row).parse()
}

fn user_columns(row: &SqliteRow) -> UserColumns {
    let roles = column(row, "users", "roles");
    let created_at = column(row, "users", "created_at");
    let disabled_at = column(row, "users", "disabled_at");
    UserColumns {
        id: column(row, "users", "id"),
        username: column(row, "users", "username"),
        roles: roles.map(|names: &str| names.split_whitespace().map(str::to_owned).collect()),
        permissions: column(row, "roles", "permissions").map(Option::unwrap_or_default),
        external_id: column(row, "users", "external_id"),
        metadata: column(row, "users", "metadata"),
        created_at: created_at.and_then(|micros| from_micros("users", "created_at", micros)),
        disabled_at: disabled_at.and_then(|micros: Option<i64>| {
            micros.map(|micros| from_micros("users", "disabled_at", micros)).transpose()
        }),
        version: column(row, "users", "version"),
    }
}

fn credentials_from_row(row: &SqliteRow) -> Result<Credentials, StoreError> {
    let password_hash = parse_password_hash(column(row, "users", "password_hash")?)?;
    Ok(Credentials { user: user_from_row(row)?, password_hash })
}

fn revocation_from_row(row: &SqliteRow) -> Result<Revocation, StoreError> {
    Ok(Revocation {
        id: row.try_get::<Uuid, _>("id")?.into(),
        expires_at: from_micros("sessions", "expires_at", row.try_get("expires_at")?)?,
    })
}

/// Returns `true` if a statement failed because a column is unique. SQLite errors name the columns of
/// a constraint, not the constraint.
pub(super) fn violates_uniqueness_of(error: &sqlx::Error, column: &str) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation() && error.message().ends_with(column))
}
