//! Roles on PostgreSQL.

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};
use uuid::Uuid;

use super::audit;
use super::database::PostgresStore;
use super::revocations::{TOKENS_EXPIRE_AT, revocations_from_row};
use crate::domain::{MAX_LEEWAY, Role, RoleChange, RoleEdit, RoleError, RoleName, RoleOutcome};
use crate::store::error::StoreError;
use crate::store::revocations::CommittedRevocations;
use crate::store::roles::{
    ChangedRole, ListedRoles, RoleColumns, RoleStore, RoleWriteError, before_all_sessions,
    stored_permissions,
};

/// Selects roles: all, or that with the name `$1`.
const SELECT: &str = r#"
    select name, array_to_string(permissions, ' ') as permissions,
           case when ending_after is null then 0 else (
               select count(*) from sessions join users on users.id = sessions.user_id
               where sessions.id > ending_after and roles.name = any (users.roles)
           ) end as ending_sessions
    from roles where $1::text is null or name = $1 order by name collate "C""#;

#[async_trait]
impl RoleStore for PostgresStore {
    async fn list_roles(&self) -> Result<ListedRoles, StoreError> {
        let select = self.executor.query(SELECT).bind(None::<&str>);
        let mut list = ListedRoles::default();
        for row in select.fetch_all(&self.executor).await? {
            role_columns(&row)?.add_to(&mut list);
        }
        Ok(list)
    }

    async fn find_role(&self, name: &RoleName) -> Result<Option<Role>, StoreError> {
        let mut lease = self.executor.lease().await?;
        let role = self.select_role(lease.connection()?, name).await?;
        lease.give_back();
        Ok(role)
    }

    async fn change_role(&self, change: &RoleChange) -> Result<ChangedRole, RoleWriteError> {
        let mut lease = self.executor.lease().await?;
        let mut transaction =
            lease.connection()?.begin_with(self.executor.begin_statement()).await?;
        let now = self.lock_shared_state(&mut transaction).await?;
        if !self.is_signed_in(&mut transaction, &change.requester).await? {
            return Err(RoleError::RequesterSignedOut.into());
        }
        let before = self.lock_role(&mut transaction, &change.name).await?;
        let is_in_use = self.is_in_use(&mut transaction, &change.name).await?;
        let grantable = self.grantable(&mut transaction, &change.requester).await?;
        let permissions = before.as_ref().map(|role| &role.permissions);
        let Some(outcome) = change.decide(permissions, is_in_use, &grantable)? else {
            let role = before.ok_or(RoleError::NotFound)?;
            return Ok(ChangedRole { role, action: None });
        };
        self.write_role(&mut transaction, change, &outcome).await?;
        let after = self.select_role(&mut transaction, &change.name).await?;
        let record = change.audit_record(&outcome, now);
        let insert = audit::bind(self.executor.query(audit::INSERT), &[record]);
        insert.execute(&mut *transaction).await?;
        transaction.commit().await?;
        lease.give_back();
        let role = after.or(before).ok_or(RoleError::NotFound)?;
        Ok(ChangedRole { role, action: Some(outcome.action) })
    }

    async fn end_sessions_of_roles(
        &self,
        limit: u32,
    ) -> Result<Option<CommittedRevocations>, StoreError> {
        let select = self.executor.query(
            "select name, ending_after from roles where ending_after is not null
             order by name limit 1",
        );
        let Some(row) = select.fetch_optional(&self.executor).await? else { return Ok(None) };
        let (name, after) = (row.try_get("name")?, row.try_get("ending_after")?);
        let ended = self.end_batch(Some(name), after, limit).await?;
        let last = ended.revocations.iter().map(|revocation| revocation.id.as_uuid()).max();
        let is_full = ended.revocations.len() >= limit as usize;
        self.advance(name, after, last.filter(|_| is_full)).await?;
        Ok(Some(ended))
    }
}

/// Steps of `change_role`.
impl PostgresStore {
    /// Locks a role. Logins of its members, and grants of it, wait until the commit; the next
    /// statements see those before.
    async fn lock_role(
        &self,
        connection: &mut PgConnection,
        name: &RoleName,
    ) -> Result<Option<Role>, StoreError> {
        let lock = self.executor.query("select from roles where name = $1 for update");
        lock.bind(name.as_str()).execute(&mut *connection).await?;
        self.select_role(connection, name).await
    }

