//! Sessions on SQLite.

use std::collections::HashMap;
use std::slice;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit;
use super::database::{NOW, SqliteStore};
use super::users::find_user;
use crate::domain::{AuditRecord, Generation, Session, SessionId, UserId, UserVersion};
use crate::store::columns::{from_micros, parse_origin, to_i64, to_micros};
use crate::store::error::StoreError;
use crate::store::sessions::{
    Rotation, Rotations, SESSIONS_LISTED, SessionStore, parse_age, parse_generation,
};

/// Columns of a session.
macro_rules! columns {
    () => {
        "id, user_id, created_at, last_used_at, expires_at, address, user_agent"
    };
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn insert_session(
        &self,
        new: &Session,
        version: UserVersion,
        record: &AuditRecord,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin_write().await?;
        let result = sqlx::query(AssertSqlSafe(format!(
            "insert into sessions (id, user_id, generation, rotated_at, created_at, last_used_at,
                                   expires_at, address, user_agent)
             select ?1, id, 0, {NOW}, ?3, ?4, ?5, ?6, ?7 from users where id = ?2 and version = ?8"
        )))
        .bind(new.id.as_uuid())
        .bind(new.user_id.as_uuid())
        .bind(to_micros(new.created_at))
        .bind(to_micros(new.last_used_at))
        .bind(to_micros(new.expires_at))
        .bind(new.origin.address.to_string())
        .bind(new.origin.user_agent.as_str())
        .bind(to_i64(version.number()))
        .execute(&mut *transaction)
        .await?;
        if result.rows_affected() == 0 {
            return Ok(false);
        }
        audit::insert(&mut transaction, slice::from_ref(record)).await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let select = sqlx::query(concat!("select ", columns!(), " from sessions where id = ?1"));
        let row = select.bind(id.as_uuid()).fetch_optional(&self.pool).await?;
        row.as_ref().map(session_from_row).transpose()
    }

    async fn rotate_sessions(
        &self,
        presented: &HashMap<SessionId, Generation>,
        now: OffsetDateTime,
        used_since: Option<OffsetDateTime>,
    ) -> Result<Rotations, StoreError> {
        let mut transaction = self.begin_write().await?;
        let mut rotations = Rotations::new();
        for (&id, &presented) in presented {
            match rotate(&mut transaction, id, presented, now, used_since).await {
                Ok(None) => {}
                Ok(Some(rotation)) => {
                    rotations.insert(id, Ok(rotation));
                }
                Err(error @ StoreError::Inconsistent { .. }) => {
                    rotations.insert(id, Err(error));
                }
                Err(error) => return Err(error),
            }
        }
        transaction.commit().await?;
        Ok(rotations)
    }

    async fn list_sessions(
        &self,
        user: UserId,
        now: OffsetDateTime,
    ) -> Result<Vec<Session>, StoreError> {
        let select = sqlx::query(concat!(
            "select ",
            columns!(),
            " from sessions where user_id = ?1 and expires_at > ?2
             order by last_used_at desc, id limit ?3"
        ));
        let select = select.bind(user.as_uuid()).bind(to_micros(now)).bind(SESSIONS_LISTED);
        let rows = select.fetch_all(&self.pool).await?;
        rows.iter().map(session_from_row).collect()
    }

    async fn delete_expired_sessions(
        &self,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let result = sqlx::query(AssertSqlSafe(format!(
            "delete from sessions where id in (
                 select id from sessions where expires_at < min(?1, {NOW})
                 order by expires_at limit ?2)"
        )))
        .bind(to_micros(now))
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(result.rows_affected())
    }
}

/// Rotates one session; `None` if it is absent, expired or idle.
async fn rotate(
    connection: &mut SqliteConnection,
    id: SessionId,
    presented: Generation,
    now: OffsetDateTime,
    used_since: Option<OffsetDateTime>,
) -> Result<Option<Rotation>, StoreError> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "update sessions
         set generation   = case when generation = ?2 then ?2 + 1 else generation end,
             rotated_at   = case when generation = ?2 then {NOW} else rotated_at end,
             last_used_at = case when generation = ?2 then ?3 else last_used_at end
         where id = ?1 and expires_at > ?3 and (?4 is null or last_used_at >= ?4)
         returning user_id, expires_at, generation, {NOW} - rotated_at as age"
    )))
    .bind(id.as_uuid())
    .bind(to_i64(presented.number()))
    .bind(to_micros(now))
    .bind(used_since.map(to_micros))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let user_id = row.try_get::<Uuid, _>("user_id")?.into();
    let Some(user) = find_user(connection, user_id).await? else { return Ok(None) };
    Ok(Some(Rotation {
        user,
        expires_at: from_micros("sessions", "expires_at", row.try_get("expires_at")?)?,
        generation: parse_generation(row.try_get("generation")?)?,
        age: parse_age(row.try_get("age")?),
    }))
}

fn session_from_row(row: &SqliteRow) -> Result<Session, StoreError> {
    let time = |column| from_micros("sessions", column, row.try_get(column)?);
    Ok(Session {
        id: row.try_get::<Uuid, _>("id")?.into(),
        user_id: row.try_get::<Uuid, _>("user_id")?.into(),
        created_at: time("created_at")?,
        last_used_at: time("last_used_at")?,
        expires_at: time("expires_at")?,
        origin: parse_origin("sessions", row.try_get("address")?, row.try_get("user_agent")?)?,
    })
}
