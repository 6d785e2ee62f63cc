//! Sessions on PostgreSQL.

use std::collections::HashMap;
use std::slice;

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit;
use super::columns::{optional_time_column, time_column};
use super::database::PostgresStore;
use super::requesters::permissions_of_user;
use super::users::user_from_row;
use crate::domain::{
    AccountError, Audience, AuditRecord, RETRY_PERIOD, REUSE_GRACE_PERIOD, REVOCATIONS_PER_USER,
    Session, SessionId, UserVersion,
};
use crate::store::columns::{read_origin, to_i64};
use crate::store::error::StoreError;
use crate::store::requesters::held_permissions;
use crate::store::revocations::{CommittedRevocations, LockedSessions};
use crate::store::sessions::{
    OpenedSession, PresentedToken, Rotation, Rotations, SessionQuery, SessionStore,
    parse_generation, token_use, too_many_revocations,
};
use crate::store::users::WriteError;

/// Condition of a session that can be exchanged.
const IS_OPEN: &str = "sessions.expires_at > $3 and ($4 is null or sessions.last_used_at >= $4)";

/// Condition of an exchange: the presented generation is the current one.
const IS_EXCHANGE: &str = "generation = presented";

/// Condition of a retry after a lost reply. Within the reuse grace period, the reply may be on its
/// way.
const IS_LOST_REPLY: &str = "(parent = presented and rotated_at <= now - $6 * interval '1 second'
                              and exchanged_at > now - $7 * interval '1 second')";

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
impl SessionStore for PostgresStore {
    async fn insert_session(
        &self,
        new: &Session,
        version: UserVersion,
        limit: u32,
        record: &AuditRecord,
    ) -> Result<OpenedSession, WriteError> {
        // `for share` makes a concurrent `lock_users`, or change of a role, wait for this commit, so
        // that it ends this session, too. `excess` does not see
        // the new session, which is the most recently used one.
        let insert = self.executor.query(AssertSqlSafe(format!(
            "with owner as (select id, roles from users where id = $9 and version = $10 for share),
             held as (
                 select name, permissions from roles
                 where name = any ((select roles from owner)::text[]) order by name for share),
             refusal as (
                 select expires_at from revocations where user_id = $9 and expires_at > $12
                 order by expires_at desc offset $18 limit 1),
             opened as (
                 insert into sessions (id, user_id, generation, created_at, last_used_at,
                                       expires_at, address, user_agent, tokens_expire_at, audience)
                 select $11, id, 0, $12, $13, $14, $15, $16, $17, $20 from owner
                 where not exists (select from refusal)
                 returning id),
             recorded as ({} where exists (select from opened))
             select exists (select from opened) as is_opened,
                    (select roles from owner) as roles,
                    (select string_agg(permission, ' ') from held, unnest(permissions) as permission)
                        as permissions,
                    (select expires_at from refusal) as refused_until,
                    array(select id from sessions where user_id = $9
                          order by last_used_at desc, id offset $19) as excess",
            audit::INSERT
        )));
        let row = audit::bind(insert, slice::from_ref(record))
            .bind(new.user_id.as_uuid())
            .bind(to_i64(version.number()))
            .bind(new.id.as_uuid())
            .bind(new.created_at)
            .bind(new.last_used_at)
            .bind(new.expires_at)
            .bind(new.origin.address.to_string())
            .bind(new.origin.user_agent.as_str())
            .bind(new.tokens_expire_at)
            .bind(i64::from(REVOCATIONS_PER_USER))
            .bind(i64::from(limit) - 1)
            .bind(new.audience.as_ref().map(Audience::to_string))
            .fetch_one(&self.executor)
            .await?;
        if let Some(until) = optional_time_column(&row, "revocations", "refused_until")? {
            return Err(too_many_revocations(until, new.created_at));
        }
        if !row.try_get("is_opened")? {
            return Err(AccountError::Changed.into());
        }
        let permissions: Option<&str> = row.try_get("permissions")?;
        let permissions = held_permissions(row.try_get("roles")?, permissions.unwrap_or_default())?;
        let excess: Vec<Uuid> = row.try_get("excess")?;
        Ok(OpenedSession { permissions, excess: excess.into_iter().map(SessionId::from).collect() })
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let select =
            self.executor.query(concat!("select ", columns!(), " from sessions where id = $1"));
        let row = select.bind(id.as_uuid()).fetch_optional(&self.executor).await?;
        row.as_ref().map(session_from_row).transpose()
    }

