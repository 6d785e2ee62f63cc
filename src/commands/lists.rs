//! Lists that are read to their end, page by page.

use time::OffsetDateTime;

use super::error::CommandError;
use crate::domain::{Session, SessionPosition, UserId};
use crate::store::{AuditQuery, ListedAuditRecord, SessionQuery, Store};

/// Number of rows that one query reads.
pub(super) const PAGE: u32 = 500;

/// Reads the open sessions of an account.
pub(super) async fn sessions(
    store: &dyn Store,
    user_id: UserId,
    now: OffsetDateTime,
) -> Result<Vec<Session>, CommandError> {
    let mut sessions = Vec::new();
    loop {
        let after = sessions.last().map(SessionPosition::from);
        let query = SessionQuery { user_id, after, limit: PAGE };
        let page = store.list_sessions(&query, now).await?;
        if page.is_empty() {
            return Ok(sessions);
        }
        sessions.extend(page);
    }
}

/// Reads the audit records that match a query, latest first.
pub(super) async fn audit_records(
    store: &dyn Store,
    query: AuditQuery,
) -> Result<Vec<ListedAuditRecord>, CommandError> {
    let mut records: Vec<ListedAuditRecord> = Vec::new();
    loop {
        let after = records.last().map(|record| record.id);
        let query = AuditQuery { after, limit: PAGE, ..query.clone() };
        let page = store.list_audit_records(&query).await?;
        if page.is_empty() {
            return Ok(records);
        }
        records.extend(page);
    }
}
