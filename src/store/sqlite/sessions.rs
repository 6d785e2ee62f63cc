//! Sessions on SQLite.

use std::collections::{HashMap, HashSet};
use std::slice;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit;
use super::database::{self, NOW, SqliteStore, micros};
use super::roles::end_batch;
use super::users::find_user;
use crate::domain::{
    AccountError, Audience, AuditRecord, RETRY_PERIOD, REUSE_GRACE_PERIOD, REVOCATIONS_PER_USER,
    Session, SessionId, UserId, UserVersion,
};
use crate::store::columns::{from_micros, read_origin, to_i64, to_micros};
use crate::store::error::StoreError;
use crate::store::revocations::{CommittedRevocations, LockedSessions};
use crate::store::sessions::{
    OpenedSession, PresentedToken, Rotation, Rotations, SessionQuery, SessionStore,
    parse_generation, token_use, too_many_revocations,
};
use crate::store::users::WriteError;

/// Condition of an exchange: the presented generation is the current one.
const IS_EXCHANGE: &str = "generation = ?2";

/// Condition of a retry after a lost reply. Within the reuse grace period, the reply may be on its
/// way.
const IS_LOST_REPLY: &str = "(parent = ?2 and rotated_at <= ?6 - ?7 and exchanged_at > ?6 - ?8)";

