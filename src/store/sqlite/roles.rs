//! Roles on SQLite.

use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit;
use super::database::{SqliteStore, micros, now};
use super::requesters::{find_grantable, is_signed_in};
use super::revocations::{TOKENS_EXPIRE_AT, insert_revocation};
use crate::domain::{
    MAX_LEEWAY, Revocation, Role, RoleChange, RoleEdit, RoleError, RoleName, RoleOutcome, UserId,
};
use crate::store::columns::from_micros;
use crate::store::error::StoreError;
use crate::store::revocations::CommittedRevocations;
use crate::store::roles::{
    ChangedRole, ListedRoles, RoleColumns, RoleStore, RoleWriteError, before_all_sessions,
    stored_permissions,
};

/// Selects roles: all, or that with the name `?1`.
const SELECT: &str = "
    select name, permissions,
           case when ending_after is null then 0 else (
               select count(*) from sessions join users on users.id = sessions.user_id
               where sessions.id > ending_after
                 and instr(' ' || users.roles || ' ', ' ' || roles.name || ' ') > 0
           ) end as ending_sessions
    from roles where ?1 is null or name = ?1 order by name";

#[async_trait]
impl RoleStore for SqliteStore {
    async fn list_roles(&self) -> Result<ListedRoles, StoreError> {
        let select = sqlx::query(SELECT).bind(None::<&str>);
        let mut list = ListedRoles::default();
        for row in select.fetch_all(&self.pool).await? {
            role_columns(&row)?.add_to(&mut list);
        }
        Ok(list)
    }

    async fn find_role(&self, name: &RoleName) -> Result<Option<Role>, StoreError> {
        select_role(&mut *self.pool.acquire().await?, name).await
    }

    async fn change_role(&self, change: &RoleChange) -> Result<ChangedRole, RoleWriteError> {
        let mut transaction = self.begin_write().await?;
        if !is_signed_in(&mut transaction, &change.requester).await? {
            return Err(RoleError::RequesterSignedOut.into());
        }
        let before = select_role(&mut transaction, &change.name).await?;
        let is_in_use = is_in_use(&mut transaction, &change.name).await?;
        let grantable = find_grantable(&mut transaction, &change.requester).await?;
        let permissions = before.as_ref().map(|role| &role.permissions);
        let Some(outcome) = change.decide(permissions, is_in_use, &grantable)? else {
            let role = before.ok_or(RoleError::NotFound)?;
            return Ok(ChangedRole { role, action: None });
        };
        write_role(&mut transaction, change, &outcome).await?;
        let after = select_role(&mut transaction, &change.name).await?;
        let at = now(&mut transaction).await?;
        audit::insert(&mut transaction, &[change.audit_record(&outcome, at)]).await?;
        transaction.commit().await?;
        let role = after.or(before).ok_or(RoleError::NotFound)?;
        Ok(ChangedRole { role, action: Some(outcome.action) })
    }

    async fn end_sessions_of_roles(
        &self,
        limit: u32,
    ) -> Result<Option<CommittedRevocations>, StoreError> {
        let select = "select name, ending_after from roles where ending_after is not null
                      order by name limit 1";
        // Most calls find nothing, which needs no write lock.
        if sqlx::query(select).fetch_optional(&self.pool).await?.is_none() {
            return Ok(None);
        }
        let mut transaction = self.begin_write().await?;
        let row = sqlx::query(select).fetch_optional(&mut *transaction).await?;
        let Some(row) = row else { return Ok(None) };
        let (name, after) = (row.try_get("name")?, row.try_get("ending_after")?);
        let committed_at = now(&mut transaction).await?;
        let revocations =
            end_batch(&mut transaction, Some(name), after, limit, committed_at).await?;
        let last = revocations.iter().map(|revocation| revocation.id.as_uuid()).max();
        let is_full = revocations.len() >= limit as usize;
        let update = sqlx::query("update roles set ending_after = ?2 where name = ?1");
        let update = update.bind(name).bind(last.filter(|_| is_full));
        update.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(Some(CommittedRevocations { revocations, committed_at, locked: HashSet::new() }))
    }
}

async fn select_role(
    connection: &mut SqliteConnection,
    name: &RoleName,
) -> Result<Option<Role>, StoreError> {
    let row = sqlx::query(SELECT).bind(name.as_str()).fetch_optional(connection).await?;
    Ok(row.as_ref().map(role_columns).transpose()?.and_then(|columns| columns.parse()))
}

/// Returns `true` if an account has the role.
async fn is_in_use(connection: &mut SqliteConnection, name: &RoleName) -> Result<bool, StoreError> {
    let select = sqlx::query_scalar(
        "select exists (select 1 from users
                        where instr(' ' || roles || ' ', ' ' || ?1 || ' ') > 0)",
    );
    Ok(select.bind(name.as_str()).fetch_one(connection).await?)
}

async fn write_role(
    connection: &mut SqliteConnection,
    change: &RoleChange,
    outcome: &RoleOutcome,
) -> Result<(), StoreError> {
    if let RoleEdit::Delete = change.edit {
        let delete = sqlx::query("delete from roles where name = ?1").bind(change.name.as_str());
        delete.execute(connection).await?;
        return Ok(());
    }
    let insert = sqlx::query(
        "insert into roles (name, permissions, ending_after) values (?1, ?2, ?3)
         on conflict (name) do update
         set permissions = excluded.permissions,
             ending_after = coalesce(excluded.ending_after, ending_after)",
    );
    insert
        .bind(change.name.as_str())
        .bind(stored_permissions(&change.name, &outcome.permissions).to_string())
        .bind(outcome.ends_sessions.then(before_all_sessions))
        .execute(&mut *connection)
        .await?;
    if outcome.ends_sessions {
        sqlx::query("update shared_state set version = version + 1").execute(connection).await?;
    }
    Ok(())
}

/// Ends the next sessions of the members of a role, or of all accounts.
pub(super) async fn end_batch(
    connection: &mut SqliteConnection,
    role: Option<&str>,
    after: Uuid,
    limit: u32,
    committed_at: OffsetDateTime,
) -> Result<Vec<Revocation>, StoreError> {
    let delete = sqlx::query(AssertSqlSafe(format!(
        "delete from sessions where id in (
             select sessions.id from sessions join users on users.id = sessions.user_id
             where sessions.id > ?2
               and (?1 is null or instr(' ' || users.roles || ' ', ' ' || ?1 || ' ') > 0)
             order by sessions.id limit ?3)
         returning id, user_id, {TOKENS_EXPIRE_AT} + ?4 as expires_at"
    )));
    let delete = delete.bind(role).bind(after).bind(limit).bind(micros(MAX_LEEWAY));
    let mut revocations = Vec::new();
    for row in delete.fetch_all(&mut *connection).await? {
        let revocation = Revocation {
            id: row.try_get::<Uuid, _>("id")?.into(),
            expires_at: from_micros("sessions", "expires_at", row.try_get("expires_at")?)?,
        };
        let user_id = UserId::from(row.try_get::<Uuid, _>("user_id")?);
        insert_revocation(connection, &revocation, Some(user_id), committed_at).await?;
        revocations.push(revocation);
    }
    Ok(revocations)
}

fn role_columns(row: &SqliteRow) -> Result<RoleColumns, StoreError> {
    Ok(RoleColumns {
        name: row.try_get("name")?,
        permissions: row.try_get("permissions")?,
        ending_sessions: row.try_get("ending_sessions")?,
    })
}
