//! PostgreSQL 13 or later.

mod audit;
mod change;
mod feed;
mod gateway;
mod listener;
mod snapshot;

use std::collections::{HashMap, HashSet};
use std::slice;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    AuditEntry, AuditPage, ChangeUserError, Changed, Credentials, Decision, Feed, InsertUserError,
    Listener, OpenError, PoolStatus, Rotation, SESSIONS_LISTED, Store, StoreError, UserChange,
    UserPage, age, client, generation, stored,
};
use crate::config::{DatabaseSettings, PostgresSettings, Secret};
use crate::domain::{
    AuditRecord, Generation, PasswordHash, RETENTION, Revocation, RevocationId, Session, SessionId,
    User, UserId, UserVersion, Username,
};
use feed::PostgresFeed;
use gateway::Gateway;
use listener::PostgresListener;

#[cfg(test)]
pub(crate) use snapshot::Snapshot;

const MIGRATIONS: &[(i64, &str, &str)] = &[
    (
        1,
        "users and revocations",
        include_str!("../../../migrations/postgres/0001_users_and_revocations.sql"),
    ),
    (
        2,
        "feed of revocations",
        include_str!("../../../migrations/postgres/0002_feed_of_revocations.sql"),
    ),
    (3, "sessions", include_str!("../../../migrations/postgres/0003_sessions.sql")),
    (
        4,
        "version of accounts",
        include_str!("../../../migrations/postgres/0004_version_of_accounts.sql"),
    ),
    (5, "administration", include_str!("../../../migrations/postgres/0005_administration.sql")),
];

/// Several instances may share one database; the database arbitrates.
pub(super) struct PostgresStore {
    gateway: Gateway,
    options: PgConnectOptions,
    listen_options: Option<PgConnectOptions>,
}

impl PostgresStore {
    pub(super) async fn open(
        postgres: &PostgresSettings,
        settings: &DatabaseSettings,
    ) -> Result<Self, OpenError> {
        let options = connect_options(&postgres.url, "DATABASE_URL")?;
        let listen_url = postgres.listen_url.as_ref();
        let listen_options =
            listen_url.map(|url| connect_options(url, "DATABASE_LISTEN_URL")).transpose()?;
        let failed = |source| OpenError::Connect { database: described(&options), source };
        // One connection first, outside the pool: a pool keeps trying, and then says only that it
        // timed out.
        let mut connection = timeout(settings.acquire_timeout, options.connect())
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .map_err(failed)?;
        migrate(&mut connection).await?;
        connection.close().await.map_err(failed)?;
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(settings.acquire_timeout)
            .connect_lazy_with(options.clone());
        Ok(Self { gateway: Gateway { pool, mode: postgres.pool_mode }, options, listen_options })
    }
}

fn connect_options(url: &Secret, variable: &str) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::from_str(url.expose()).map_err(|source| {
        OpenError::Connect { database: format!("named by {variable}"), source }
    })?;
    // `sqlx` asks for all digits of floating-point numbers, of which there are none here; PgBouncer
    // refuses connections that ask for what it does not know.
    Ok(options.application_name(env!("CARGO_PKG_NAME")).extra_float_digits(None))
}

/// Migrates inside a transaction, under a lock that ends with it: of several processes that start
/// at once, one migrates and the others then find nothing to do. A pooler may hand out the
/// connection again, so nothing prepared stays on it.
async fn migrate(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let mut transaction = connection.begin().await?;
    transaction.execute("deallocate all").await?;
    transaction.execute("select pg_advisory_xact_lock(hashtext('portcullis migrations'))").await?;
    let mut migrator = super::migrator(MIGRATIONS);
    migrator.set_locking(false).run_direct(None, &mut *transaction, false).await?;
    transaction.execute("deallocate all").await?;
    transaction.commit().await?;
    Ok(())
}

fn described(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    format!("`{database}` at {}:{}", options.get_host(), options.get_port())
}

