//! The embedded database: one file, one process that serves.

mod audit;
mod change;
mod feed;

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::slice;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteError, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteRow, SqliteSynchronous, SqliteTransaction,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, QueryBuilder, Row, Sqlite, query, query_scalar,
};
use time::OffsetDateTime;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{
    AuditEntry, AuditPage, ChangeUserError, Changed, Credentials, Decision, Feed, InsertUserError,
    Listener, OpenError, PoolStatus, Rotation, SESSIONS_LISTED, Store, StoreError, UserChange,
    UserPage, age, client, from_micros, generation, stored,
};
use crate::config::DatabaseSettings;
use crate::domain::{
    AuditRecord, Generation, PasswordHash, RETENTION, Revocation, RevocationId, Session, SessionId,
    User, UserId, UserVersion, Username,
};
use feed::SqliteFeed;

const MIGRATIONS: &[(i64, &str, &str)] = &[
    (
        1,
        "users and revocations",
        include_str!("../../../migrations/sqlite/0001_users_and_revocations.sql"),
    ),
    (
        2,
        "feed of revocations",
        include_str!("../../../migrations/sqlite/0002_feed_of_revocations.sql"),
    ),
    (3, "sessions", include_str!("../../../migrations/sqlite/0003_sessions.sql")),
    (
        4,
        "version of accounts",
        include_str!("../../../migrations/sqlite/0004_version_of_accounts.sql"),
    ),
    (5, "administration", include_str!("../../../migrations/sqlite/0005_administration.sql")),
];

/// The time now, in the unit that times are kept in.
const NOW: &str = "cast(unixepoch('subsec') * 1000000 as integer)";

/// Rows of one INSERT: SQLite takes at most 32,766 parameters in a statement.
const ROWS_PER_INSERT: usize = 10_000;

/// The primary result code of a lock that somebody else holds.
const BUSY: u32 = 5;

/// Time between two tries to get past it.
const BUSY_RETRY: Duration = Duration::from_millis(5);

/// A database file of our own.
pub(super) struct SqliteStore {
    pool: SqlitePool,
    options: SqliteConnectOptions,
}

impl SqliteStore {
    pub(super) async fn open(path: &Path, settings: &DatabaseSettings) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Connect { database: path.display().to_string(), source };
        create(path).map_err(|error| failed(error.into()))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(settings.acquire_timeout)
            .journal_mode(SqliteJournalMode::Wal)
            // An acknowledged logout survives a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        let mut connection = timeout(settings.acquire_timeout, connect(&options))
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .map_err(failed)?;
        migrate(&mut connection).await?;
        connection.close().await.map_err(failed)?;
        let pool = SqlitePoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(settings.acquire_timeout)
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options })
    }

    /// Begins a transaction that writes: it holds the lock from its beginning.
    async fn begin(&self) -> Result<SqliteTransaction<'static>, StoreError> {
        Ok(self.pool.begin_with("begin immediate").await?)
    }
}

/// Makes the file where there is none, for its owner alone: it holds password hashes. SQLite gives
/// the files beside it the same mode.
fn create(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // One that is there is not even opened: to close it again would release SQLite's locks on it.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Opens the first connection, which switches the file to WAL. That is the one thing for which
/// SQLite does not wait: of several processes that start at once, all but one are told `BUSY`.
async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    loop {
        match options.connect().await {
            Err(sqlx::Error::Database(refusal)) if primary_code(refusal.as_ref()) == Some(BUSY) => {
                sleep(BUSY_RETRY).await;
            }
            outcome => return outcome,
        }
    }
}

