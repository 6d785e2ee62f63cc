//! Errors of the store.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;
use thiserror::Error;

/// Primary result codes of SQLite that describe the state of the file or of the machine, not the
/// statement: BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN and PROTOCOL.
const TRANSIENT_SQLITE_CODES: [u32; 8] = [5, 6, 7, 8, 10, 13, 14, 15];

/// Classes of SQLSTATE that describe the state of the server, not the statement: connections,
/// rollbacks, resources and operator intervention.
const TRANSIENT_SQLSTATE_CLASSES: [&str; 4] = ["08", "40", "53", "57"];

/// Other SQLSTATEs that describe the state of the server.
const TRANSIENT_SQLSTATES: [&str; 7] = [
    "25006", // the server is read-only
    "25P03", // a transaction was idle for too long
    "28000", // the role may not log in
    "28P01", // the password is wrong, as during its rotation
    "3D000", // the database does not exist, as during a restore
    "55000", // the database accepts no connections
    LOCK_NOT_AVAILABLE,
];

/// SQLSTATE of a statement that waited too long for a lock.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Primary result code of SQLite for a lock that another connection holds.
const BUSY: u32 = 5;

/// SQLSTATE of a statement that the role must not execute.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Failure of a database operation. It is cloned to answer every caller of a batch.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The database is unreachable, full, busy or read-only.
    #[error("the database is unavailable")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// The database did not respond within the timeout.
    #[error("the database did not respond within {0:?}")]
    Timeout(Duration),
    /// The database accepts no writes: `default_transaction_read_only` is on.
    #[error("the database is read-only")]
    ReadOnly,
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

/// Failure to open a database.
#[derive(Debug, Error)]
#[error("failed to open the database {database}")]
pub struct OpenError {
    /// Location of the database, without its password.
    pub database: String,
    #[source]
    pub cause: OpenFailure,
}

/// Reason why a database was not opened.
#[derive(Debug, Error)]
pub enum OpenFailure {
    /// The connection failed.
    #[error(transparent)]
    Connect(#[from] sqlx::Error),
    /// The database did not respond within the timeout.
    #[error("no response within {0:?}")]
    Timeout(Duration),
    /// There is no file or no schema, and none is to be created.
    #[error(
        "it does not exist; `portcullis serve`, `portcullis migrate`, `portcullis user create` and \
         `portcullis user import` create it, and DATABASE_URL selects another one"
    )]
    Missing,
    /// The schema is older than this program, and is not to be migrated.
    #[error(
        "its schema has version {version}, and this program needs version {needed}; \
         run `portcullis migrate`"
    )]
    Older { version: i64, needed: i64 },
    /// The schema is newer than this program.
    #[error(
        "its schema has version {version}, and this program knows versions up to {known}; \
         run the newer program, or restore the backup from before its start"
    )]
    Newer { version: i64, known: i64 },
    /// The encoding of the database is not UTF-8.
    #[error("its encoding is {0}; create it anew with the encoding UTF8")]
    Encoding(String),
    /// Another process has held the migration lock for the timeout.
    #[error("another process has been migrating its schema for {0:?}")]
    Locked(Duration),
    /// The role must not change the schema.
    #[error(
        "its schema has to be created or migrated, and this role must not do that; \
         run `portcullis migrate` as the owner of the database"
    )]
    NotOwner(#[source] MigrateError),
    /// The migration failed.
    #[error("failed to migrate its schema")]
    Migrate(#[source] MigrateError),
    /// The database cannot be written.
    #[error("it cannot be written")]
    Unwritable(#[source] StoreError),
}

impl From<MigrateError> for OpenFailure {
    fn from(error: MigrateError) -> Self {
        use MigrateError as E;
        let is_denied = match &error {
            E::Execute(cause) | E::ExecuteMigration(cause, _) => {
                let code = cause.as_database_error().and_then(DatabaseError::code);
                code.as_deref() == Some(INSUFFICIENT_PRIVILEGE)
            }
            _ => false,
        };
        if is_denied { Self::NotOwner(error) } else { Self::Migrate(error) }
    }
}

/// Awaits one step of opening a database, at most for as long as `timeout`.
pub(super) async fn within<T, E: Into<OpenFailure>>(
    timeout: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, OpenFailure> {
    match tokio::time::timeout(timeout, step).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(OpenFailure::Timeout(timeout)),
    }
}

impl StoreError {
    /// Returns `true` if a later attempt may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Timeout(_) | Self::ReadOnly | Self::Replica)
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
        | E::BeginFailed
        | E::WorkerCrashed => true,
        _ => false,
    }
}

fn is_transient_database_error(error: &dyn DatabaseError) -> bool {
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        let sqlstate = error.code();
        return TRANSIENT_SQLSTATES.contains(&sqlstate)
            || TRANSIENT_SQLSTATE_CLASSES.iter().any(|class| sqlstate.starts_with(class));
    }
    sqlite_primary_code(error).is_some_and(|code| TRANSIENT_SQLITE_CODES.contains(&code))
}

/// Returns `true` for an error of PostgreSQL about a lock that was not available in time.
pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.as_deref() == Some(LOCK_NOT_AVAILABLE)
}

/// Returns `true` for an error of SQLite about a lock that another connection holds.
pub(super) fn is_busy(error: &dyn DatabaseError) -> bool {
    sqlite_primary_code(error) == Some(BUSY)
}

/// Returns the primary result code of an error from SQLite.
fn sqlite_primary_code(error: &dyn DatabaseError) -> Option<u32> {
    let code = error.try_downcast_ref::<SqliteError>()?.code()?;
    Some(code.parse::<u32>().ok()? & 0xff)
}
