//! The audit log: its trait, and the types and row parsing that both dialects share.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use super::columns::read_origin;
use super::error::StoreError;
use crate::domain::{AuditAction, AuditRecord, RequestOrigin, SessionId, UserId};

/// Storage of audit records. The other traits insert those of changes, together with the change.
#[async_trait]
pub trait AuditStore {
    /// Inserts the record of an action that changes nothing else.
    async fn insert_audit_record(&self, record: &AuditRecord) -> Result<(), StoreError>;

    /// Lists audit records, latest first, with those that do not parse.
    async fn list_audit_records(
        &self,
        query: &AuditQuery,
    ) -> Result<Vec<ListedAuditRecord>, StoreError>;

    /// Deletes at most `limit` audit records that are older than the retention, both by `now` and
    /// by the clock of the database: a single wrong clock deletes nothing. Returns their number.
    async fn delete_expired_audit_records(
        &self,
        now: OffsetDateTime,
        retention: Duration,
        limit: u32,
    ) -> Result<u64, StoreError>;

    /// Finds an account that was deleted longer than `retention` ago, both by `now` and by the clock
    /// of the database, and whose name and addresses are still in the log. Its records are to be
    /// redacted by [`Self::redact_records`]. One that was imported again with its id is left out.
    async fn find_redaction(
        &self,
        now: OffsetDateTime,
        retention: Duration,
    ) -> Result<Option<Redaction>, StoreError>;

    /// Removes the name and addresses of a deleted account from the next `limit` records: the details
    /// of those about it, the origins of its requests, and those of anonymous ones about it. The origin
    /// of another requester stays, and so do all ids.
    ///
    /// Returns what is left, or `None` after the last record. That of the deletion itself comes last:
    /// if the process ends before, the next call of [`Self::find_redaction`] finds the account again.
    async fn redact_records(
        &self,
        redaction: Redaction,
        limit: u32,
    ) -> Result<Option<Redaction>, StoreError>;
}

/// Removal of the name and the addresses of a deleted account from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redaction {
    /// Id of the record of the deletion.
    pub(super) deletion: i64,
    /// Id of the account.
    pub(super) account: Uuid,
    /// Id of the last record that was read.
    pub(super) after: i64,
}

impl Redaction {
    /// Begins with the first record.
    pub(super) fn new(deletion: i64, account: Uuid) -> Self {
        Self { deletion, account, after: i64::MIN }
    }
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

/// Audit record in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedAuditRecord {
    /// Identifier. A later record has a higher one, except among concurrent commits.
    pub id: i64,
    /// Time of the action.
    pub at: OffsetDateTime,
    /// Name of the action: of an [`AuditAction`], or one that a newer version has written.
    pub action: String,
    /// Account of the requester.
    pub actor: Option<UserId>,
    /// Origin of the request.
    pub origin: Option<RequestOrigin>,
    /// Account that was acted on; `None` for an action on a key.
    pub subject: Option<UserId>,
    /// Session that was acted on.
    pub session_id: Option<SessionId>,
    pub detail: Option<String>,
    /// First column that does not parse, as `table.column`. The field of each such column is empty.
    pub broken: Option<String>,
}

/// Columns of an audit record, each with its own result.
pub(super) struct AuditColumns {
    pub(super) id: i64,
    pub(super) at: Result<OffsetDateTime, StoreError>,
    pub(super) action: Result<String, StoreError>,
    pub(super) actor_id: Result<Option<Uuid>, StoreError>,
    pub(super) subject_id: Result<Option<Uuid>, StoreError>,
    pub(super) session_id: Result<Option<Uuid>, StoreError>,
    pub(super) detail: Result<Option<String>, StoreError>,
    pub(super) address: Result<Option<String>, StoreError>,
    pub(super) user_agent: Result<Option<String>, StoreError>,
}

impl AuditColumns {
    /// Creates the entry of a list. A row that does not parse is still listed.
    pub(super) fn list(self) -> ListedAuditRecord {
        let mut broken = None;
        let at = or_default(self.at, OffsetDateTime::UNIX_EPOCH, &mut broken);
        let action = or_default(self.action, String::new(), &mut broken);
        let actor = or_default(self.actor_id, None, &mut broken);
        let subject = or_default(self.subject_id, None, &mut broken);
        let session_id = or_default(self.session_id, None, &mut broken);
        let detail = or_default(self.detail, None, &mut broken);
        let address = or_default(self.address, None, &mut broken);
        let user_agent = or_default(self.user_agent, None, &mut broken).unwrap_or_default();
        ListedAuditRecord {
            id: self.id,
            at,
            action,
            actor: actor.map(UserId::from),
            origin: address.map(|address| read_origin(&address, &user_agent)),
            subject: subject.map(UserId::from),
            session_id: session_id.map(SessionId::from),
            detail,
            broken,
        }
    }
}

/// Returns the value of a column. If it does not parse, returns the default and notes the column,
/// unless another is noted.
fn or_default<T>(column: Result<T, StoreError>, default: T, broken: &mut Option<String>) -> T {
    column.unwrap_or_else(|error| {
        *broken = broken.take().or_else(|| error.inconsistent_column());
        default
    })
}
