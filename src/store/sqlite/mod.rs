//! The embedded database: one file, one process that serves.

mod feed;

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteError, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, QueryBuilder, Row, Sqlite, query, query_scalar,
};
use time::OffsetDateTime;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{
    Credentials, Feed, InsertUserError, Listener, OpenError, PoolStatus, Store, StoreError,
    from_micros,
};
use crate::config::DatabaseSettings;
use crate::domain::{PasswordHash, RETENTION, Revocation, RevocationId, UserId, Username};
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

    async fn insert_user(&self, new: &Credentials) -> Result<(), InsertUserError> {
        let Credentials { user, password_hash } = new;
        let inserted = query(
            "insert into users (id, username, username_key, password_hash, roles, created_at)
             values (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .bind(user.id.as_uuid())
        .bind(user.username.as_str())
        .bind(user.username.key())
        .bind(password_hash.to_string())
        .bind(user.roles.names().collect::<Vec<_>>().join(" "))
        .bind(micros(user.created_at))
        .execute(&self.pool)
        .await;
        match inserted {
            Ok(_) => Ok(()),
            Err(error) if breaks_uniqueness_of(&error, "users.username_key") => {
                Err(InsertUserError::UsernameTaken)
            }
            Err(error) => Err(InsertUserError::Store(error.into())),
        }
    }

    async fn find_credentials(
        &self,
        username: &Username,
    ) -> Result<Option<Credentials>, StoreError> {
        let row = query(
            "select id, username, password_hash, roles, created_at
             from users where username_key = ?1",
        )
        .bind(username.key())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(credentials).transpose()
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

    async fn revoke(&self, revocations: &[Revocation]) -> Result<OffsetDateTime, StoreError> {
        let mut transaction = self.pool.begin_with("begin immediate").await?;
        let select_now = AssertSqlSafe(format!("select {NOW}"));
        let now: i64 = query_scalar(select_now).fetch_one(&mut *transaction).await?;
        for chunk in revocations.chunks(ROWS_PER_INSERT) {
            QueryBuilder::<Sqlite>::new("insert into revocations (id, expires_at, revoked_at) ")
                .push_values(chunk, |mut row, revocation| {
                    row.push_bind(revocation.id.as_uuid())
                        .push_bind(micros(revocation.expires_at))
                        .push_bind(now);
                })
                .push(" on conflict (id) do nothing")
                .build()
                .execute(&mut *transaction)
                .await?;
        }
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

    fn pool_status(&self) -> PoolStatus {
        PoolStatus::of(&self.pool)
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

fn credentials(row: &SqliteRow) -> Result<Credentials, StoreError> {
    let roles: &str = row.try_get("roles")?;
    super::credentials(
        row.try_get("id")?,
        row.try_get("username")?,
        roles.split_whitespace(),
        from_micros("users", "created_at", row.try_get("created_at")?)?,
        row.try_get("password_hash")?,
    )
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
