//! The connection pool of PostgreSQL: which connections it hands out and takes back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection, Executor, Postgres, Row};
use tokio::time::{Instant, timeout};

use crate::config::{DatabaseSettings, PoolMode};

/// SQL of the timeouts of a `session` or of a transaction (`local`). The server ends a statement
/// that its client has given up, and the transaction of a client that has vanished: neither holds
/// its locks for longer.
macro_rules! set_timeouts {
    ($scope:literal) => {
        concat!(
            "set ",
            $scope,
            " statement_timeout = '30s'; set ",
            $scope,
            " idle_in_transaction_session_timeout = '30s'"
        )
    };
}
pub(super) use set_timeouts;

/// Longest wait for the end of a statement that was given up: longer than the server's timeout.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(35);

/// Number of liveness checks that fit into the longest wait for a connection.
pub(super) const CHECKS_PER_WAIT: u32 = 3;

/// Creates a pool, which connects when it is used.
pub(super) fn new(
    options: PgConnectOptions,
    settings: &DatabaseSettings,
    mode: PoolMode,
) -> PgPool {
    let liveness = Arc::new(Liveness::new(settings.acquire_timeout / CHECKS_PER_WAIT));
    PgPoolOptions::new()
        .max_connections(settings.max_connections)
        .acquire_timeout(settings.acquire_timeout)
        // `before_acquire` does, with a timeout.
        .test_before_acquire(false)
        .after_connect(move |connection, _| Box::pin(prepare(connection, mode)))
        .before_acquire(move |connection, metadata| {
            let liveness = Arc::clone(&liveness);
            Box::pin(async move { liveness.check(connection, metadata.idle_for).await })
        })
        .connect_lazy_with(options)
}

/// Connection for one piece of work. Unless the work succeeds, it is checked before the pool gets it
/// back: the work may have been given up in the middle.
pub(super) struct Lease(Option<PoolConnection<Postgres>>);

impl Lease {
    pub(super) async fn new(pool: &PgPool) -> Result<Self, sqlx::Error> {
        Ok(Self(Some(pool.acquire().await?)))
    }

    /// Returns the connection for the work.
    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.0.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// Gives the connection back after the work has succeeded.
    pub(super) fn give_back(mut self) {
        self.0 = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut connection) = self.0.take() else { return };
        // The connection counts as in use meanwhile, so there are never more statements on the
        // server than the pool has connections.
        tokio::spawn(async move {
            if !is_clean(&mut connection).await.unwrap_or(false) {
                connection.close_on_drop();
            }
        });
    }
}

/// Liveness of idle connections. A connection can die silently: its server has moved, or a firewall
/// has forgotten it. The others have then probably died too.
struct Liveness {
    /// Longest wait for the reply to a check.
    timeout: Duration,
    created_at: Instant,
    /// Time of the latest silent death, in milliseconds since the creation.
    latest_death: AtomicU64,
}

impl Liveness {
    fn new(timeout: Duration) -> Self {
        Self { timeout, created_at: Instant::now(), latest_death: AtomicU64::new(0) }
    }

    /// Returns `true` if the connection responds. A connection that has been idle since before the
    /// latest silent death is not even asked, so that a whole pool costs one timeout.
    async fn check(
        &self,
        connection: &mut PgConnection,
        idle_for: Duration,
    ) -> Result<bool, sqlx::Error> {
        let idle_since = self.created_at.elapsed().saturating_sub(idle_for);
        if millis(idle_since) < self.latest_death.load(Ordering::Relaxed) {
            return Ok(false);
        }
        if let Ok(outcome) = timeout(self.timeout, connection.ping()).await {
            return outcome.map(|()| true);
        }
        let now = millis(self.created_at.elapsed());
        self.latest_death.fetch_max(now, Ordering::Relaxed);
        Err(silent())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Sets the timeouts of a new connection. In transaction mode each transaction sets its own, since
/// the next one may have another server connection.
async fn prepare(connection: &mut PgConnection, mode: PoolMode) -> Result<(), sqlx::Error> {
    if mode == PoolMode::Session {
        connection.execute(set_timeouts!("session")).await?;
    }
    Ok(())
}

/// Returns `true` if the connection can be used again: it responds, no transaction is open, and it
/// accepts writes. A setting that forbids them can last as long as the connection.
///
/// `sqlx` does not roll back a transaction whose `begin` was given up before the reply. A
/// `rollback` alone would cause a warning of the server each time.
async fn is_clean(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let check = connection.fetch_one("begin; rollback; show transaction_read_only");
    let row = timeout(RELEASE_TIMEOUT, check).await.map_err(|_| silent())??;
    let is_read_only: &str = row.try_get(0)?;
    Ok(is_read_only == "off" && !connection.is_in_transaction())
}

/// Returns the error of a connection that does not respond.
fn silent() -> sqlx::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the connection does not respond").into()
}