/// Migrates inside a transaction that holds the write lock from its beginning: of several processes
/// that start at once, one migrates and the others then find nothing to do.
async fn migrate(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    let mut transaction = connection.begin_with("begin immediate").await?;
    super::migrator(MIGRATIONS).run_direct(None, &mut *transaction, false).await?;
    transaction.commit().await?;
    Ok(())
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> Result<(), StoreError> {
        query("select 1").execute(&self.pool).await?;
        Ok(())
    }

    async fn insert_user(
        &self,
        new: &Credentials,
        record: &AuditRecord,
    ) -> Result<(), InsertUserError> {
        let Credentials { user, password_hash } = new;
        let mut transaction = self.begin().await?;
        if !change::may_go_on(&mut transaction, &record.by).await? {
            return Err(InsertUserError::InitiatorOut);
        }
        let inserted = query(
            "insert into users (id, username, username_key, password_hash, roles, created_at)
             values (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(user.id.as_uuid())
        .bind(user.username.as_str())
        .bind(user.username.key())
        .bind(password_hash.to_string())
        .bind(role_names(user))
        .bind(micros(user.created_at))
        .execute(&mut *transaction)
        .await;
        match inserted {
            Err(error) if breaks_uniqueness_of(&error, "users.username_key") => {
                Err(InsertUserError::UsernameTaken)
            }
            Err(error) => Err(InsertUserError::Store(error.into())),
            Ok(_) => Ok(record_and_commit(transaction, record).await?),
        }
    }

    async fn find_credentials(
        &self,
        username: &Username,
    ) -> Result<Option<Credentials>, StoreError> {
        let row = query(
            "select id, username, password_hash, roles, created_at, disabled_at, version
             from users where username_key = ?1",
        )
        .bind(username.key())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(credentials).transpose()
    }

    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        find_user(&mut *self.pool.acquire().await?, id).await
    }

    async fn replace_password_hash(
        &self,
        id: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let replaced =
            query("update users set password_hash = ?3 where id = ?1 and password_hash = ?2")
                .bind(id.as_uuid())
                .bind(old.to_string())
                .bind(new.to_string())
                .execute(&self.pool)
                .await?;
        Ok(replaced.rows_affected() == 1)
    }

    async fn list_users(&self, page: &UserPage) -> Result<Vec<User>, StoreError> {
        let rows = query(
            "select id, username, roles, created_at, disabled_at, version from users
             where username_key >= ?1 and username_key < ?2 and username_key > ?3
             order by username_key limit ?4",
        )
        .bind(page.first())
        .bind(page.end())
        .bind(page.after())
        .bind(page.limit)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(user).collect()
    }

    async fn change_user(&self, wanted: &UserChange) -> Result<Changed, ChangeUserError> {
        let mut transaction = self.begin().await?;
        if !change::may_go_on(&mut transaction, &wanted.by).await? {
            return Err(ChangeUserError::InitiatorOut);
        }
        let affected = change::affected_users(&mut transaction, wanted).await?;
        let user = match wanted.decide(affected)? {
            Decision::Change(user) => user,
            Decision::Nothing(user) => return Ok(Changed::nothing(user, wanted.at)),
        };
        let ended = change::carry_out(&mut transaction, wanted, &user).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(Changed { user, ended })
    }

    async fn insert_session(
        &self,
        new: &Session,
        version: UserVersion,
        record: &AuditRecord,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let inserted = query(AssertSqlSafe(format!(
            "insert into sessions (id, user_id, generation, rotated_at, created_at, last_used_at,
                                   expires_at, address, user_agent)
             select ?1, id, 0, {NOW}, ?3, ?4, ?5, ?6, ?7 from users where id = ?2 and version = ?8"
        )))
        .bind(new.id.as_uuid())
        .bind(new.user_id.as_uuid())
        .bind(micros(new.created_at))
        .bind(micros(new.last_used_at))
        .bind(micros(new.expires_at))
        .bind(new.client.address.to_string())
        .bind(new.client.user_agent.as_str())
        .bind(stored(version.number()))
        .execute(&mut *transaction)
        .await?;
        if inserted.rows_affected() == 0 {
            return Ok(false);
        }
        record_and_commit(transaction, record).await?;
        Ok(true)
    }

    async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let select = query(
            "select id, user_id, created_at, last_used_at, expires_at, address, user_agent
             from sessions where id = ?1",
        );
        let row = select.bind(id.as_uuid()).fetch_optional(&self.pool).await?;
        row.as_ref().map(session).transpose()
    }

    async fn rotate_sessions(
        &self,
        presented: &HashMap<SessionId, Generation>,
        now: OffsetDateTime,
        used_since: Option<OffsetDateTime>,
    ) -> Result<HashMap<SessionId, Result<Rotation, StoreError>>, StoreError> {
        let mut transaction = self.begin().await?;
        let mut rotations = HashMap::new();
        for (&id, &presented) in presented {
            match rotate(&mut transaction, id, presented, now, used_since).await {
                Ok(rotation) => rotations.extend(rotation.map(|one| (id, Ok(one)))),
                Err(error @ StoreError::Inconsistent { .. }) => {
                    rotations.insert(id, Err(error));
                }
                Err(error) => return Err(error),
            }
        }
        transaction.commit().await?;
        Ok(rotations)
    }

    async fn sessions_of(
        &self,
        user: UserId,
        now: OffsetDateTime,
    ) -> Result<Vec<Session>, StoreError> {
        let select = query(
            "select id, user_id, created_at, last_used_at, expires_at, address, user_agent
             from sessions where user_id = ?1 and expires_at > ?2
             order by last_used_at desc, id limit ?3",
        );
        let select = select.bind(user.as_uuid()).bind(micros(now)).bind(SESSIONS_LISTED);
        let rows = select.fetch_all(&self.pool).await?;
        rows.iter().map(session).collect()
    }

    async fn sweep_sessions(&self, now: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let swept = query(AssertSqlSafe(format!(
            "delete from sessions where id in (
                 select id from sessions where expires_at < min(?1, {NOW})
                 order by expires_at limit ?2)"
        )))
        .bind(micros(now))
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(swept.rows_affected())
    }

    async fn revoke(
        &self,
        revocations: &[Revocation],
        records: &[AuditRecord],
    ) -> Result<OffsetDateTime, StoreError> {
        let mut transaction = self.begin().await?;
        let now = now(&mut transaction).await?;
        for chunk in revocations.chunks(ROWS_PER_INSERT) {
            let mut delete = QueryBuilder::<Sqlite>::new("delete from sessions where id in (");
            let mut list = delete.separated(", ");
            for revocation in chunk {
                list.push_bind(revocation.id.as_uuid());
            }
            delete.push(")").build().execute(&mut *transaction).await?;
        }
        insert_revocations(&mut transaction, revocations, now).await?;
        audit::insert(&mut transaction, records).await?;
        transaction.commit().await?;
        from_micros("revocations", "revoked_at", now)
    }

    async fn revoked_among(
        &self,
        ids: &[RevocationId],
    ) -> Result<HashSet<RevocationId>, StoreError> {
        let mut select = QueryBuilder::<Sqlite>::new("select id from revocations where id in (");
        let mut list = select.separated(", ");
        for id in ids {
            list.push_bind(id.as_uuid());
        }
        let revoked: Vec<Uuid> =
            select.push(")").build_query_scalar().fetch_all(&self.pool).await?;
        Ok(revoked.into_iter().map(RevocationId::from).collect())
    }

    fn feed(&self) -> Box<dyn Feed> {
        Box::new(SqliteFeed::new(self.options.clone()))
    }

    fn listener(&self) -> Option<Box<dyn Listener>> {
        None
    }

    async fn sweep_revocations(&self, now: OffsetDateTime, limit: u32) -> Result<u64, StoreError> {
        let swept = query(AssertSqlSafe(format!(
            "delete from revocations where position in (
                 select position from revocations where expires_at < min(?1, {NOW}) - ?2
                 order by expires_at limit ?3)"
        )))
        .bind(micros(now))
        .bind(i64::try_from(RETENTION.as_micros()).unwrap_or(i64::MAX))
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(swept.rows_affected())
    }

    async fn audit(&self, page: &AuditPage) -> Result<Vec<AuditEntry>, StoreError> {
        audit::read(&self.pool, page).await
    }

    async fn sweep_audit(
        &self,
        now: OffsetDateTime,
        retention: Duration,
        limit: u32,
    ) -> Result<u64, StoreError> {
        audit::sweep(&self.pool, now, retention, limit).await
    }

    fn pool_status(&self) -> PoolStatus {
        PoolStatus::of(&self.pool)
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

/// Returns the time in the unit that times are kept in.
async fn now(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    query_scalar(AssertSqlSafe(format!("select {NOW}"))).fetch_one(connection).await
}

/// Commits what a transaction has done, together with the record of it.
async fn record_and_commit(
    mut transaction: SqliteTransaction<'_>,
    record: &AuditRecord,
) -> Result<(), StoreError> {
    audit::insert(&mut transaction, slice::from_ref(record)).await?;
    transaction.commit().await?;
    Ok(())
}

fn role_names(user: &User) -> String {
    user.roles.names().collect::<Vec<_>>().join(" ")
}

async fn find_user(
    connection: &mut SqliteConnection,
    id: UserId,
) -> Result<Option<User>, StoreError> {
    let select = query(
        "select id, username, roles, created_at, disabled_at, version from users where id = ?1",
    );
    let row = select.bind(id.as_uuid()).fetch_optional(connection).await?;
    row.as_ref().map(user).transpose()
}

async fn rotate(
    connection: &mut SqliteConnection,
    id: SessionId,
    presented: Generation,
    now: OffsetDateTime,
    used_since: Option<OffsetDateTime>,
) -> Result<Option<Rotation>, StoreError> {
    let row = query(AssertSqlSafe(format!(
        "update sessions
         set generation   = case when generation = ?2 then ?2 + 1 else generation end,
             rotated_at   = case when generation = ?2 then {NOW} else rotated_at end,
             last_used_at = case when generation = ?2 then ?3 else last_used_at end
         where id = ?1 and expires_at > ?3 and (?4 is null or last_used_at >= ?4)
         returning user_id, expires_at, generation, {NOW} - rotated_at as age"
    )))
    .bind(id.as_uuid())
    .bind(stored(presented.number()))
    .bind(micros(now))
    .bind(used_since.map(micros))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let owner = find_user(connection, row.try_get::<Uuid, _>("user_id")?.into()).await?;
    owner.map(|user| rotation(&row, user)).transpose()
}

async fn insert_revocations(
    connection: &mut SqliteConnection,
    revocations: &[Revocation],
    now: i64,
) -> Result<(), sqlx::Error> {
    for chunk in revocations.chunks(ROWS_PER_INSERT) {
        QueryBuilder::<Sqlite>::new("insert into revocations (id, expires_at, revoked_at) ")
            .push_values(chunk, |mut row, revocation| {
                row.push_bind(revocation.id.as_uuid())
                    .push_bind(micros(revocation.expires_at))
                    .push_bind(now);
            })
            .push(" on conflict (id) do nothing")
            .build()
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

fn user(row: &SqliteRow) -> Result<User, StoreError> {
    let roles: &str = row.try_get("roles")?;
    super::user(
        row.try_get("id")?,
        row.try_get("username")?,
        roles.split_whitespace(),
        from_micros("users", "created_at", row.try_get("created_at")?)?,
        row.try_get::<Option<i64>, _>("disabled_at")?
            .map(|micros| from_micros("users", "disabled_at", micros))
            .transpose()?,
        row.try_get("version")?,
    )
}

fn credentials(row: &SqliteRow) -> Result<Credentials, StoreError> {
    let password_hash = super::password_hash(row.try_get("password_hash")?)?;
    Ok(Credentials { user: user(row)?, password_hash })
}

fn session(row: &SqliteRow) -> Result<Session, StoreError> {
    let time = |column| from_micros("sessions", column, row.try_get(column)?);
    Ok(Session {
        id: row.try_get::<Uuid, _>("id")?.into(),
        user_id: row.try_get::<Uuid, _>("user_id")?.into(),
        created_at: time("created_at")?,
        last_used_at: time("last_used_at")?,
        expires_at: time("expires_at")?,
        client: client("sessions", row.try_get("address")?, row.try_get("user_agent")?)?,
    })
}

fn rotation(row: &SqliteRow, user: User) -> Result<Rotation, StoreError> {
    Ok(Rotation {
        user,
        expires_at: from_micros("sessions", "expires_at", row.try_get("expires_at")?)?,
        generation: generation(row.try_get("generation")?)?,
        age: age(row.try_get("age")?),
    })
}

fn micros(time: OffsetDateTime) -> i64 {
    let micros = time.unix_timestamp_nanos() / 1_000;
    i64::try_from(micros).unwrap_or(i64::MAX)
}

/// SQLite names no constraint in its refusal; it names the columns.
fn breaks_uniqueness_of(error: &sqlx::Error, column: &str) -> bool {
    error
        .as_database_error()
        .is_some_and(|refusal| refusal.is_unique_violation() && refusal.message().ends_with(column))
}

/// Tells whether a refusal is about the state of the file rather than about the statement: the
/// primary result codes BUSY, LOCKED, READONLY, IOERR, FULL and CANTOPEN.
pub(super) fn is_passing(refusal: &dyn DatabaseError) -> bool {
    matches!(primary_code(refusal), Some(BUSY | 6 | 8 | 10 | 13 | 14))
}

/// Returns the primary result code of a refusal by SQLite.
fn primary_code(refusal: &dyn DatabaseError) -> Option<u32> {
    let code = refusal.try_downcast_ref::<SqliteError>()?.code()?;
    Some(code.parse::<u32>().ok()? & 0xff)
}