/// Columns of a session.
macro_rules! columns {
    () => {
        "id, user_id, created_at, last_used_at, expires_at, audience,
         coalesce(tokens_expire_at, expires_at) as tokens_expire_at, address, user_agent,
         coalesce(last_address, address) as last_address,
         coalesce(last_user_agent, user_agent) as last_user_agent"
    };
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn insert_session(
        &self,
        new: &Session,
        version: UserVersion,
        limit: u32,
        record: &AuditRecord,
    ) -> Result<OpenedSession, WriteError> {
        let mut transaction = self.begin_write().await?;
        if let Some(until) = find_refusal(&mut transaction, new).await? {
            return Err(too_many_revocations(until, new.created_at));
        }
        let excess = find_excess_sessions(&mut transaction, new.user_id, limit).await?;
        let result = sqlx::query(AssertSqlSafe(format!(
            "insert into sessions (id, user_id, generation, rotated_at, created_at, last_used_at,
                                   expires_at, address, user_agent, tokens_expire_at, audience)
             select ?1, id, 0, {NOW}, ?3, ?4, ?5, ?6, ?7, ?9, ?10 from users where id = ?2 and version = ?8"
        )))
        .bind(new.id.as_uuid())
        .bind(new.user_id.as_uuid())
        .bind(to_micros(new.created_at))
        .bind(to_micros(new.last_used_at))
        .bind(to_micros(new.expires_at))
        .bind(new.origin.address.to_string())
        .bind(new.origin.user_agent.as_str())
        .bind(to_i64(version.number()))
        .bind(to_micros(new.tokens_expire_at))
        .bind(new.audience.as_ref().map(Audience::to_string))
        .execute(&mut *transaction)
        .await?;
        if result.rows_affected() == 0 {
            return Err(AccountError::Changed.into());
        }
        let user = find_user(&mut transaction, new.user_id).await?.ok_or(AccountError::NotFound)?;
        audit::insert(&mut transaction, slice::from_ref(record)).await?;
        transaction.commit().await?;
        Ok(OpenedSession { permissions: user.permissions, excess })
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let select = sqlx::query(concat!("select ", columns!(), " from sessions where id = ?1"));
        let row = select.bind(id.as_uuid()).fetch_optional(&self.pool).await?;
        row.as_ref().map(session_from_row).transpose()
    }

    async fn rotate_sessions(
        &self,
        presented: &HashMap<SessionId, PresentedToken>,
        now: OffsetDateTime,
        used_since: Option<OffsetDateTime>,
        tokens_expire_at: OffsetDateTime,
        _: LockedSessions,
    ) -> Result<Rotations, StoreError> {
        let mut transaction = self.begin_write().await?;
        let at = database::now(&mut transaction).await?;
        let mut rotations = Rotations::default();
        for (&id, presented) in presented {
            let rotation =
                rotate(&mut transaction, (id, presented), at, now, used_since, tokens_expire_at);
            match rotation.await {
                Ok(None) => {}
                Ok(Some(rotation)) => {
                    rotations.rotated.insert(id, Ok(rotation));
                }
                Err(error @ StoreError::Inconsistent { .. }) => {
                    rotations.rotated.insert(id, Err(error));
                }
                Err(error) => return Err(error),
            }
        }
        transaction.commit().await?;
        Ok(rotations)
    }

    async fn count_token_revocation(&self, id: SessionId) -> Result<Option<u32>, StoreError> {
        let count = async |update: &'static str| {
            sqlx::query_scalar(update).bind(id.as_uuid()).fetch_optional(&self.pool).await
        };
        let of_session = count(
            "update sessions set revoked_tokens = revoked_tokens + 1 where id = ?1
             returning revoked_tokens",
        );
        if let Some(count) = of_session.await? {
            return Ok(Some(count));
        }
        let of_secret = count(
            "update client_secrets set revoked_tokens = revoked_tokens + 1 where session_id = ?1
             returning revoked_tokens",
        );
        Ok(of_secret.await?)
    }

    async fn list_sessions(
        &self,
        query: &SessionQuery,
        now: OffsetDateTime,
    ) -> Result<Vec<Session>, StoreError> {
        let select = sqlx::query(concat!(
            "select ",
            columns!(),
            " from sessions where user_id = ?1 and expires_at > ?2
               and (?3 is null or (last_used_at, id) < (?3, ?4))
             order by last_used_at desc, id desc limit ?5"
        ));
        let rows = select
            .bind(query.user_id.as_uuid())
            .bind(to_micros(now))
            .bind(query.after.map(|position| to_micros(position.last_used_at)))
            .bind(query.after.map(|position| position.id.as_uuid()))
            .bind(query.limit)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(session_from_row).collect()
    }

    async fn end_sessions(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<CommittedRevocations, StoreError> {
        let after = after.map_or(Uuid::nil(), SessionId::as_uuid);
        let mut transaction = self.begin_write().await?;
        let committed_at = database::now(&mut transaction).await?;
        let revocations = end_batch(&mut transaction, None, after, limit, committed_at).await?;
        transaction.commit().await?;
        Ok(CommittedRevocations { revocations, committed_at, locked: HashSet::new() })
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

/// Returns the time until which the account has too many live revocations; `None` if it has not.
async fn find_refusal(
    connection: &mut SqliteConnection,
    new: &Session,
) -> Result<Option<OffsetDateTime>, StoreError> {
    let select = sqlx::query_scalar(
        "select expires_at from revocations where user_id = ?1 and expires_at > ?2
         order by expires_at desc limit 1 offset ?3",
    );
    let until = select
        .bind(new.user_id.as_uuid())
        .bind(to_micros(new.created_at))
        .bind(REVOCATIONS_PER_USER)
        .fetch_optional(connection)
        .await?;
    until.map(|until| from_micros("revocations", "expires_at", until)).transpose()
}

/// Finds the sessions that are too many beside a new one.
async fn find_excess_sessions(
    connection: &mut SqliteConnection,
    user: UserId,
    limit: u32,
) -> Result<Vec<SessionId>, StoreError> {
    let select = sqlx::query_scalar(
        "select id from sessions where user_id = ?1
         order by last_used_at desc, id limit -1 offset ?2",
    );
    let select = select.bind(user.as_uuid()).bind(i64::from(limit) - 1);
    let ids: Vec<Uuid> = select.fetch_all(connection).await?;
    Ok(ids.into_iter().map(SessionId::from).collect())
}

/// Rotates one session, `at` a time by the clock of the database; `None` if it is absent, expired
/// or idle.
async fn rotate(
    connection: &mut SqliteConnection,
    (id, presented): (SessionId, &PresentedToken),
    at: OffsetDateTime,
    now: OffsetDateTime,
    used_since: Option<OffsetDateTime>,
    tokens_expire_at: OffsetDateTime,
) -> Result<Option<Rotation>, StoreError> {
    let row = sqlx::query(AssertSqlSafe(format!(
        "update sessions
         set generation   = case when {IS_EXCHANGE} or {IS_LOST_REPLY} then generation + 1 else generation end,
             rotated_at   = case when {IS_EXCHANGE} or {IS_LOST_REPLY} then ?6 else rotated_at end,
             parent       = case when {IS_EXCHANGE} then ?2 else parent end,
             exchanged_at = case when {IS_EXCHANGE} then ?6 else exchanged_at end,
             last_used_at = case when {IS_EXCHANGE} then ?3 else last_used_at end,
             last_address = case when {IS_EXCHANGE} then ?9 else last_address end,
             last_user_agent = case when {IS_EXCHANGE} then ?10 else last_user_agent end,
             tokens_expire_at = max(tokens_expire_at, min(expires_at, ?5))
         where id = ?1 and expires_at > ?3 and (?4 is null or last_used_at >= ?4)
         returning user_id, expires_at, audience, generation,
                   coalesce(parent = ?2 and (rotated_at > ?6 - ?7 or exchanged_at > ?6 - ?8), 0) as is_accepted,
                   coalesce(exchanged_at = ?6, 0) as is_first"
    )))
    .bind(id.as_uuid())
    .bind(to_i64(presented.generation.number()))
    .bind(to_micros(now))
    .bind(used_since.map(to_micros))
    .bind(to_micros(tokens_expire_at))
    .bind(to_micros(at))
    .bind(micros(REUSE_GRACE_PERIOD))
    .bind(micros(RETRY_PERIOD))
    .bind(presented.origin.address.to_string())
    .bind(presented.origin.user_agent.as_str())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let user_id = row.try_get::<Uuid, _>("user_id")?.into();
    let Some(user) = find_user(connection, user_id).await? else { return Ok(None) };
    let generation = parse_generation(row.try_get("generation")?)?;
    let is_accepted = row.try_get("is_accepted")?;
    let is_first = row.try_get("is_first")?;
    Ok(Some(Rotation {
        user,
        expires_at: from_micros("sessions", "expires_at", row.try_get("expires_at")?)?,
        generation,
        audience: row.try_get::<Option<&str>, _>("audience")?.map(Audience::from_text),
        token_use: token_use(presented.generation, generation, is_accepted, is_first),
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
        tokens_expire_at: time("tokens_expire_at")?,
        audience: row.try_get::<Option<&str>, _>("audience")?.map(Audience::from_text),
        origin: read_origin(row.try_get("address")?, row.try_get("user_agent")?),
        last_origin: read_origin(row.try_get("last_address")?, row.try_get("last_user_agent")?),
    })
}
