//! Accounts on PostgreSQL.

use std::collections::HashSet;
use std::slice;

use async_trait::async_trait;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, Postgres, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit;
use super::columns::{optional_time_column, time_column};
use super::database::PostgresStore;
use super::requesters::permissions_of_user;
use super::revocations::{TOKENS_EXPIRE_AT, revocations_from_row};
use crate::domain::{
    AccountError, AuditRecord, EditOutcome, ExternalId, HashCost, MAX_LEEWAY, PasswordHash,
    Permissions, RESET_CODE_LIFETIME, ResetCodeHash, Rights, RoleName, Roles, SessionId, User,
    UserChange, UserEdit, UserId, Username,
};
use crate::store::columns::{column, to_i64};
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

#[async_trait]
impl UserStore for PostgresStore {
    async fn insert_user(
        &self,
        new: &Credentials,
        record: &AuditRecord,
    ) -> Result<User, WriteError> {
        let Credentials { user, password_hash } = new;
        let mut lease = self.executor.lease().await?;
        let mut transaction =
            lease.connection()?.begin_with(self.executor.begin_statement()).await?;
        if !self.is_signed_in(&mut transaction, &record.requester).await? {
            return Err(AccountError::RequesterSignedOut.into());
        }
        let permissions = self.permissions_of_roles(&mut transaction, &user.roles).await?;
        let grantable = self.grantable(&mut transaction, &record.requester).await?;
        grantable.check(&permissions).map_err(AccountError::from)?;
        let insert = self.executor.query(
            "insert into users (id, username, username_key, password_hash, roles, created_at,
                                hash_cost, external_id, metadata)
             values ($1, $2, coalesce((select username_key from users where username_key = $7), $3),
                     $4, $5, $6, $8, $9, $10)",
        );
        let result = insert
            .bind(user.id.as_uuid())
            .bind(user.username.as_str())
            .bind(user.username.key())
            .bind(password_hash.to_string())
            .bind(user.roles.names())
            .bind(user.created_at)
            .bind(user.username.unfolded_key())
            .bind(password_hash.cost().map(|cost| cost.to_string()))
            .bind(user.external_id.as_ref().map(ExternalId::as_str))
            .bind(user.metadata.to_string())
            .execute(&mut *transaction)
            .await;
        result.map_err(taken)?;
        let insert = audit::bind(self.executor.query(audit::INSERT), slice::from_ref(record));
        insert.execute(&mut *transaction).await?;
        transaction.commit().await?;
        lease.give_back();
        Ok(User { permissions, ..user.clone() })
    }

    async fn import_users(
        &self,
        imported: &[Credentials],
        commit: ImportCommit,
        at: OffsetDateTime,
    ) -> Result<Vec<ImportOutcome>, WriteError> {
        let mut lease = self.executor.lease().await?;
        let mut transaction =
            lease.connection()?.begin_with(self.executor.begin_statement()).await?;
        let roles: Roles = imported.iter().flat_map(|new| new.user.roles.iter().cloned()).collect();
        self.permissions_of_roles(&mut transaction, &roles).await?;
        let added = self.insert_imported(&mut transaction, imported).await?;
        let conflicts = self.find_conflicts(&mut transaction, imported).await?;
        let is_added = |new: &&Credentials| added.contains(&new.user.id.as_uuid());
        let record = |new: &Credentials| imported_record(&new.user, at);
        let records: Vec<_> = imported.iter().filter(is_added).map(record).collect();
        let insert = audit::bind(self.executor.query(audit::INSERT), &records);
        insert.execute(&mut *transaction).await?;
        match commit {
            ImportCommit::Commit => transaction.commit().await?,
            ImportCommit::Rehearse => transaction.rollback().await?,
        }
        lease.give_back();
        let outcome = |new| {
            if is_added(&new) {
                ImportOutcome::Added
            } else {
                ImportOutcome::of_conflict(new, &conflicts)
            }
        };
        Ok(imported.iter().map(outcome).collect())
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
        let select = self.executor.query(concat!(
            "select password_hash, ",
            columns!(),
            " from users where username_key in ($1, $2) order by username_key = $2 desc limit 1"
        ));
        let select = select.bind(username.key()).bind(username.unfolded_key());
        let row = select.fetch_optional(&self.executor).await?;
        row.as_ref().map(credentials_from_row).transpose()
    }

    async fn find_user_by_reset_code(
        &self,
        code: &ResetCodeHash,
    ) -> Result<Option<User>, StoreError> {
        let select = self.executor.query(concat!(
            "select ",
            columns!(),
            " from users where reset_code_hash = $1 and reset_code_expires_at > clock_timestamp()
              and disabled_at is null"
        ));
        let row = select.bind(code.as_bytes()).fetch_optional(&self.executor).await?;
        row.as_ref().map(user_from_row).transpose()
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let select =
            self.executor.query(concat!("select ", columns!(), " from users where id = $1"));
        let row = select.bind(id.as_uuid()).fetch_optional(&self.executor).await?;
        row.as_ref().map(user_from_row).transpose()
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
        let update = self
            .executor
            .query("update users set password_hash = $3, hash_cost = $4 where id = $1 and password_hash = $2");
        let result = update
            .bind(id.as_uuid())
            .bind(old.to_string())
            .bind(new.to_string())
            .bind(new.cost().map(|cost| cost.to_string()))
            .execute(&self.executor)
            .await?;
        Ok(result.rows_affected() == 1)
    }

    async fn hash_costs(&self) -> Result<Vec<HashCost>, StoreError> {
        let rows = self.executor.query(SELECT_HASH_COSTS).fetch_all(&self.executor).await?;
        let costs = rows.iter().filter_map(|row| row.try_get::<String, _>("hash_cost").ok());
        Ok(costs.filter_map(|cost| cost.parse().ok()).collect())
    }

    async fn change_user(&self, change: &UserChange) -> Result<ChangedUser, WriteError> {
        let mut lease = self.executor.lease().await?;
        let mut transaction =
            lease.connection()?.begin_with(self.executor.begin_statement()).await?;
        let locked = self.lock_users(&mut transaction, change).await?;
        if !self.requester_is_signed_in(&mut transaction, change).await? {
            return Err(AccountError::RequesterSignedOut.into());
        }
        let rights = self.rights(&mut transaction, change).await?;
        let user = match change.decide(locked, &rights)? {
            EditOutcome::Changed(user) => user,
            EditOutcome::Unchanged(user) => return Ok(ChangedUser::without_ended(user, change.at)),
        };
        let changed = if change.edit.ends_sessions() {
            let ended = self.end_sessions(&mut transaction, change).await?;
            ChangedUser { user, ended }
        } else {
            ChangedUser::without_ended(user, change.at)
        };
        let user = &changed.user;
        let update = self.update_user(user, &change.edit);
        update.execute(&mut *transaction).await.map_err(taken)?;
        if change.edit.clears_failures() {
            self.delete_counters(&mut transaction, user.id).await?;
        }
        let insert = audit::bind(self.executor.query(audit::INSERT), &[change.audit_record(user)]);
        insert.execute(&mut *transaction).await?;
        transaction.commit().await?;
        lease.give_back();
        Ok(changed)
    }
}

