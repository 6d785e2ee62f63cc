//! `/admin/users/{id}/sessions`: administration of the sessions of all accounts.

use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, Responder};

use super::admin::change;
use super::authenticated::Authenticated;
use super::error::ApiError;
use super::json::Json;
use super::page::NoQuery;
use super::refused::{
    BadQuery, BadToken, NeedsUsersRead, NeedsUsersWrite, NoParameters, NotFound, Refused,
};
use super::sessions::RawSessionQuery;
use super::state::Api;
use super::views::SessionListView;
use crate::actors::{EndSession, FindUser, ListSessions};
use crate::domain::{Permission, RequestOrigin, SessionId, UserEdit, UserId};

/// List the open sessions of a user
///
/// Most recently used first, a page at a time.
#[utoipa::path(
    get, path = "/admin/users/{id}/sessions", operation_id = "list_sessions_of_user",
    tag = "administration", security(("access_token" = ["users:read"])),
    params(("id" = inline(UserId), Path, description = "Id of the account"), RawSessionQuery),
    responses(
        (status = 200, description = "A page of the open sessions", body = SessionListView),
        Refused<(BadToken, BadQuery, NeedsUsersRead, NotFound)>,
    ),
)]
pub(super) async fn list(
    api: Data<Api>,
    bearer: Authenticated,
    Query(query): Query<RawSessionQuery>,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::USERS_READ)?;
    bearer.require_open_session(&api).await?;

    let query = query.parse(*id)?;

    api.users.ask(FindUser { user_id: *id }).await?;
    let page = api.sessions.ask(ListSessions { query }).await?;

    Ok(Json(SessionListView::new(&page, bearer.claims.session_id)))
}

/// End every session of a user
#[utoipa::path(
    delete, path = "/admin/users/{id}/sessions", operation_id = "end_sessions_of_user",
    tag = "administration", security(("access_token" = ["users:write"])),
    params(("id" = inline(UserId), Path, description = "Id of the account")),
    responses(
        (status = 204, description = "Every session has ended"),
        Refused<(BadToken, NoParameters, NeedsUsersWrite, NotFound)>,
    ),
)]
pub(super) async fn end_all(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    change(&api, &bearer, origin, *id, UserEdit::EndSessions).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// End one session of a user
#[utoipa::path(
    delete, path = "/admin/users/{id}/sessions/{session}", operation_id = "end_session_of_user",
    tag = "administration", security(("access_token" = ["users:write"])),
    params(
        ("id" = inline(UserId), Path, description = "Id of the account"),
        ("session" = inline(SessionId), Path, description = "Id of the session"),
    ),
    responses(
        (status = 204, description = "The session has ended"),
        Refused<(BadToken, NoParameters, NeedsUsersWrite, NotFound)>,
    ),
)]
pub(super) async fn end(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    path: Path<(UserId, SessionId)>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::USERS_WRITE)?;
    let (owner, session_id) = path.into_inner();

    let requester = bearer.requester(origin);
    api.sessions.ask(EndSession { session_id, owner: Some(owner), requester }).await?;

    tracing::info!(requester.id = %bearer.claims.subject, session.id = %session_id, "session ended");
    Ok(HttpResponse::NoContent().finish())
}
