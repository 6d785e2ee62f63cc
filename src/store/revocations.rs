//! Revocations: their trait.

use std::collections::HashSet;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::error::StoreError;
use super::feed::{Feed, Listener};
use crate::domain::{AuditRecord, Revocation, RevocationId};

/// Storage of revocations.
#[async_trait]
pub trait RevocationStore {
    /// Inserts revocations, deletes the sessions with the same ids and inserts audit records, all
    /// in one commit. Returns the time by the clock of the database.
    ///
    /// A revocation that exists already stays as it is.
    async fn revoke(
        &self,
        revocations: &[Revocation],
        records: &[AuditRecord],
    ) -> Result<OffsetDateTime, StoreError>;

    /// Returns the ids that are revoked.
    async fn find_revoked(&self, ids: &[RevocationId])
    -> Result<HashSet<RevocationId>, StoreError>;

    /// Creates a feed of the revocations. Its first read is a full reload.
    fn feed(&self) -> Box<dyn Feed>;

    /// Creates a listener for new revocations; `None` if the database sends no notifications, or no
    /// connection for them is configured.
    fn listener(&self) -> Option<Box<dyn Listener>>;

    /// Deletes at most `limit` revocations that expired more than the clock-skew allowance ago,
    /// both by `now` and by the clock of the database: a single wrong clock deletes nothing.
    /// Returns their number.
    async fn delete_expired_revocations(
        &self,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<u64, StoreError>;
}