#[async_trait]
impl Store for PostgresStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.gateway.execute("select 1").await?;
        Ok(())
    }

    async fn insert_user(
        &self,
        new: &Credentials,
        record: &AuditRecord,
    ) -> Result<(), InsertUserError> {
        let Credentials { user, password_hash } = new;
        // `key share` keeps the session from being ended, and lets it be refreshed.
        let insert = self.gateway.query(AssertSqlSafe(format!(
            "with open as (select from sessions where id = $15 for key share),
             added as (
                 insert into users (id, username, username_key, password_hash, roles, created_at)
                 select $9, $10, $11, $12, $13, $14
                 where $15::uuid is null or exists (select from open)
                 returning id)
             {} where exists (select from added)",
            audit::INSERT
        )));
        let inserted = audit::bind(insert, slice::from_ref(record))
            .bind(user.id.as_uuid())
            .bind(user.username.as_str())
            .bind(user.username.key())
            .bind(password_hash.to_string())
            .bind(user.roles.names().collect::<Vec<_>>())
            .bind(user.created_at)
            .bind(record.by.session.map(SessionId::as_uuid))
            .execute(&self.gateway)
            .await;
        match inserted {
            Ok(inserted) if inserted.rows_affected() == 0 => Err(InsertUserError::InitiatorOut),
            Ok(_) => Ok(()),
            Err(error) if breaks(&error, "users_username_key_unique") => {
                Err(InsertUserError::UsernameTaken)
            }
            Err(error) => Err(InsertUserError::Store(error.into())),
        }
    }

    async fn find_credentials(
        &self,
        username: &Username,
    ) -> Result<Option<Credentials>, StoreError> {
        let select = self.gateway.query(
            "select id, username, password_hash, roles, created_at, disabled_at, version
             from users where username_key = $1",
        );
        let row = select.bind(username.key()).fetch_optional(&self.gateway).await?;
        row.as_ref().map(credentials).transpose()
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let select = self.gateway.query(
            "select id, username, roles, created_at, disabled_at, version from users where id = $1",
        );
        let row = select.bind(id.as_uuid()).fetch_optional(&self.gateway).await?;
        row.as_ref().map(user).transpose()
    }

    async fn replace_password_hash(
        &self,
        id: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let update = self
            .gateway
            .query("update users set password_hash = $3 where id = $1 and password_hash = $2");
        let replaced = update
            .bind(id.as_uuid())
            .bind(old.to_string())
            .bind(new.to_string())
            .execute(&self.gateway)
            .await?;
        Ok(replaced.rows_affected() == 1)
    }

    async fn list_users(&self, page: &UserPage) -> Result<Vec<User>, StoreError> {
        let select = self.gateway.query(
            r#"select id, username, roles, created_at, disabled_at, version from users
               where username_key collate "C" >= $1 and username_key collate "C" < $2
                 and username_key collate "C" > $3
               order by username_key collate "C" limit $4"#,
        );
        let rows = select
            .bind(page.first())
            .bind(page.end())
            .bind(page.after())
            .bind(i64::from(page.limit))
            .fetch_all(&self.gateway)
            .await?;
        rows.iter().map(user).collect()
    }

    async fn change_user(&self, wanted: &UserChange) -> Result<Changed, ChangeUserError> {
        let begun = self.gateway.pool.begin().await;
        let mut transaction = begun.map_err(StoreError::from)?;
        let locked = change::lock_users(&self.gateway, &mut transaction, wanted).await?;
        if !change::may_go_on(&self.gateway, &mut transaction, wanted).await? {
            return Err(ChangeUserError::InitiatorOut);
        }
        let user = match wanted.decide(locked)? {
            Decision::Change(user) => user,
            Decision::Nothing(user) => return Ok(Changed::nothing(user, wanted.at)),
        };
        let ended = change::carry_out(&self.gateway, &mut transaction, wanted, &user).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(Changed { user, ended })
    }

    async fn insert_session(
        &self,
        new: &Session,
        version: UserVersion,
        record: &AuditRecord,
    ) -> Result<bool, StoreError> {
        // The lock is the one that `lock_users` has to wait for.
        let insert = self.gateway.query(AssertSqlSafe(format!(
            "with owner as (select id from users where id = $9 and version = $10 for share),
             opened as (
                 insert into sessions (id, user_id, generation, created_at, last_used_at,
                                       expires_at, address, user_agent)
                 select $11, id, 0, $12, $13, $14, $15, $16 from owner
                 returning id)
             {} where exists (select from opened)",
            audit::INSERT
        )));
        let inserted = audit::bind(insert, slice::from_ref(record))
            .bind(new.user_id.as_uuid())
            .bind(stored(version.number()))
            .bind(new.id.as_uuid())
            .bind(new.created_at)
            .bind(new.last_used_at)
            .bind(new.expires_at)
            .bind(new.client.address.to_string())
            .bind(new.client.user_agent.as_str())
            .execute(&self.gateway)
            .await?;
        Ok(inserted.rows_affected() == 1)
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let select = self.gateway.query(
            "select id, user_id, created_at, last_used_at, expires_at, address, user_agent
             from sessions where id = $1",
        );
        let row = select.bind(id.as_uuid()).fetch_optional(&self.gateway).await?;
        row.as_ref().map(session).transpose()
    }

    async fn rotate_sessions(
        &self,
        presented: &HashMap<SessionId, Generation>,
        now: OffsetDateTime,
        used_since: Option<OffsetDateTime>,
    ) -> Result<HashMap<SessionId, Result<Rotation, StoreError>>, StoreError> {
        let ids: Vec<Uuid> = presented.keys().map(|id| id.as_uuid()).collect();
        let generations: Vec<i64> = presented.values().map(|one| stored(one.number())).collect();
        // One statement, so that of instances that come at once one rotates and the others see it.
        let update = self.gateway.query(
            "with live as (
                 select sessions.id, presented
                 from sessions
                 join unnest($1::uuid[], $2::bigint[]) as shown (id, presented) using (id)
                 where expires_at > $3 and ($4 is null or last_used_at >= $4)
                 order by sessions.id for no key update of sessions)
             update sessions
             set generation   = case when generation = presented then presented + 1 else generation end,
                 rotated_at   = case when generation = presented then clock_timestamp() else rotated_at end,
                 last_used_at = case when generation = presented then $3 else last_used_at end
             from live, users
             where sessions.id = live.id and users.id = user_id
             returning sessions.id as session_id, expires_at, generation,
                       (extract(epoch from clock_timestamp() - rotated_at) * 1000000)::bigint as age,
                       users.id, username, roles, users.created_at, disabled_at, version",
        );
        let update = update.bind(ids).bind(generations).bind(now).bind(used_since);
        let rows = update.fetch_all(&self.gateway).await?;
        let id = |row: &PgRow| row.try_get::<Uuid, _>("session_id");
        rows.iter().map(|row| Ok((id(row)?.into(), rotation(row)))).collect()
    }

    async fn sessions_of(
        &self,
        user: UserId,
        now: OffsetDateTime,
    ) -> Result<Vec<Session>, StoreError> {
        let select = self.gateway.query(
            "select id, user_id, created_at, last_used_at, expires_at, address, user_agent
             from sessions where user_id = $1 and expires_at > $2
             order by last_used_at desc, id limit $3",
        );
        let select = select.bind(user.as_uuid()).bind(now).bind(i64::from(SESSIONS_LISTED));
        let rows = select.fetch_all(&self.gateway).await?;
        rows.iter().map(session).collect()
    }

    async fn sweep_sessions(&self, now: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let delete = self.gateway.query(
            "delete from sessions where id in (
                 select id from sessions where expires_at < least($1, clock_timestamp())
                 order by expires_at limit $2 for update skip locked)",
        );
        let swept = delete.bind(now).bind(i64::from(limit)).execute(&self.gateway).await?;
        Ok(swept.rows_affected())
    }

    async fn revoke(
        &self,
        revocations: &[Revocation],
        records: &[AuditRecord],
    ) -> Result<OffsetDateTime, StoreError> {
        let ids: Vec<Uuid> = revocations.iter().map(|revocation| revocation.id.as_uuid()).collect();
        let expiries: Vec<OffsetDateTime> =
            revocations.iter().map(|revocation| revocation.expires_at).collect();
        // One statement: without a pooler, once it is sent, it is carried out, whoever still waits. Sessions
        // before revocations, which the count sees to, and both in the order of ids: whoever takes several
        // locks in the same order as all others meets no deadlock.
        let insert = self.gateway.query(AssertSqlSafe(format!(
            "with ended as (
                 delete from sessions where id in (
                     select id from sessions where id = any ($9) order by id for update)
                 returning id),
             added as (
                 insert into revocations (id, expires_at)
                 select * from unnest($9::uuid[], $10::timestamptz[])
                 where (select count(*) from ended) >= 0 order by 1
                 on conflict (id) do nothing),
             recorded as ({})
             select clock_timestamp()",
            audit::INSERT
        )));
        let insert = audit::bind(insert, records).bind(ids).bind(expiries);
        Ok(insert.fetch_one(&self.gateway).await?.try_get(0)?)
    }

    async fn revoked_among(
        &self,
        ids: &[RevocationId],
    ) -> Result<HashSet<RevocationId>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        let select = self.gateway.query(
            "select pg_is_in_recovery() as is_replica,
                    array(select id from revocations where id = any ($1)) as revoked",
        );
        let row = select.bind(ids).fetch_one(&self.gateway).await?;
        if row.try_get("is_replica")? {
            return Err(StoreError::Replica);
        }
        let revoked: Vec<Uuid> = row.try_get("revoked")?;
        Ok(revoked.into_iter().map(RevocationId::from).collect())
    }

    fn feed(&self) -> Box<dyn Feed> {
        Box::new(PostgresFeed::new(self.options.clone()))
    }

    fn listener(&self) -> Option<Box<dyn Listener>> {
        let options = self.listen_options.clone()?;
        Some(Box::new(PostgresListener::new(options)))
    }

    async fn sweep_revocations(&self, now: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        // Instances that sweep at the same time pass over each other's rows instead of waiting.
        let delete = self.gateway.query(
            "delete from revocations where id in (
                 select id from revocations
                 where expires_at < least($1, clock_timestamp()) - make_interval(secs => $2)
                 order by expires_at limit $3 for update skip locked)",
        );
        let swept = delete
            .bind(now)
            .bind(RETENTION.as_secs_f64())
            .bind(i64::from(limit))
            .execute(&self.gateway)
            .await?;
        Ok(swept.rows_affected())
    }

    async fn audit(&self, page: &AuditPage) -> Result<Vec<AuditEntry>, StoreError> {
        audit::read(&self.gateway, page).await
    }

    async fn sweep_audit(
        &self,
        now: OffsetDateTime,
        retention: Duration,
        limit: u32,
    ) -> Result<u64, StoreError> {
        audit::sweep(&self.gateway, now, retention, limit).await
    }

    fn pool_status(&self) -> PoolStatus {
        PoolStatus::of(&self.gateway.pool)
    }

    async fn close(&self) {
        self.gateway.pool.close().await;
    }
}