    async fn rotate_sessions(
        &self,
        presented: &HashMap<SessionId, PresentedToken>,
        now: OffsetDateTime,
        used_since: Option<OffsetDateTime>,
        tokens_expire_at: OffsetDateTime,
        locked: LockedSessions,
    ) -> Result<Rotations, StoreError> {
        let mut ids = Vec::new();
        let mut generations = Vec::new();
        let mut addresses = Vec::new();
        let mut user_agents = Vec::new();
        for (id, PresentedToken { generation, origin }) in presented {
            ids.push(id.as_uuid());
            generations.push(to_i64(generation.number()));
            addresses.push(origin.address.to_string());
            user_agents.push(origin.user_agent.as_str());
        }
        let update = self.executor.query(AssertSqlSafe(rotate_sql(locked)));
        let update = update
            .bind(ids)
            .bind(generations)
            .bind(now)
            .bind(used_since)
            .bind(tokens_expire_at)
            .bind(REUSE_GRACE_PERIOD.as_secs_f64())
            .bind(RETRY_PERIOD.as_secs_f64())
            .bind(addresses)
            .bind(user_agents);
        let mut rotations = Rotations::default();
        for row in update.fetch_all(&self.executor).await? {
            let id = row.try_get::<Uuid, _>("session_id")?.into();
            if row.try_get("is_rotated")? {
                rotations.rotated.insert(id, rotation_from_row(&row));
            } else if locked == LockedSessions::Skip {
                rotations.locked.insert(id);
            }
        }
        Ok(rotations)
    }

    async fn count_token_revocation(&self, id: SessionId) -> Result<Option<u32>, StoreError> {
        let update = self.executor.query(
            "with session as (
                 update sessions set revoked_tokens = revoked_tokens + 1 where id = $1
                 returning revoked_tokens),
             secret as (
                 update client_secrets set revoked_tokens = revoked_tokens + 1
                 where session_id = $1 returning revoked_tokens)
             select revoked_tokens from session union all select revoked_tokens from secret",
        );
        match update.bind(id.as_uuid()).fetch_optional(&self.executor).await? {
            Some(row) => Ok(Some(u32::try_from(row.try_get::<i32, _>(0)?).unwrap_or(u32::MAX))),
            None => Ok(None),
        }
    }

    async fn list_sessions(
        &self,
        query: &SessionQuery,
        now: OffsetDateTime,
    ) -> Result<Vec<Session>, StoreError> {
        let select = self.executor.query(concat!(
            "select ",
            columns!(),
            " from sessions where user_id = $1 and expires_at > $2
               and ($3::timestamptz is null or (last_used_at, id) < ($3, $4))
             order by last_used_at desc, id desc limit $5"
        ));
        let rows = select
            .bind(query.user_id.as_uuid())
            .bind(now)
            .bind(query.after.map(|position| position.last_used_at))
            .bind(query.after.map(|position| position.id.as_uuid()))
            .bind(i64::from(query.limit))
            .fetch_all(&self.executor)
            .await?;
        rows.iter().map(session_from_row).collect()
    }

    async fn end_sessions(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<CommittedRevocations, StoreError> {
        self.end_batch(None, after.map_or(Uuid::nil(), SessionId::as_uuid), limit).await
    }

    async fn delete_expired_sessions(
        &self,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let delete = self.executor.query(
            "delete from sessions where id in (
                 select id from sessions where expires_at < least($1, clock_timestamp())
                 order by expires_at limit $2 for update skip locked)",
        );
        let result = delete.bind(now).bind(i64::from(limit)).execute(&self.executor).await?;
        Ok(result.rows_affected())
    }
}

