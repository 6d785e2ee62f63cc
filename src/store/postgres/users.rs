//! Accounts on PostgreSQL.

use std::slice;

use async_trait::async_trait;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, Postgres, Row};
use uuid::Uuid;

use super::audit;
use super::columns::{optional_time_column, time_column};
use super::database::PostgresStore;
use super::requesters::permissions_of_user;
use super::revocations::{TOKENS_EXPIRE_AT, revocations_from_row};
use crate::domain::{
    AccountError, AuditRecord, EditOutcome, MAX_LEEWAY, PasswordHash, Permissions,
    RESET_CODE_LIFETIME, ResetCodeHash, Rights, RoleName, SessionId, User, UserChange, UserEdit,
    UserId, Username,
};
use crate::store::columns::{column, to_i64};
use crate::store::error::StoreError;
use crate::store::revocations::CommittedRevocations;
use crate::store::users::{
    ChangedUser, Credentials, ListedUser, UserColumns, UserQuery, UserStore, WriteError,
    affected_users, parse_password_hash,
};

/// Columns of an account.
macro_rules! columns {
    () => {
        concat!(
            "id, username, roles, created_at, disabled_at, version, ",
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
            "insert into users (id, username, username_key, password_hash, roles, created_at)
             values ($1, $2, coalesce((select username_key from users where username_key = $7), $3),
                     $4, $5, $6)",
        );
        let result = insert
            .bind(user.id.as_uuid())
            .bind(user.username.as_str())
            .bind(user.username.key())
            .bind(password_hash.to_string())
            .bind(user.roles.names())
            .bind(user.created_at)
            .bind(user.username.unfolded_key())
            .execute(&mut *transaction)
            .await;
        match result {
            Ok(_) => {}
            Err(error) if violates(&error, "users_username_key_unique") => {
                return Err(AccountError::UsernameTaken.into());
            }
            Err(error) => return Err(error.into()),
        }
        let insert = audit::bind(self.executor.query(audit::INSERT), slice::from_ref(record));
        insert.execute(&mut *transaction).await?;
        transaction.commit().await?;
        lease.give_back();
        Ok(User { permissions, ..user.clone() })
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
        let select = self.executor.query(concat!(
            "select username_key, ",
            columns!(),
            r#" from users
               where username_key collate "C" >= $1 and username_key collate "C" <= $2
                 and username_key collate "C" > $3
                 and ($4::text[] is null or username_key = any ($4))
                 and ($5::text is null or $5 = any (roles))
                 and ($6::boolean is null or (disabled_at is not null) = $6)
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
            .fetch_all(&self.executor)
            .await?;
        let list = |row| Ok(user_columns(row).list(column(row, "users", "username_key")?));
        rows.iter().map(list).collect()
    }

    async fn replace_password_hash(
        &self,
        id: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let update = self
            .executor
            .query("update users set password_hash = $3 where id = $1 and password_hash = $2");
        let result = update
            .bind(id.as_uuid())
            .bind(old.to_string())
            .bind(new.to_string())
            .execute(&self.executor)
            .await?;
        Ok(result.rows_affected() == 1)
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
        self.update_user(user, &change.edit).execute(&mut *transaction).await?;
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
            UserEdit::Password(hash) | UserEdit::ResetPassword(hash, _) => Some(hash.to_string()),
            _ => None,
        };
        let update = self.executor.query(
            "update users
             set password_hash = coalesce($2, password_hash), roles = $3, disabled_at = $4, version = $5,
                 reset_code_hash = case when $6 then reset_code_hash end
             where id = $1",
        );
        update
            .bind(after.id.as_uuid())
            .bind(password_hash)
            .bind(after.roles.names())
            .bind(after.disabled_at)
            .bind(to_i64(after.version.number()))
            .bind(edit.keeps_reset_code())
    }
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
