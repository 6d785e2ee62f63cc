//! The audit log: its trait, and the types and row parsing that both dialects share.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::error::StoreError;
use crate::domain::{AuditAction, AuditRecord, UserId};

/// Storage of audit records. The other traits insert those of changes, together with the change.
#[async_trait]
pub trait AuditStore {
    /// Inserts the record of an action that changes nothing else.
    async fn insert_audit_record(&self, record: &AuditRecord) -> Result<(), StoreError>;

    /// Lists audit records, latest first.
    async fn list_audit_records(
        &self,
        query: &AuditQuery,
    ) -> Result<Vec<StoredAuditRecord>, StoreError>;

    /// Deletes at most `limit` audit records that are older than the retention, both by `now` and
    /// by the clock of the database: a single wrong clock deletes nothing. Returns their number.
    async fn delete_expired_audit_records(
        &self,
        now: OffsetDateTime,
        retention: Duration,
        limit: u32,
    ) -> Result<u64, StoreError>;
}

/// Filter and page of the audit log, latest record first. `None` matches every record.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Account of the requester.
    pub actor: Option<UserId>,
    /// Account that was acted on.
    pub subject: Option<UserId>,
    pub action: Option<AuditAction>,
    /// Start of the period, inclusive.
    pub since: Option<OffsetDateTime>,
    /// End of the period, exclusive.
    pub until: Option<OffsetDateTime>,
    /// Id of the last record of the previous page.
    pub after: Option<i64>,
    /// Maximum number of records.
    pub limit: u32,
}

/// Audit record with its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAuditRecord {
    /// Identifier. A later record has a higher one, except among concurrent commits.
    pub id: i64,
    pub record: AuditRecord,
}

pub(super) fn parse_action(name: &str) -> Result<AuditAction, StoreError> {
    name.parse().map_err(|_| StoreError::inconsistent("audit_log", "action", format!("`{name}`")))
}