/// Returns the statement of an exchange. A single one: of several instances that rotate a session
/// at once, one succeeds and the others see its generation. Its result contains every session that
/// was open when it began; one that was not rotated is locked, or has ended since.
fn rotate_sql(locked: LockedSessions) -> String {
    let skip_locked = locked.sql();
    let permissions = permissions_of_user!();
    format!(
        "with shown as (
             select * from unnest($1::uuid[], $2::bigint[], $8::text[], $9::text[])
                 as shown (id, presented, from_address, from_user_agent)),
         live as (
             select sessions.id, presented, from_address, from_user_agent,
                    clock_timestamp() as now
             from sessions join shown using (id)
             where {IS_OPEN}
             order by sessions.id for no key update of sessions {skip_locked}),
         rotated as (
         update sessions
         set generation   = case when {IS_EXCHANGE} or {IS_LOST_REPLY} then generation + 1 else generation end,
             rotated_at   = case when {IS_EXCHANGE} or {IS_LOST_REPLY} then now else rotated_at end,
             parent       = case when {IS_EXCHANGE} then presented else parent end,
             exchanged_at = case when {IS_EXCHANGE} then now else exchanged_at end,
             last_used_at = case when {IS_EXCHANGE} then $3 else last_used_at end,
             last_address = case when {IS_EXCHANGE} then from_address else last_address end,
             last_user_agent = case when {IS_EXCHANGE} then from_user_agent else last_user_agent end,
             tokens_expire_at = case when tokens_expire_at is not null
                 then greatest(tokens_expire_at, least(expires_at, $5)) end
         from live, users
         where sessions.id = live.id and users.id = user_id
         returning sessions.id as rotated_id, expires_at, audience, generation, presented,
                   coalesce(parent = presented
                       and (rotated_at > now - $6 * interval '1 second'
                            or exchanged_at > now - $7 * interval '1 second'), false) as is_accepted,
                   coalesce(exchanged_at = now, false) as is_first,
                   users.id, username, roles, external_id, metadata, users.created_at, disabled_at,
                   version,
                   {permissions} as permissions)
         select sessions.id as session_id, rotated_id is not null as is_rotated, rotated.*
         from sessions join shown using (id) left join rotated on rotated_id = sessions.id
         where {IS_OPEN}"
    )
}

fn session_from_row(row: &PgRow) -> Result<Session, StoreError> {
    Ok(Session {
        id: row.try_get::<Uuid, _>("id")?.into(),
        user_id: row.try_get::<Uuid, _>("user_id")?.into(),
        created_at: time_column(row, "sessions", "created_at")?,
        last_used_at: time_column(row, "sessions", "last_used_at")?,
        expires_at: time_column(row, "sessions", "expires_at")?,
        tokens_expire_at: time_column(row, "sessions", "tokens_expire_at")?,
        audience: row.try_get::<Option<&str>, _>("audience")?.map(Audience::from_text),
        origin: read_origin(row.try_get("address")?, row.try_get("user_agent")?),
        last_origin: read_origin(row.try_get("last_address")?, row.try_get("last_user_agent")?),
    })
}

fn rotation_from_row(row: &PgRow) -> Result<Rotation, StoreError> {
    let generation = parse_generation(row.try_get("generation")?)?;
    let presented = parse_generation(row.try_get("presented")?)?;
    let is_accepted = row.try_get("is_accepted")?;
    let is_first = row.try_get("is_first")?;
    Ok(Rotation {
        user: user_from_row(row)?,
        expires_at: time_column(row, "sessions", "expires_at")?,
        generation,
        audience: row.try_get::<Option<&str>, _>("audience")?.map(Audience::from_text),
        token_use: token_use(presented, generation, is_accepted, is_first),
    })
}
