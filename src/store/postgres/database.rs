//! Opening, migrating and closing a PostgreSQL database.

use std::future::pending;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::AppliedMigration;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Executor, Row, raw_sql};
use tokio::select;
use tokio::time::{sleep, timeout};

use super::executor::PoolExecutor;
use super::pool;
use crate::config::{DatabaseSettings, PostgresSettings, Secret};
use crate::store::database::{PoolStatus, Store};
use crate::store::error::{OpenFailure, StoreError, within};
use crate::store::feed::with_timeout;
use crate::store::schema::{Migrations, SchemaPolicy, SchemaState};

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
    (
        6,
        "expiry and retries",
        include_str!("../../../migrations/postgres/0006_expiry_and_retries.sql"),
    ),
    (7, "folded usernames", include_str!("../../../migrations/postgres/0007_folded_usernames.sql")),
    (
        8,
        "limits and latest use",
        include_str!("../../../migrations/postgres/0008_limits_and_latest_use.sql"),
    ),
    (9, "signing keys", include_str!("../../../migrations/postgres/0009_signing_keys.sql")),
    (
        10,
        "roles and clients",
        include_str!("../../../migrations/postgres/0010_roles_and_clients.sql"),
    ),
    (11, "algorithm", include_str!("../../../migrations/postgres/0011_algorithm.sql")),
    (12, "server runs", include_str!("../../../migrations/postgres/0012_server_runs.sql")),
    (13, "reset codes", include_str!("../../../migrations/postgres/0013_reset_codes.sql")),
    (
        14,
        "failure counters",
        include_str!("../../../migrations/postgres/0014_failure_counters.sql"),
    ),
    (15, "moving", include_str!("../../../migrations/postgres/0015_moving.sql")),
    (
        16,
        "notification after commit",
        include_str!("../../../migrations/postgres/0016_notification_after_commit.sql"),
    ),
];

/// The only encoding that holds every username and user agent.
const ENCODING: &str = "UTF8";

/// Longest wait for the migration lock.
const LOCK_TIMEOUT: Duration = Duration::from_mins(1);

/// Interval of the attempts to take the migration lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// Longest duration of a migration.
const MIGRATION_TIMEOUT: Duration = Duration::from_mins(10);

/// Time after which a check of the database looks for the cause of its delay.
const PATIENCE: Duration = Duration::from_millis(250);

/// Largest number of batches of one queue in commit. A commit of 5 ms has as many, since a further
/// one starts after a millisecond or two.
const MAX_CONCURRENT_BATCHES: u32 = 4;

/// PostgreSQL database, which several instances may share.
pub(crate) struct PostgresStore {
    pub(super) executor: PoolExecutor,
    /// Options for the separate connection of each feed.
    pub(super) options: PgConnectOptions,
    /// Options for the connections of listeners; `None` disables them.
    pub(super) listen_options: Option<PgConnectOptions>,
}

