//! Copies a whole database into an empty one, of the same dialect or the other.

use futures_util::TryStreamExt;
use thiserror::Error;

use super::describe;
use super::error::{OpenError, StoreError};
use super::postgres::{PostgresSource, PostgresTarget};
use super::sqlite::{SqliteSource, SqliteTarget};
use super::tables::{TABLES, Table};
use super::transfer::{CopySource, CopyTarget, EndFailure, InsertError};
use crate::config::{Database, DatabaseSettings};

/// Number of rows between two reports of the progress.
const REPORT_INTERVAL: u64 = 1_000;

/// Progress of a copy: the rows of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyProgress {
    pub table: &'static str,
    /// Number of rows copied so far.
    pub copied: u64,
    /// Number of rows to copy.
    pub total: u64,
}

/// Failure to copy a database. The target is then as empty as before.
#[derive(Debug, Error)]
pub enum CopyError {
    /// Source and target are the same.
    #[error("the source and the target are the same database")]
    SameDatabase,
    /// A database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Another program uses a database.
    #[error("the database {0} is in use; stop every instance and every command that works on it")]
    InUse(String),
    /// The target has rows.
    #[error("the database {database} is not empty: it has rows in {table}")]
    NotEmpty { database: String, table: &'static str },
    /// A database failed.
    #[error("failed to copy {table}: the database {database} failed")]
    Table { table: &'static str, database: String, source: StoreError },
    /// The target has another number of rows than the source.
    #[error("{table} has {expected} rows, and {copied} arrived")]
    Incomplete { table: &'static str, expected: u64, copied: u64 },
    /// The commit failed.
    #[error("failed to commit the copy in the database {database}")]
    Commit { database: String, source: StoreError },
}

/// Copies all rows of a database into an empty one, which is created if it is missing, in one
/// transaction. Returns the number of rows. `report` gets a sentence about each step that changes or
/// delays something, and `progress` is called at least once a table, the last time with all of its
/// rows.
///
/// Neither database can be in use, nor become used before the end.
///
/// # Errors
/// Returns a [`CopyError`]; nothing is copied then.
pub async fn copy(
    from: &DatabaseSettings,
    to: &DatabaseSettings,
    report: &(dyn Fn(&str) + Sync),
    progress: &(dyn Fn(CopyProgress) + Sync),
) -> Result<u64, CopyError> {
    let databases = Databases { from: describe(&from.database), to: describe(&to.database) };
    if databases.from == databases.to {
        return Err(CopyError::SameDatabase);
    }
    let mut source =
        open_source(from).await.map_err(|failure| end_error(&databases.from, failure))?;
    let mut target =
        open_target(to, report).await.map_err(|failure| end_error(&databases.to, failure))?;
    require_empty(&mut *target, &databases).await?;
    let mut rows = 0;
    for table in TABLES {
        rows += copy_table(&mut *source, &mut *target, table, &databases, progress).await?;
    }
    target
        .commit()
        .await
        .map_err(|source| CopyError::Commit { database: databases.to.clone(), source })?;
    // The copy is complete: a source that cannot be closed properly is closed by its end.
    let _ = source.close().await;
    Ok(rows)
}

/// Locations of both databases.
struct Databases {
    from: String,
    to: String,
}

impl Databases {
    fn source_failed(&self, table: &Table, source: StoreError) -> CopyError {
        CopyError::Table { table: table.name, database: self.from.clone(), source }
    }

    fn target_failed(&self, table: &Table, source: StoreError) -> CopyError {
        CopyError::Table { table: table.name, database: self.to.clone(), source }
    }
}

fn end_error(database: &str, failure: EndFailure) -> CopyError {
    let database = database.to_owned();
    match failure {
        EndFailure::Open(cause) => OpenError { database, cause }.into(),
        EndFailure::InUse => CopyError::InUse(database),
    }
}

async fn open_source(settings: &DatabaseSettings) -> Result<Box<dyn CopySource>, EndFailure> {
    let wait = settings.acquire_timeout;
    Ok(match &settings.database {
        Database::Postgres(postgres) => Box::new(PostgresSource::open(postgres, wait).await?),
        Database::Sqlite(path) => Box::new(SqliteSource::open(path, wait).await?),
    })
}

async fn open_target(
    settings: &DatabaseSettings,
    report: &(dyn Fn(&str) + Sync),
) -> Result<Box<dyn CopyTarget>, EndFailure> {
    Ok(match &settings.database {
        Database::Postgres(postgres) => {
            Box::new(PostgresTarget::open(postgres, settings, report).await?)
        }
        Database::Sqlite(path) => Box::new(SqliteTarget::open(path, settings, report).await?),
    })
}

/// Refuses a target with rows, apart from those of a new database.
async fn require_empty(
    target: &mut dyn CopyTarget,
    databases: &Databases,
) -> Result<(), CopyError> {
    for table in TABLES.iter().filter(|table| !table.is_seeded) {
        let rows =
            target.count(table).await.map_err(|error| databases.target_failed(table, error))?;
        if rows > 0 {
            let database = databases.to.clone();
            return Err(CopyError::NotEmpty { database, table: table.name });
        }
    }
    Ok(())
}

/// Copies the rows of a table and counts them. Returns their number.
async fn copy_table(
    source: &mut dyn CopySource,
    target: &mut dyn CopyTarget,
    table: &'static Table,
    databases: &Databases,
    progress: &(dyn Fn(CopyProgress) + Sync),
) -> Result<u64, CopyError> {
    let source_failed = |error| databases.source_failed(table, error);
    let target_failed = |error| databases.target_failed(table, error);
    let total = source.count(table).await.map_err(source_failed)?;
    if table.is_seeded {
        target.clear(table).await.map_err(target_failed)?;
    }
    let mut read = 0;
    let rows = source.rows(table).await.map_err(source_failed)?.inspect_ok(|_| {
        read += 1;
        if read % REPORT_INTERVAL == 0 && read < total {
            progress(CopyProgress { table: table.name, copied: read, total });
        }
    });
    match target.insert(table, Box::pin(rows)).await {
        Ok(()) => {}
        Err(InsertError::Source(error)) => return Err(source_failed(error)),
        Err(InsertError::Target(error)) => return Err(target_failed(error)),
    }
    let copied = target.count(table).await.map_err(target_failed)?;
    if copied != total {
        return Err(CopyError::Incomplete { table: table.name, expected: total, copied });
    }
    progress(CopyProgress { table: table.name, copied, total });
    Ok(total)
}