/// Steps of `change_user`.
impl PostgresStore {
    /// Locks the account and, if the edit removes an active administrator, every active
    /// administrator. Concurrent changes lock them in the same order. The next statements see every
    /// session that was opened before.
    async fn lock_users(
        &self,
        connection: &mut PgConnection,
        change: &UserChange,
    ) -> Result<Vec<User>, StoreError> {
        let lock = self.executor.query(
            "select id from users
             where id = $1
                or ($2 and 'admin' = any (roles) and disabled_at is null
                    and exists (select from users where id = $1 and 'admin' = any (roles)))
             order by id for update",
        );
        let locked = lock
            .bind(change.user_id.as_uuid())
            .bind(change.edit.removes_admin())
            .fetch_all(&mut *connection)
            .await?;
        let ids: Vec<Uuid> =
            locked.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?;
        // Another statement: after a wait for a lock, the first one would read the roles as they were
        // before the wait.
        let select = self.executor.query(concat!(
            "select ",
            columns!(),
            " from users where id = any ($1) order by id"
        ));
        let rows = select.bind(ids).fetch_all(connection).await?;
        affected_users(rows.iter().map(user_columns), change.user_id)
    }

    /// Returns `true` if the session of the requester is open, and keeps it open until the commit.
    ///
    /// Locks it together with the sessions of the account, so that all of them are locked in one
    /// order, and before the roles.
    async fn requester_is_signed_in(
        &self,
        connection: &mut PgConnection,
        change: &UserChange,
    ) -> Result<bool, StoreError> {
        let is_client = change.requester.client_id.is_some();
        let session = change.requester.session_id.filter(|_| !is_client);
        // The aggregate reads every row; `exists` would stop at the first and leave the others
        // unlocked.
        let select = self.executor.query(
            "with locked as (
                 select id from sessions where id = $1 or user_id = $2 order by id for update)
             select bool_or(id = $1) is true from locked",
        );
        let select = select.bind(session.map(SessionId::as_uuid)).bind(change.user_id.as_uuid());
        let is_open = select.fetch_one(&mut *connection).await?.try_get(0)?;
        match session {
            Some(_) => Ok(is_open),
            None => self.is_signed_in(connection, &change.requester).await,
        }
    }

    /// Reads the permissions that decide about a change. The new roles keep theirs until the commit.
    async fn rights(
        &self,
        connection: &mut PgConnection,
        change: &UserChange,
    ) -> Result<Rights, WriteError> {
        let of_roles = match &change.edit {
            UserEdit::Roles(roles) => self.permissions_of_roles(connection, roles).await?,
            _ => Permissions::default(),
        };
        let has_reset_code = match &change.edit {
            UserEdit::ResetPassword(_, code) => {
                self.has_reset_code(connection, change.user_id, code).await?
            }
            _ => false,
        };
        let grantable = self.grantable(connection, &change.requester).await?;
        Ok(Rights { grantable, of_roles, has_reset_code })
    }

    /// Returns `true` if an account, whose row is locked, has a reset code that has not expired.
    async fn has_reset_code(
        &self,
        connection: &mut PgConnection,
        id: UserId,
        code: &ResetCodeHash,
    ) -> Result<bool, StoreError> {
        let select = self.executor.query(
            "select from users
             where id = $1 and reset_code_hash = $2 and reset_code_expires_at > clock_timestamp()",
        );
        let select = select.bind(id.as_uuid()).bind(code.as_bytes());
        Ok(select.fetch_optional(connection).await?.is_some())
    }

    /// Ends the sessions of the account, except the one to keep.
    async fn end_sessions(
        &self,
        connection: &mut PgConnection,
        change: &UserChange,
    ) -> Result<CommittedRevocations, StoreError> {
        let delete = self.executor.query(AssertSqlSafe(format!(
            "with ended as (
                 delete from sessions where id in (
                     select id from sessions where user_id = $1 and id is distinct from $2
                     order by id for update)
                 returning id, greatest($3, {TOKENS_EXPIRE_AT} + make_interval(secs => $4)) as expires_at),
             added as (
                 insert into revocations (id, expires_at, user_id)
                 select id, expires_at, $1 from ended order by id
                 on conflict (id) do nothing)
             select array_agg(id) as ids, array_agg(expires_at) as expiries,
                    clock_timestamp() as committed_at
             from ended"
        )));
        let row = delete
            .bind(change.user_id.as_uuid())
            .bind(change.keep_session.map(SessionId::as_uuid))
            .bind(change.revoked_until)
            .bind(MAX_LEEWAY.as_secs_f64())
            .fetch_one(connection)
            .await?;
        revocations_from_row(&row)
    }

    /// Builds the statement that stores the account after the edit, or deletes it.
    fn update_user(&self, after: &User, edit: &UserEdit) -> Query<'static, Postgres, PgArguments> {
        if let UserEdit::Delete = edit {
            return self.executor.query("delete from users where id = $1").bind(after.id.as_uuid());
        }
        if let UserEdit::ResetCode(code) = edit {
            let update = self.executor.query(
                "update users set reset_code_hash = $2,
                                  reset_code_expires_at = clock_timestamp() + make_interval(secs => $3)
                 where id = $1",
            );
            let update = update.bind(after.id.as_uuid()).bind(code.as_bytes().to_vec());
            return update.bind(RESET_CODE_LIFETIME.as_secs_f64());
        }
        let password_hash = match edit {
            UserEdit::Password(hash) | UserEdit::ResetPassword(hash, _) => Some(hash),
            _ => None,
        };
        let update = self.executor.query(
            "update users
             set password_hash = coalesce($2, password_hash), roles = $3, disabled_at = $4, version = $5,
                 reset_code_hash = case when $6 then reset_code_hash end,
                 hash_cost = coalesce($7, hash_cost), external_id = $8, metadata = $9
             where id = $1",
        );
        update
            .bind(after.id.as_uuid())
            .bind(password_hash.map(PasswordHash::to_string))
            .bind(after.roles.names())
            .bind(after.disabled_at)
            .bind(to_i64(after.version.number()))
            .bind(edit.keeps_reset_code())
            .bind(password_hash.and_then(PasswordHash::cost).map(|cost| cost.to_string()))
            .bind(after.external_id.as_ref().map(ExternalId::as_str).map(str::to_owned))
            .bind(after.metadata.to_string())
    }
}

