//! `/admin/audit`: who did what, to whom, when, and from where.

use actix_web::Responder;
use actix_web::web::{Data, Json, Query};
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};
use utoipa::{IntoParams, ToSchema};

use super::openapi::{BadQuery, BadToken, NeedsUsersRead, Refused};
use super::page::limit;
use super::{Api, ApiError, Authenticated};
use crate::actors::ReadAudit;
use crate::clock::timestamp;
use crate::domain::{AuditAction, AuditRecord, Initiator, Label, Permission, SessionId, UserId};
use crate::store::{AuditEntry, AuditPage};

/// The query of the audit log, as it came.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RawAuditPage {
    /// Who did it.
    #[param(inline)]
    actor: Option<UserId>,
    /// Whom it was done to.
    #[param(inline)]
    subject: Option<UserId>,
    /// What was done.
    #[param(inline, value_type = Option<AuditAction>)]
    action: Option<String>,
    /// Not earlier than this.
    #[param(format = "date-time")]
    since: Option<String>,
    /// Earlier than this.
    #[param(format = "date-time")]
    until: Option<String>,
    /// The `id` of the record that they come after: theirs are lower.
    after: Option<i64>,
    /// How many they are at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// A page of the audit log, the latest record first. The next one begins after the last of them.
#[derive(Serialize, ToSchema)]
struct AuditLog {
    records: Vec<Record>,
    /// What `after` has to be for the next page, if there may be one.
    #[schema(required)]
    next: Option<i64>,
}

/// One thing that was done.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditRecord)]
struct Record {
    id: i64,
    #[schema(format = "date-time", example = "2026-05-01T09:30:00Z")]
    at: String,
    #[schema(inline, value_type = AuditAction)]
    action: &'static str,
    /// Who was logged in, if somebody was.
    #[schema(inline, required)]
    actor: Option<UserId>,
    #[schema(inline)]
    subject: UserId,
    #[schema(inline, required)]
    session: Option<SessionId>,
    /// The username, the new roles, the id of the token: what the rest leaves open.
    #[schema(required, example = "testuser")]
    detail: Option<String>,
    /// From where; none for the command line.
    #[schema(required, example = "192.0.2.7")]
    ip: Option<String>,
    #[schema(required, example = "curl/8.14.1")]
    user_agent: Option<String>,
}

/// Tells who did what, to whom, when, and from where: the latest first.
#[utoipa::path(
    get, path = "/admin/audit", operation_id = "audit", tag = "administration",
    security(("bearer" = ["users:read"])), params(RawAuditPage),
    responses(
        (status = 200, description = "A page of it", body = AuditLog),
        Refused<(BadToken, NeedsUsersRead, BadQuery)>,
    ),
)]
pub(super) async fn read(
    api: Data<Api>,
    bearer: Authenticated,
    Query(query): Query<RawAuditPage>,
) -> Result<impl Responder, ApiError> {
    bearer.require(Permission::UsersRead)?;
    let page = AuditPage::try_from(query)?;

    let limit = page.limit;
    let entries = api.users.ask(ReadAudit { page }).await?;

    Ok(Json(AuditLog::of(entries, limit)))
}

impl TryFrom<RawAuditPage> for AuditPage {
    type Error = ApiError;

    fn try_from(raw: RawAuditPage) -> Result<Self, ApiError> {
        Ok(Self {
            actor: raw.actor,
            subject: raw.subject,
            action: raw.action.as_deref().map(parse_action).transpose()?,
            since: raw.since.as_deref().map(parse_time).transpose()?,
            until: raw.until.as_deref().map(parse_time).transpose()?,
            after: raw.after,
            limit: limit(raw.limit)?,
        })
    }
}

fn parse_action(name: &str) -> Result<AuditAction, ApiError> {
    AuditAction::find(name).ok_or_else(|| ApiError::InvalidQuery("unknown action".to_owned()))
}

fn parse_time(text: &str) -> Result<OffsetDateTime, ApiError> {
    // Near the ends of the calendar a time may have no equal in UTC, in which it is kept.
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    let time = time.and_then(|time| time.checked_to_offset(UtcOffset::UTC));
    time.ok_or_else(|| ApiError::InvalidQuery("times are like 2026-01-31T12:00:00Z".to_owned()))
}

impl AuditLog {
    fn of(entries: Vec<AuditEntry>, limit: u32) -> Self {
        let is_full = entries.len() >= limit as usize;
        let next = entries.last().filter(|_| is_full).map(|entry| entry.id);
        Self { records: entries.into_iter().map(Record::of).collect(), next }
    }
}

impl Record {
    fn of(AuditEntry { id, record }: AuditEntry) -> Self {
        let AuditRecord { at, action, by, subject, session, detail } = record;
        let Initiator { user_id: actor, client, .. } = by;
        let (ip, user_agent) = client
            .map(|client| (client.address.to_string(), client.user_agent.as_str().to_owned()))
            .unzip();
        let (at, action) = (timestamp(at), action.as_str());
        Self { id, at, action, actor, subject, session, detail, ip, user_agent }
    }
}