    async fn select_role(
        &self,
        connection: &mut PgConnection,
        name: &RoleName,
    ) -> Result<Option<Role>, StoreError> {
        let select = self.executor.query(SELECT).bind(name.as_str());
        let row = select.fetch_optional(connection).await?;
        Ok(row.as_ref().map(role_columns).transpose()?.and_then(|columns| columns.parse()))
    }

    /// Returns `true` if an account has the role.
    async fn is_in_use(
        &self,
        connection: &mut PgConnection,
        name: &RoleName,
    ) -> Result<bool, StoreError> {
        let select =
            self.executor.query("select exists (select from users where $1 = any (roles))");
        Ok(select.bind(name.as_str()).fetch_one(connection).await?.try_get(0)?)
    }

    async fn write_role(
        &self,
        connection: &mut PgConnection,
        change: &RoleChange,
        outcome: &RoleOutcome,
    ) -> Result<(), StoreError> {
        if let RoleEdit::Delete = change.edit {
            let delete = self.executor.query("delete from roles where name = $1");
            delete.bind(change.name.as_str()).execute(connection).await?;
            return Ok(());
        }
        let insert = self.executor.query(
            "insert into roles (name, permissions, ending_after) values ($1, $2, $3)
             on conflict (name) do update
             set permissions = excluded.permissions,
                 ending_after = coalesce(excluded.ending_after, roles.ending_after)",
        );
        insert
            .bind(change.name.as_str())
            .bind(stored_permissions(&change.name, &outcome.permissions).names())
            .bind(outcome.ends_sessions.then(before_all_sessions))
            .execute(&mut *connection)
            .await?;
        if outcome.ends_sessions {
            let update = self.executor.query("update shared_state set version = version + 1");
            update.execute(connection).await?;
        }
        Ok(())
    }
}

/// Steps of `end_sessions_of_roles`, each a commit: no transaction may hold the role while it waits
/// for sessions, or sessions while it waits for the role.
impl PostgresStore {
    /// Ends the next sessions of the members of a role, or of all accounts.
    ///
    /// Waits for sessions that are locked: a refresh that read the former permissions may hold them.
    pub(super) async fn end_batch(
        &self,
        role: Option<&str>,
        after: Uuid,
        limit: u32,
    ) -> Result<CommittedRevocations, StoreError> {
        let delete = self.executor.query(AssertSqlSafe(format!(
            "with members as (
                 select sessions.id from sessions join users on users.id = sessions.user_id
                 where sessions.id > $2 and ($1::text is null or $1 = any (users.roles))
                 order by sessions.id limit $3 for update of sessions),
             ended as (
                 delete from sessions where id in (select id from members)
                 returning id, user_id, {TOKENS_EXPIRE_AT} + make_interval(secs => $4) as expires_at),
             added as (
                 insert into revocations (id, expires_at, user_id)
                 select id, expires_at, user_id from ended order by id
                 on conflict (id) do nothing)
             select array_agg(id) as ids, array_agg(expires_at) as expiries,
                    clock_timestamp() as committed_at
             from ended"
        )));
        let row = delete
            .bind(role)
            .bind(after)
            .bind(i64::from(limit))
            .bind(MAX_LEEWAY.as_secs_f64())
            .fetch_one(&self.executor)
            .await?;
        revocations_from_row(&row)
    }

    /// Notes the last session that was ended, or that none is left, unless another instance did so,
    /// or another permission was taken away.
    async fn advance(&self, role: &str, from: Uuid, to: Option<Uuid>) -> Result<(), StoreError> {
        let update = self
            .executor
            .query("update roles set ending_after = $3 where name = $1 and ending_after = $2");
        update.bind(role).bind(from).bind(to).execute(&self.executor).await?;
        Ok(())
    }
}

fn role_columns(row: &PgRow) -> Result<RoleColumns, StoreError> {
    Ok(RoleColumns {
        name: row.try_get("name")?,
        permissions: row.try_get("permissions")?,
        ending_sessions: row.try_get("ending_sessions")?,
    })
}
