//! Errors of the store.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;
use thiserror::Error;

/// Primary result codes of SQLite that describe the state of the file, not the statement: BUSY,
/// LOCKED, READONLY, IOERR, FULL and CANTOPEN.
const TRANSIENT_SQLITE_CODES: [u32; 6] = [5, 6, 8, 10, 13, 14];

/// Classes of SQLSTATE that describe the state of the server, not the statement: connections,
/// rollbacks, resources and operator intervention.
const TRANSIENT_SQLSTATE_CLASSES: [&str; 4] = ["08", "40", "53", "57"];

/// SQLSTATE of a write to a read-only server.
const READ_ONLY_SQLSTATE: &str = "25006";

/// Failure of a database operation. It is cloned to answer every caller of a batch.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The database is unreachable, full, busy or read-only.
    #[error("the database is unavailable")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// The database did not respond within the timeout.
    #[error("the database did not respond within {0:?}")]
    Timeout(Duration),
    /// The database is a replica, which may lag and accepts no writes.
    #[error("the database is a replica; DATABASE_URL must name the primary")]
    Replica,
    /// The database rejected the statement, or its result could not be read.
    #[error("the database query failed")]
    QueryFailed(#[source] Arc<sqlx::Error>),
    /// The database contains a value that does not parse.
    #[error("the database contains an invalid {table}.{column}")]
    Inconsistent {
        /// Table of the value.
        table: &'static str,
        /// Column of the value.
        column: &'static str,
        source: Arc<dyn StdError + Send + Sync>,
    },
}

/// Failure to open the database.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The connection failed.
    #[error("failed to open the database {database}")]
    Connect {
        /// Description of the database, without its password.
        database: String,
        source: sqlx::Error,
    },
    /// The migration failed.
    #[error("failed to migrate the schema of the database")]
    Migrate(#[from] MigrateError),
}

impl StoreError {
    /// Returns `true` if a later attempt may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Timeout(_) | Self::Replica)
    }

    /// Returns the column of a value that does not parse, as `table.column`.
    pub(super) fn inconsistent_column(&self) -> Option<String> {
        match self {
            Self::Inconsistent { table, column, .. } => Some(format!("{table}.{column}")),
            _ => None,
        }
    }

    pub(super) fn inconsistent(
        table: &'static str,
        column: &'static str,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::Inconsistent { table, column, source: Arc::from(source.into()) }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if is_transient(&error) {
            Self::Unavailable(Arc::new(error))
        } else {
            Self::QueryFailed(Arc::new(error))
        }
    }
}

fn is_transient(error: &sqlx::Error) -> bool {
    use sqlx::Error as E;
    match error {
        E::Database(error) => is_transient_database_error(error.as_ref()),
        E::Io(_)
        | E::Tls(_)
        | E::Protocol(_)
        | E::PoolTimedOut
        | E::PoolClosed
        | E::WorkerCrashed => true,
        _ => false,
    }
}

fn is_transient_database_error(error: &dyn DatabaseError) -> bool {
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        let sqlstate = error.code();
        return sqlstate == READ_ONLY_SQLSTATE
            || TRANSIENT_SQLSTATE_CLASSES.iter().any(|class| sqlstate.starts_with(class));
    }
    sqlite_primary_code(error).is_some_and(|code| TRANSIENT_SQLITE_CODES.contains(&code))
}

/// Returns the primary result code of an error from SQLite.
pub(super) fn sqlite_primary_code(error: &dyn DatabaseError) -> Option<u32> {
    let code = error.try_downcast_ref::<SqliteError>()?.code()?;
    Some(code.parse::<u32>().ok()? & 0xff)
}
