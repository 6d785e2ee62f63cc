//! Persistence of accounts, sessions, revocations and the audit log.
//!
//! This module contains all SQL. Each aggregate has a trait; both dialects implement it in a file
//! of the same name and pass one contract suite (`tests/api/store`).

mod audit;
mod backup;
mod clients;
mod columns;
mod copy;
mod database;
mod error;
mod feed;
mod inspection;
mod keys;
mod postgres;
mod requesters;
mod revocations;
mod roles;
mod schema;
mod sessions;
mod sqlite;
mod tables;
mod throttle;
mod transfer;
mod users;

use std::path;
use std::sync::Arc;

use crate::config::{Database, DatabaseSettings};

pub use audit::{AuditQuery, AuditStore, ListedAuditRecord, Redaction};
pub use backup::{BackupError, back_up};
pub use clients::{ClientStore, ClientWriteError};
pub use copy::{CopyError, CopyProgress, copy};
pub use database::{PoolStatus, Store};
pub use error::{OpenError, OpenFailure, StoreError};
pub use feed::{Feed, FeedBatch, FeedEntry, Listener};
pub use inspection::{
    AccountFacts, ConnectionFacts, DatabaseFacts, InspectionStore, Integrity, ListenerState,
    PostgresFacts, RoleFacts, ServerLimits, SharedSettings,
};
pub use keys::{KeyStore, KeyWriteError, SharedSetting};
use postgres::PostgresStore;
pub use revocations::{CommittedRevocations, LockedSessions, RevocationStore};
pub use roles::{ChangedRole, ListedRoles, RoleStore, RoleWriteError};
pub use schema::SchemaPolicy;
pub use sessions::{
    OpenedSession, PresentedToken, Rotation, Rotations, SessionQuery, SessionStore,
};
use sqlite::SqliteStore;
pub use throttle::{Attempt, Reservation, ThrottleStore};
pub use users::{
    ChangedUser, Credentials, ExportedUser, ImportCommit, ImportOutcome, ListedUser, UserQuery,
    UserStore, WriteError,
};

/// Opens the database. `report` gets a sentence about each step that changes or delays something.
///
/// A migration holds a lock, so that several instances may start at once. A role that must not
/// change the schema can open a database whose schema is current.
///
/// # Errors
/// Returns an [`OpenFailure`] with the location of the database, within the acquire timeout if it
/// does not respond.
pub async fn open(
    settings: &DatabaseSettings,
    policy: SchemaPolicy,
    report: &(dyn Fn(&str) + Sync),
) -> Result<Arc<dyn Store>, OpenError> {
    let failed = |cause| OpenError { database: describe(&settings.database), cause };
    let store: Arc<dyn Store> = match &settings.database {
        Database::Postgres(postgres) => {
            Arc::new(PostgresStore::open(postgres, settings, policy, report).await.map_err(failed)?)
        }
        Database::Sqlite(path) => {
            Arc::new(SqliteStore::open(path, settings, policy, report).await.map_err(failed)?)
        }
    };
    if policy == SchemaPolicy::Migrate {
        store.ping().await.map_err(|error| failed(OpenFailure::Unwritable(error)))?;
    }
    Ok(store)
}

/// Returns the location of a database, without its password.
#[must_use]
pub fn describe(database: &Database) -> String {
    match database {
        Database::Postgres(postgres) => postgres::describe(postgres),
        Database::Sqlite(path) => {
            path::absolute(path).unwrap_or(path.clone()).display().to_string()
        }
    }
}