fn user(row: &PgRow) -> Result<User, StoreError> {
    let roles: Vec<String> = row.try_get("roles")?;
    super::user(
        row.try_get("id")?,
        row.try_get("username")?,
        roles.iter().map(String::as_str),
        row.try_get("created_at")?,
        row.try_get("disabled_at")?,
        row.try_get("version")?,
    )
}

fn credentials(row: &PgRow) -> Result<Credentials, StoreError> {
    let password_hash = super::password_hash(row.try_get("password_hash")?)?;
    Ok(Credentials { user: user(row)?, password_hash })
}

fn session(row: &PgRow) -> Result<Session, StoreError> {
    Ok(Session {
        id: row.try_get::<Uuid, _>("id")?.into(),
        user_id: row.try_get::<Uuid, _>("user_id")?.into(),
        created_at: row.try_get("created_at")?,
        last_used_at: row.try_get("last_used_at")?,
        expires_at: row.try_get("expires_at")?,
        client: client("sessions", row.try_get("address")?, row.try_get("user_agent")?)?,
    })
}

fn rotation(row: &PgRow) -> Result<Rotation, StoreError> {
    Ok(Rotation {
        user: user(row)?,
        expires_at: row.try_get("expires_at")?,
        generation: generation(row.try_get("generation")?)?,
        age: age(row.try_get("age")?),
    })
}

fn breaks(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().and_then(DatabaseError::constraint) == Some(constraint)
}

/// Tells whether a refusal is about the state of the server rather than about the statement:
/// connections, rollbacks, resources, intervention, a server turned read-only (SQLSTATE classes 08,
/// 40, 53, 57 and code 25006).
pub(super) fn is_passing(refusal: &dyn DatabaseError) -> bool {
    let Some(refusal) = refusal.try_downcast_ref::<PgDatabaseError>() else {
        return false;
    };
    let code = refusal.code();
    code == "25006" || ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class))
}
