//! Copying an SQLite database to a file while it is used.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::store::error::StoreError;

/// Writes a consistent copy to an empty file. Others can read and write meanwhile.
pub(crate) async fn back_up(
    database: &Path,
    busy_timeout: Duration,
    file: &str,
) -> Result<(), StoreError> {
    let options = SqliteConnectOptions::new().filename(database).busy_timeout(busy_timeout);
    let mut connection = options.connect().await?;
    let vacuum = sqlx::query("vacuum into ?1").bind(file);
    vacuum.execute(&mut connection).await?;
    Ok(connection.close().await?)
}
