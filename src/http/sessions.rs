//! `/auth/sessions` and `/auth/logout-all`: the requester's own sessions.

use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, Responder};
use serde::Deserialize;
use utoipa::IntoParams;

use super::authenticated::Authenticated;
use super::error::ApiError;
use super::json::Json;
use super::page::{invalid_after, parse_limit};
use super::refused::{BadQuery, BadToken, NotFound, NotUser, Refused};
use super::state::Api;
use super::views::{Message, SessionListView};
use crate::actors::{ChangeUser, EndSession, ListSessions};
use crate::domain::{RequestOrigin, SessionId, SessionPosition, UserEdit, UserId};
use crate::store::SessionQuery;

const LOGGED_OUT: Message = Message { msg: "Logged out everywhere" };

/// Query of a list of sessions.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSessionQuery {
    /// `next` of the previous page.
    #[param(pattern = r"^(0|[1-9][0-9]{0,16})\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$|^$")]
    after: Option<String>,
    /// Maximum number of sessions.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// Log out everywhere
///
/// Ends every session of the user and revokes all their tokens.
#[utoipa::path(
    post, path = "/auth/logout-all", tag = "authentication", security(("access_token" = [])),
    responses(
        (
            status = 200, description = "Every session has ended", body = Message,
            example = json!(LOGGED_OUT),
        ),
        Refused<(BadToken, NotUser)>,
    ),
)]
pub(super) async fn logout_all(
    api: Data<Api>,
    bearer: Authenticated,
    origin: RequestOrigin,
) -> Result<impl Responder, ApiError> {
    let user_id = bearer.require_user()?;
    let requester = bearer.requester(origin);
    let change = ChangeUser { user_id, edit: UserEdit::EndSessions, requester };
    api.users.ask(change).await.map_err(ApiError::from_own_account)?;

    tracing::info!(user.id = %user_id, "user logged out everywhere");
    Ok(Json(LOGGED_OUT))
}

/// List your open sessions
///
/// Most recently used first, a page at a time.
#[utoipa::path(
    get, path = "/auth/sessions", operation_id = "list_sessions", tag = "account",
    security(("access_token" = [])), params(RawSessionQuery),
    responses(
        (
            status = 200, description = "A page of the open sessions", body = SessionListView,
            links(("end" = (
                operation_id = "end_session", parameters(("id" = "$response.body#/sessions/0/id")),
            ))),
        ),
        Refused<(BadToken, NotUser, BadQuery)>,
    ),
)]
pub(super) async fn list(
    api: Data<Api>,
    bearer: Authenticated,
    Query(query): Query<RawSessionQuery>,
) -> Result<impl Responder, ApiError> {
    let query = query.parse(bearer.require_user()?)?;

    let page = api.sessions.ask(ListSessions { query }).await?;

    Ok(Json(SessionListView::new(&page, bearer.claims.session_id)))
}

/// End one of your sessions
#[utoipa::path(
    delete, path = "/auth/sessions/{id}", operation_id = "end_session", tag = "account",
    security(("access_token" = [])),
    params(("id" = inline(SessionId), Path, description = "Id of the session")),
    responses(
        (status = 204, description = "The session has ended"),
        Refused<(BadToken, NotUser, NotFound)>,
    ),
)]
pub(super) async fn end(
    api: Data<Api>,
    bearer: Authenticated,
    origin: RequestOrigin,
    id: Path<SessionId>,
) -> Result<impl Responder, ApiError> {
    let session_id = *id;
    let user_id = bearer.require_user()?;
    let requester = bearer.requester(origin);
    api.sessions.ask(EndSession { session_id, owner: Some(user_id), requester }).await?;

    tracing::info!(user.id = %user_id, session.id = %session_id, "session ended");
    Ok(HttpResponse::NoContent().finish())
}

impl RawSessionQuery {
    /// Parses the query of a list of the sessions of one user.
    pub(super) fn parse(self, user_id: UserId) -> Result<SessionQuery, ApiError> {
        let after = self.after.as_deref().filter(|after| !after.is_empty());
        let after = after.map(str::parse::<SessionPosition>).transpose();
        let after = after.map_err(|_| invalid_after())?;
        Ok(SessionQuery { user_id, after, limit: parse_limit(self.limit)? })
    }
}