impl PostgresStore {
    pub(crate) async fn open(
        postgres: &PostgresSettings,
        settings: &DatabaseSettings,
        policy: SchemaPolicy,
        report: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, OpenFailure> {
        let options = connect_options(&postgres.url)?;
        let listen_options = postgres.listen_url.as_ref().map(connect_options).transpose()?;
        let wait = settings.acquire_timeout;
        // The first connection is opened outside the pool, which would retry and then report
        // nothing but a timeout.
        let mut connection = within(wait, options.connect()).await?;
        if policy != SchemaPolicy::Inspect {
            within(wait, check_encoding(&mut connection)).await?;
            let migrations = Migrations::new(MIGRATIONS);
            let applied = within(wait, applied_migrations(&mut connection)).await?;
            let state = migrations.state(&applied)?;
            if migrations.must_run(state, policy)? {
                let migration = migrate(&mut connection, &migrations, report);
                within(MIGRATION_TIMEOUT, migration).await?;
            }
        }
        within(wait, connection.close()).await?;
        let pool = pool::new(options.clone(), settings, postgres.pool_mode);
        let executor = PoolExecutor { pool, mode: postgres.pool_mode };
        Ok(Self { executor, options, listen_options })
    }

    /// Checks that the server accepts writes.
    async fn check_writable(&self) -> Result<(), StoreError> {
        let mut lease = self.executor.lease().await?;
        let select = raw_sql(
            "select pg_is_in_recovery() as is_replica,
                    current_setting('transaction_read_only')::boolean as is_read_only",
        );
        let row = select.fetch_one(lease.connection()?).await?;
        if row.try_get("is_replica")? {
            return Err(StoreError::Replica);
        }
        if row.try_get("is_read_only")? {
            return Err(StoreError::ReadOnly);
        }
        lease.give_back();
        Ok(())
    }

    /// Finds the cause of a delay with a connection outside the pool. If this one responds, the
    /// connections of the pool are all in use, and the pool has to be waited for.
    async fn find_cause_of_delay(&self) -> StoreError {
        sleep(PATIENCE).await;
        let wait = self.executor.pool.options().get_acquire_timeout() / pool::CHECKS_PER_WAIT;
        match with_timeout(wait, self.options.connect()).await {
            Ok(connection) => {
                // The server notices a connection that is closed without a farewell, too.
                let _ = timeout(wait, connection.close()).await;
                pending().await
            }
            Err(error) => error,
        }
    }
}

pub(super) fn connect_options(url: &Secret) -> Result<PgConnectOptions, sqlx::Error> {
    let options = PgConnectOptions::from_str(url.expose())?;
    // The URL has an IPv6 address in brackets, which is how `sqlx` would look it up.
    let host = options.get_host().trim_matches(['[', ']']).to_owned();
    let options = options.host(&host);
    // PgBouncer rejects connections with an unknown startup parameter, such as the
    // `extra_float_digits` of `sqlx`. No column here is a floating-point number.
    Ok(options.application_name(env!("CARGO_PKG_NAME")).extra_float_digits(None))
}

async fn check_encoding(connection: &mut PgConnection) -> Result<(), OpenFailure> {
    let row = raw_sql("show server_encoding").fetch_one(connection).await?;
    match row.try_get::<String, _>(0)? {
        encoding if encoding == ENCODING => Ok(()),
        encoding => Err(OpenFailure::Encoding(encoding)),
    }
}

/// Refuses a database whose schema is missing or not the current one.
pub(super) async fn require_current_schema(
    connection: &mut PgConnection,
) -> Result<(), OpenFailure> {
    let migrations = Migrations::new(MIGRATIONS);
    migrations.require(migrations.state(&applied_migrations(connection).await?)?)
}

/// Returns the migrations that the database has. The statements have no parameters, so they leave
/// nothing behind in a server connection of a pooler.
async fn applied_migrations(
    connection: &mut PgConnection,
) -> Result<Vec<AppliedMigration>, sqlx::Error> {
    let select = raw_sql("select to_regclass('_sqlx_migrations') is not null");
    if !select.fetch_one(&mut *connection).await?.try_get::<bool, _>(0)? {
        return Ok(Vec::new());
    }
    let select = raw_sql("select version, checksum from _sqlx_migrations");
    let rows = select.fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            let checksum = row.try_get::<Vec<u8>, _>("checksum")?.into();
            Ok(AppliedMigration { version: row.try_get("version")?, checksum })
        })
        .collect()
}

/// Migrates in one transaction, under a lock that ends with it. Of several processes that start at
/// once, one migrates and the others then find nothing to do. `deallocate all` removes prepared
/// statements, because a pooler may hand the connection to another client.
async fn migrate(
    connection: &mut PgConnection,
    migrations: &Migrations,
    report: &(dyn Fn(&str) + Sync),
) -> Result<(), OpenFailure> {
    let mut transaction = connection.begin().await?;
    transaction.execute("deallocate all; set local client_min_messages = warning").await?;
    lock(&mut transaction, report).await?;
    let state = migrations.state(&applied_migrations(&mut transaction).await?)?;
    if state == SchemaState::Current {
        return Ok(());
    }
    migrations.report(state, report);
    migrations.run(&mut *transaction).await?;
    transaction.execute("deallocate all").await?;
    Ok(transaction.commit().await?)
}

/// Takes the migration lock. A statement that waits for it would not notice a dead connection.
async fn lock(
    connection: &mut PgConnection,
    report: &(dyn Fn(&str) + Sync),
) -> Result<(), OpenFailure> {
    if try_lock(connection).await? {
        return Ok(());
    }
    report("waiting for another process that migrates the schema");
    let retries = async {
        while !try_lock(connection).await? {
            sleep(LOCK_INTERVAL).await;
        }
        Ok(())
    };
    timeout(LOCK_TIMEOUT, retries).await.unwrap_or(Err(OpenFailure::Locked(LOCK_TIMEOUT)))
}

async fn try_lock(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let select = raw_sql("select pg_try_advisory_xact_lock(hashtext('portcullis migrations'))");
    select.fetch_one(connection).await?.try_get(0)
}

/// Returns the location of a database, without its password.
pub(crate) fn describe(postgres: &PostgresSettings) -> String {
    let Ok(options) = connect_options(&postgres.url) else {
        return "named by DATABASE_URL".to_owned();
    };
    let database = options.get_database().unwrap_or(options.get_username());
    let host = options.get_host();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    format!("`{database}` at {host}:{}", options.get_port())
}

#[async_trait]
impl Store for PostgresStore {
    async fn ping(&self) -> Result<(), StoreError> {
        select! {
            result = self.check_writable() => result,
            error = self.find_cause_of_delay() => Err(error),
        }
    }

    fn concurrent_batches(&self) -> usize {
        // Two queues have batches, and leave a third of the connections to others.
        let third = self.executor.pool.options().get_max_connections() / 3;
        third.clamp(1, MAX_CONCURRENT_BATCHES) as usize
    }

    fn pool_status(&self) -> PoolStatus {
        PoolStatus::new(&self.executor.pool)
    }

    async fn close(&self) {
        self.executor.pool.close().await;
    }
}