/// Steps of `list_users`, `export_users` and `import_users`.
impl PostgresStore {
    async fn select_users(&self, query: &UserQuery) -> Result<Vec<PgRow>, StoreError> {
        let select = self.executor.query(concat!(
            "select username_key, password_hash, ",
            columns!(),
            r#" from users
               where username_key collate "C" >= case when $8::text is null then $1 else
                         (select greatest($1, username_key collate "C") from users
                          where external_id = $8) end
                 and username_key collate "C" <= $2 and username_key collate "C" > $3
                 and ($4::text[] is null or username_key = any ($4))
                 and ($5::text is null or $5 = any (roles))
                 and ($6::boolean is null or (disabled_at is not null) = $6)
                 and ($8::text is null or external_id = $8)
               order by username_key collate "C" limit $7"#
        ));
        let rows = select
            .bind(query.lower_bound())
            .bind(query.upper_bound())
            .bind(query.previous_key())
            .bind(query.keys())
            .bind(query.role.as_ref().map(RoleName::as_str))
            .bind(query.is_disabled)
            .bind(i64::from(query.limit))
            .bind(query.external_id.as_ref().map(ExternalId::as_str))
            .fetch_all(&self.executor)
            .await?;
        Ok(rows)
    }

    /// Inserts the accounts that conflict with no others. Returns their ids.
    async fn insert_imported(
        &self,
        connection: &mut PgConnection,
        imported: &[Credentials],
    ) -> Result<HashSet<Uuid>, StoreError> {
        let insert = self.executor.query(
            "insert into users (id, username, username_key, password_hash, hash_cost, roles,
                                external_id, metadata, created_at, disabled_at)
             select id, username,
                    coalesce((select username_key from users where username_key = unfolded_key), key),
                    password_hash, hash_cost, string_to_array(roles, ' '),
                    external_id, metadata, created_at, disabled_at
             from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                         $7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[])
                  as imported (id, username, key, unfolded_key, password_hash, hash_cost, roles,
                               external_id, metadata, created_at, disabled_at)
             order by key
             on conflict do nothing
             returning id",
        );
        let rows = insert
            .bind(values(imported, |new| new.user.id.as_uuid()))
            .bind(values(imported, |new| new.user.username.as_str().to_owned()))
            .bind(values(imported, |new| new.user.username.key().to_owned()))
            .bind(values(imported, |new| new.user.username.unfolded_key().to_owned()))
            .bind(values(imported, |new| new.password_hash.to_string()))
            .bind(values(imported, |new| new.password_hash.cost().map(|cost| cost.to_string())))
            .bind(values(imported, |new| new.user.roles.to_string()))
            .bind(external_ids(imported))
            .bind(values(imported, |new| new.user.metadata.to_string()))
            .bind(values(imported, |new| new.user.created_at))
            .bind(values(imported, |new| new.user.disabled_at))
            .fetch_all(connection)
            .await?;
        Ok(rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?)
    }

    /// Finds the accounts that have a username, an external id or an id of an imported one.
    async fn find_conflicts(
        &self,
        connection: &mut PgConnection,
        imported: &[Credentials],
    ) -> Result<Vec<Conflict>, StoreError> {
        let select = self.executor.query(
            "select id, username_key, external_id, created_at, password_hash from users
             where id in (select id from users where username_key = any ($1)
                          union select id from users where username_key = any ($2)
                          union select id from users where external_id = any ($3)
                          union select id from users where id = any ($4))",
        );
        let rows = select
            .bind(values(imported, |new| new.user.username.key().to_owned()))
            .bind(values(imported, |new| new.user.username.unfolded_key().to_owned()))
            .bind(external_ids(imported))
            .bind(values(imported, |new| new.user.id.as_uuid()))
            .fetch_all(connection)
            .await?;
        let conflict = |row: &PgRow| {
            Ok(Conflict {
                id: row.try_get("id")?,
                username_key: row.try_get("username_key")?,
                external_id: row.try_get("external_id")?,
                created_at: time_column(row, "users", "created_at").ok(),
                password_hash: row.try_get("password_hash")?,
            })
        };
        rows.iter().map(conflict).collect()
    }
}

