//! Persistence of accounts, sessions, revocations and the audit log.
//!
//! This module contains all SQL. Each aggregate has a trait; both dialects implement it in a file
//! of the same name and pass one contract suite (`tests/api/store`).

mod audit;
mod columns;
mod database;
mod error;
mod feed;
mod postgres;
mod revocations;
mod sessions;
mod sqlite;
mod users;

use std::sync::Arc;

use crate::config::{Database, DatabaseSettings};

pub use audit::{AuditQuery, AuditStore, StoredAuditRecord};
pub use database::{PoolStatus, Store};
pub use error::{OpenError, StoreError};
pub use feed::{Feed, FeedBatch, FeedEntry, Listener};
use postgres::PostgresStore;
#[cfg(test)]
pub(crate) use postgres::Snapshot;
pub use revocations::{CommittedRevocations, RevocationStore};
pub use sessions::{Rotation, Rotations, SessionQuery, SessionStore};
use sqlite::SqliteStore;
pub use users::{ChangedUser, Credentials, ListedUser, UserQuery, UserStore, WriteError};

/// Opens the database and migrates its schema. A missing SQLite file is created.
///
/// The migration holds a lock, so that several instances may start at once.
///
/// # Errors
/// Returns [`OpenError::Connect`] if the database cannot be reached within the acquire timeout, and
/// [`OpenError::Migrate`] if its schema is not one of this service.
pub async fn open(settings: &DatabaseSettings) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match &settings.database {
        Database::Postgres(postgres) => Arc::new(PostgresStore::open(postgres, settings).await?),
        Database::Sqlite(path) => Arc::new(SqliteStore::open(path, settings).await?),
    })
}
