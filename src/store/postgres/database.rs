//! Opening, migrating and closing a PostgreSQL database.

use std::str::FromStr;

use async_trait::async_trait;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::time::timeout;

use super::executor::PoolExecutor;
use crate::config::{DatabaseSettings, PostgresSettings, Secret};
use crate::store::database::{PoolStatus, Store, migrator};
use crate::store::error::{OpenError, StoreError};

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
];

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
    ) -> Result<Self, OpenError> {
        let options = connect_options(&postgres.url, "DATABASE_URL")?;
        let listen_options = match &postgres.listen_url {
            Some(url) => Some(connect_options(url, "DATABASE_LISTEN_URL")?),
            None => None,
        };
        let failed = |source| OpenError::Connect { database: describe(&options), source };
        // The first connection is opened outside the pool, which would retry and then report
        // nothing but a timeout.
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
        let executor = PoolExecutor { pool, mode: postgres.pool_mode };
        Ok(Self { executor, options, listen_options })
    }
}

fn connect_options(url: &Secret, variable: &str) -> Result<PgConnectOptions, OpenError> {
    let options = PgConnectOptions::from_str(url.expose()).map_err(|source| {
        OpenError::Connect { database: format!("named by {variable}"), source }
    })?;
    // PgBouncer rejects connections with an unknown startup parameter, such as the
    // `extra_float_digits` of `sqlx`. No column here is a floating-point number.
    Ok(options.application_name(env!("CARGO_PKG_NAME")).extra_float_digits(None))
}

/// Migrates in one transaction, under a lock that ends with it. Of several processes that start at
/// once, one migrates and the others then find nothing to do. `deallocate all` removes prepared
/// statements, because a pooler may hand the connection to another client.
async fn migrate(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let mut transaction = connection.begin().await?;
    transaction.execute("deallocate all").await?;
    transaction.execute("select pg_advisory_xact_lock(hashtext('portcullis migrations'))").await?;
    let mut migrator = migrator(MIGRATIONS);
    migrator.set_locking(false).run_direct(None, &mut *transaction, false).await?;
    transaction.execute("deallocate all").await?;
    transaction.commit().await?;
    Ok(())
}

fn describe(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    format!("`{database}` at {}:{}", options.get_host(), options.get_port())
}

#[async_trait]
impl Store for PostgresStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.executor.execute("select 1").await?;
        Ok(())
    }

    fn pool_status(&self) -> PoolStatus {
        PoolStatus::new(&self.executor.pool)
    }

    async fn close(&self) {
        self.executor.pool.close().await;
    }
}
