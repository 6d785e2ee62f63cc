//! `/admin/audit`: the audit log.

use actix_web::Responder;
use actix_web::web::{Data, Query};
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};
use utoipa::{IntoParams, ToSchema};

use super::authenticated::Authenticated;
use super::error::ApiError;
use super::json::Json;
use super::page::{next_after, parse_limit};
use super::refused::{BadQuery, BadToken, NeedsAuditRead, Refused};
use super::state::Api;
use crate::actors::ListAuditRecords;
use crate::clock::timestamp;
use crate::domain::{AuditAction, Permission, SessionId, UserId};
use crate::store::{AuditQuery, ListedAuditRecord};

/// Query of the audit log.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAuditQuery {
    /// Id of the account that performed the action.
    #[param(inline)]
    actor: Option<UserId>,
    /// Id of the account that was acted on.
    #[param(inline)]
    subject: Option<UserId>,
    /// The action.
    #[param(inline, value_type = Option<AuditAction>)]
    action: Option<String>,
    /// Earliest time, inclusive.
    #[param(format = "date-time")]
    since: Option<String>,
    /// Latest time, exclusive.
    #[param(format = "date-time")]
    until: Option<String>,
    /// `next` of the previous page.
    after: Option<i64>,
    /// Maximum number of records.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// Page of the audit log, latest record first.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditLog)]
struct AuditLogView {
    records: Vec<AuditRecordView>,
    /// `after` of the next page, which may be empty; `null` on the last page.
    #[schema(required)]
    next: Option<i64>,
}

/// Record of an action: `actor` acted on `subject`, or on the key or secret in `detail`.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditRecord)]
pub struct AuditRecordView {
    id: i64,
    /// Time of the action (RFC 3339).
    #[schema(format = "date-time", example = "2026-05-01T09:30:00Z")]
    at: String,
    /// Name of the action. A newer version may have written others than the query accepts.
    #[schema(example = "session.opened")]
    action: String,
    /// Account; `00000000-0000-0000-0000-000000000000` for the service itself, `null` for the command
    /// line and for a request without an access token.
    #[schema(inline, required)]
    actor: Option<UserId>,
    /// `null` for an action on a key or a secret.
    #[schema(inline, required)]
    subject: Option<UserId>,
    #[schema(inline, required)]
    session: Option<SessionId>,
    /// Username, roles, or the id of a token, key or secret, depending on the action. For `login.refused` and
    /// `session.refresh_token_retried`, also the number of those that were not recorded.
    #[schema(required, example = "testuser")]
    detail: Option<String>,
    /// IP address of the request; `null` for the service and for the command line.
    #[schema(required, example = "192.0.2.7")]
    ip: Option<String>,
    /// `User-Agent` of the request; `null` for the service and for the command line.
    #[schema(required, example = "curl/8.14.1")]
    user_agent: Option<String>,
    /// Column of the database that does not parse. The other fields are what could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "audit_log.at")]
    broken: Option<String>,
}

/// Read the audit log
///
/// Latest record first, a page at a time.
#[utoipa::path(
    get, path = "/admin/audit", operation_id = "audit", tag = "administration",
    security(("access_token" = ["audit:read"])), params(RawAuditQuery),
    responses(
        (status = 200, description = "A page of the audit log", body = AuditLogView),
        Refused<(BadToken, NeedsAuditRead, BadQuery)>,
    ),
)]
pub(super) async fn read(
    api: Data<Api>,
    bearer: Authenticated,
    Query(query): Query<RawAuditQuery>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::AUDIT_READ)?;
    bearer.require_open_session(&api).await?;
    let query = AuditQuery::try_from(query)?;

    let limit = query.limit;
    let records = api.users.ask(ListAuditRecords { query }).await?;

    Ok(Json(AuditLogView::new(&records, limit)))
}

impl TryFrom<RawAuditQuery> for AuditQuery {
    type Error = ApiError;

    fn try_from(raw: RawAuditQuery) -> Result<Self, ApiError> {
        Ok(Self {
            actor: raw.actor,
            subject: raw.subject,
            action: raw.action.as_deref().map(parse_action).transpose()?,
            since: raw.since.as_deref().map(parse_time).transpose()?,
            until: raw.until.as_deref().map(parse_time).transpose()?,
            after: raw.after,
            limit: parse_limit(raw.limit)?,
        })
    }
}

fn parse_action(name: &str) -> Result<AuditAction, ApiError> {
    name.parse().map_err(|_| ApiError::InvalidQuery("unknown action".to_owned()))
}

/// Parses a time of RFC 3339 and converts it to UTC, which fails near the ends of the calendar.
fn parse_time(text: &str) -> Result<OffsetDateTime, ApiError> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    time.and_then(|time| time.checked_to_offset(UtcOffset::UTC)).ok_or_else(|| {
        ApiError::InvalidQuery("times must look like 2026-01-31T12:00:00Z".to_owned())
    })
}

impl AuditLogView {
    fn new(records: &[ListedAuditRecord], limit: u32) -> Self {
        Self {
            records: records.iter().map(AuditRecordView::from).collect(),
            next: next_after(records, limit, |record| record.id),
        }
    }
}

impl From<&ListedAuditRecord> for AuditRecordView {
    fn from(record: &ListedAuditRecord) -> Self {
        let origin = record.origin.as_ref();
        Self {
            id: record.id,
            at: timestamp(record.at),
            action: record.action.clone(),
            actor: record.actor,
            subject: record.subject,
            session: record.session_id,
            detail: record.detail.clone(),
            ip: origin.map(|origin| origin.address.to_string()),
            user_agent: origin.map(|origin| origin.user_agent.as_str().to_owned()),
            broken: record.broken.clone(),
        }
    }
}