fn values<T>(imported: &[Credentials], value: impl Fn(&Credentials) -> T) -> Vec<T> {
    imported.iter().map(value).collect()
}

fn external_ids(imported: &[Credentials]) -> Vec<Option<String>> {
    let text = |id: &ExternalId| id.as_str().to_owned();
    values(imported, |new| new.user.external_id.as_ref().map(text))
}

/// Maps the violation of a unique constraint to the reason that it stands for.
fn taken(error: sqlx::Error) -> WriteError {
    if violates(&error, "users_username_key_unique") {
        return AccountError::UsernameTaken.into();
    }
    if violates(&error, "users_external_id_unique") {
        return AccountError::ExternalIdTaken.into();
    }
    error.into()
}

fn listed_user(row: &PgRow) -> Result<ListedUser, StoreError> {
    let password_hash = column(row, "users", "password_hash");
    Ok(user_columns(row).list(column(row, "users", "username_key")?, password_hash))
}

/// Parses an account. Other columns of the row are ignored.
pub(super) fn user_from_row(row: &PgRow) -> Result<User, StoreError> {
    user_columns(row).parse()
}

fn user_columns(row: &PgRow) -> UserColumns {
    UserColumns {
        id: column(row, "users", "id"),
        username: column(row, "users", "username"),
        roles: column(row, "users", "roles"),
        permissions: column(row, "roles", "permissions").map(Option::unwrap_or_default),
        external_id: column(row, "users", "external_id"),
        metadata: column(row, "users", "metadata"),
        created_at: time_column(row, "users", "created_at"),
        disabled_at: optional_time_column(row, "users", "disabled_at"),
        version: column(row, "users", "version"),
    }
}

fn credentials_from_row(row: &PgRow) -> Result<Credentials, StoreError> {
    let password_hash = parse_password_hash(column(row, "users", "password_hash")?)?;
    Ok(Credentials { user: user_from_row(row)?, password_hash })
}

/// Returns `true` if a statement failed because of a constraint.
pub(super) fn violates(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().and_then(DatabaseError::constraint) == Some(constraint)
}
