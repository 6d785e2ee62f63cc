//! Opening, migrating and closing an SQLite database.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use sqlx::migrate::{AppliedMigration, Migrate};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous, SqliteTransaction,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use time::OffsetDateTime;
use tokio::time::sleep;

use crate::config::DatabaseSettings;
use crate::domain::ServerId;
use crate::store::columns::from_micros;
use crate::store::database::{PoolStatus, Store};
use crate::store::error::{OpenFailure, StoreError, is_busy, within};
use crate::store::schema::{Migrations, SchemaPolicy};

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
    (
        6,
        "expiry and retries",
        include_str!("../../../migrations/sqlite/0006_expiry_and_retries.sql"),
    ),
    (7, "folded usernames", include_str!("../../../migrations/sqlite/0007_folded_usernames.sql")),
    (
        8,
        "limits and latest use",
        include_str!("../../../migrations/sqlite/0008_limits_and_latest_use.sql"),
    ),
    (9, "signing keys", include_str!("../../../migrations/sqlite/0009_signing_keys.sql")),
    (
        10,
        "roles and clients",
        include_str!("../../../migrations/sqlite/0010_roles_and_clients.sql"),
    ),
    (11, "algorithm", include_str!("../../../migrations/sqlite/0011_algorithm.sql")),
    (13, "reset codes", include_str!("../../../migrations/sqlite/0013_reset_codes.sql")),
    (14, "failure counters", include_str!("../../../migrations/sqlite/0014_failure_counters.sql")),
    (15, "moving", include_str!("../../../migrations/sqlite/0015_moving.sql")),
];

/// SQL expression for the current time in microseconds since the Unix epoch.
pub(super) const NOW: &str = "cast(unixepoch('subsec') * 1000000 as integer)";

/// Delay between attempts to switch to WAL mode.
const BUSY_RETRY: Duration = Duration::from_millis(5);

/// SQLite database, which this process owns; only the command line may open it too.
pub(crate) struct SqliteStore {
    pub(super) pool: SqlitePool,
    /// Options for the separate connection of each feed.
    pub(super) options: SqliteConnectOptions,
    /// Identity of the file for cursors, which all feeds share.
    pub(super) server: Arc<ArcSwap<ServerId>>,
}

impl SqliteStore {
    pub(crate) async fn open(
        path: &Path,
        settings: &DatabaseSettings,
        policy: SchemaPolicy,
        report: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, OpenFailure> {
        match policy {
            SchemaPolicy::Require | SchemaPolicy::Inspect => {
                if !path.try_exists().map_err(sqlx::Error::from)? {
                    return Err(OpenFailure::Missing);
                }
            }
            SchemaPolicy::Migrate | SchemaPolicy::Create => {
                create_file(path).map_err(sqlx::Error::from)?;
            }
        }
        let options =
            SqliteConnectOptions::new().filename(path).busy_timeout(settings.acquire_timeout);
        let options = match policy {
            // An immutable file is read without locks and without files beside it.
            SchemaPolicy::Inspect => options.read_only(true).immutable(!is_in_use(path)),
            _ => options
                .journal_mode(SqliteJournalMode::Wal)
                // An acknowledged logout survives a power failure.
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true),
        };
        let mut connection = within(settings.acquire_timeout, connect(&options)).await?;
        if policy != SchemaPolicy::Inspect {
            let migrations = Migrations::new(MIGRATIONS);
            let state = migrations.state(&applied_migrations(&mut connection).await?)?;
            if migrations.must_run(state, policy)? {
                migrate(&mut connection, &migrations, report).await?;
            }
        }
        connection.close().await?;
        let pool = SqlitePoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(settings.acquire_timeout)
            .after_release(|connection, _| Box::pin(is_clean(connection)))
            .connect_lazy_with(options.clone());
        let server = Arc::new(ArcSwap::from_pointee(ServerId::random()));
        Ok(Self { pool, options, server })
    }

    /// Begins a transaction that holds the write lock from its start.
    pub(super) async fn begin_write(&self) -> Result<SqliteTransaction<'static>, StoreError> {
        Ok(self.pool.begin_with("begin immediate").await?)
    }
}

/// Returns `true` if a process has the file open, or has left a log of changes that belong to it.
fn is_in_use(path: &Path) -> bool {
    ["-wal", "-journal"].iter().any(|suffix| {
        let mut log = path.as_os_str().to_owned();
        log.push(suffix);
        Path::new(&log).exists()
    })
}

/// Creates the file if it does not exist, accessible only to its owner: it contains password
/// hashes. SQLite gives the files beside it the same mode. A missing folder is made as private.
fn create_file(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    // An existing file is not opened: closing it again would release the locks of SQLite on it.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Opens the first connection, which switches the file to WAL mode. SQLite does not apply the busy
/// timeout to the switch: of several processes that start at once, all but one receive `BUSY`.
async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    loop {
        match options.connect().await {
            Err(sqlx::Error::Database(error)) if is_busy(error.as_ref()) => {
                sleep(BUSY_RETRY).await;
            }
            result => return result,
        }
    }
}

/// Refuses a database whose schema is missing or not the current one.
pub(super) async fn require_current_schema(
    connection: &mut SqliteConnection,
) -> Result<(), OpenFailure> {
    let migrations = Migrations::new(MIGRATIONS);
    migrations.require(migrations.state(&applied_migrations(connection).await?)?)
}

/// Returns the migrations that the database has.
async fn applied_migrations(
    connection: &mut SqliteConnection,
) -> Result<Vec<AppliedMigration>, OpenFailure> {
    let select = sqlx::query("select 1 from sqlite_schema where name = '_sqlx_migrations'");
    if select.fetch_optional(&mut *connection).await?.is_none() {
        return Ok(Vec::new());
    }
    Ok(connection.list_applied_migrations("_sqlx_migrations").await?)
}

/// Migrates in one transaction that holds the write lock from its start. Of several processes that
/// start at once, one migrates and the others then find nothing to do.
async fn migrate(
    connection: &mut SqliteConnection,
    migrations: &Migrations,
    report: &(dyn Fn(&str) + Sync),
) -> Result<(), OpenFailure> {
    let mut transaction = connection.begin_with("begin immediate").await?;
    let state = migrations.state(&applied_migrations(&mut transaction).await?)?;
    migrations.report(state, report);
    migrations.run(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}

/// Returns `true` if a connection can be used again: no transaction is open.
///
/// SQLite itself rolls a transaction back when the disk is full. The `rollback` of `sqlx` then
/// fails, and `sqlx` takes the transaction for open.
async fn is_clean(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // The reply comes after the `rollback` of a dropped transaction.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

/// Returns the time by the clock of the database.
pub(super) async fn now(connection: &mut SqliteConnection) -> Result<OffsetDateTime, StoreError> {
    let select = sqlx::query_scalar(AssertSqlSafe(format!("select {NOW}")));
    from_micros("revocations", "revoked_at", select.fetch_one(connection).await?)
}

/// Returns a duration in microseconds, the unit of all times in this schema.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> Result<(), StoreError> {
        // The version of the file, which is not used otherwise. To write it takes a durable commit.
        sqlx::query("pragma user_version = 0").execute(&self.pool).await?;
        Ok(())
    }

    fn concurrent_batches(&self) -> usize {
        // A transaction locks the whole database.
        1
    }

    fn pool_status(&self) -> PoolStatus {
        PoolStatus::new(&self.pool)
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}
