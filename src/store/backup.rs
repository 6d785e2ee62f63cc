//! Backup of an SQLite database to a file.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::Builder;
use thiserror::Error;

use super::error::{OpenError, OpenFailure, StoreError};
use super::{describe, sqlite};
use crate::config::{Database, DatabaseSettings};

/// Failure to back up a database.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The database is on PostgreSQL.
    #[error("the database is on PostgreSQL; back it up with pg_dump or by archiving its WAL")]
    Postgres,
    /// The file exists.
    #[error("{} exists, and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be read, or the file cannot be written.
    #[error("failed to write the backup")]
    Copy(#[from] StoreError),
    /// The file cannot be created.
    #[error("failed to create {}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// Writes a consistent copy of an SQLite database to a new file, which only its owner can read. The
/// service can run meanwhile. The file appears when it is complete and durable.
///
/// # Errors
/// Returns a [`BackupError`]; there is no such file then.
pub async fn back_up(settings: &DatabaseSettings, file: &Path) -> Result<(), BackupError> {
    let Database::Sqlite(database) = &settings.database else { return Err(BackupError::Postgres) };
    if !database.exists() {
        let (database, cause) = (describe(&settings.database), OpenFailure::Missing);
        return Err(OpenError { database, cause }.into());
    }
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(file.to_owned()),
        _ => BackupError::File { path: file.to_owned(), source },
    };
    if file.exists() {
        return Err(BackupError::Exists(file.to_owned()));
    }
    let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    // Readable by its owner alone, and removed unless it is complete.
    let copy = Builder::new().prefix(".portcullis-").suffix(".tmp").tempfile_in(folder);
    let copy = copy.map_err(failed)?;
    let name = copy.path().to_str().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    sqlite::back_up(database, settings.acquire_timeout, name).await?;
    copy.as_file().sync_all().map_err(failed)?;
    copy.persist_noclobber(file).map_err(|error| failed(error.error))?;
    // The name of the file is durable, too.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}
