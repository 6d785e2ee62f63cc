//! The database as a whole: its trait and its connection pool.

use async_trait::async_trait;
use sqlx::Pool;

use super::audit::AuditStore;
use super::clients::ClientStore;
use super::error::StoreError;
use super::inspection::InspectionStore;
use super::keys::KeyStore;
use super::revocations::RevocationStore;
use super::roles::RoleStore;
use super::sessions::SessionStore;
use super::throttle::ThrottleStore;
use super::users::UserStore;

/// Database of record.
///
/// A write is durable once its future returns `Ok`. Every method returns
/// [`StoreError::Unavailable`] if the database cannot do its work for now.
#[async_trait]
pub trait Store:
    UserStore
    + SessionStore
    + RevocationStore
    + RoleStore
    + AuditStore
    + KeyStore
    + ClientStore
    + ThrottleStore
    + InspectionStore
    + Send
    + Sync
    + 'static
{
    /// Checks that the database can be written. Names the cause within about a second.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Returns the number of batches of one queue that may be committed at the same time, at least
    /// one. More pay where commits can share a write to the disk.
    fn concurrent_batches(&self) -> usize;

    /// Returns the state of the connection pool.
    fn pool_status(&self) -> PoolStatus;

    /// Closes all connections after the work in progress on them.
    async fn close(&self);
}

/// State of a connection pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolStatus {
    /// Number of open connections that are idle.
    pub idle: u32,
    /// Number of open connections in use.
    pub in_use: u32,
    /// Maximum number of open connections.
    pub max: u32,
}

impl PoolStatus {
    pub(super) fn new<DB: sqlx::Database>(pool: &Pool<DB>) -> Self {
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        let max = pool.options().get_max_connections();
        Self { idle, in_use: pool.size().saturating_sub(idle), max }
    }
}
