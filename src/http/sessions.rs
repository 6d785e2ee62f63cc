//! `/auth/refresh`, `/auth/logout-all` and `/auth/sessions`: what a login has opened, renewed and ended.

use actix_web::web::{Data, Json, Path};
use actix_web::{HttpResponse, Responder};
use serde::{Deserialize, Serialize};
use tracing::Span;
use utoipa::ToSchema;

use super::auth::{TokenReply, token_reply};
use super::body::Body;
use super::openapi::{
    BadJson, BadToken, MissingRefreshToken, NotFound, Refused, Unanswered, WrongRefreshToken,
};
use super::{Api, ApiError, Authenticated, Message};
use crate::actors::{ChangeUser, EndSession, ListSessions, Refresh, SessionError};
use crate::clock::timestamp;
use crate::domain::{Client, Session, SessionId, UserEdit};
use crate::tokens::TokenRefusal;

const LOGGED_OUT: Message = Message { msg: "Logged out everywhere" };

/// The body of a refresh, as it came.
#[derive(Deserialize, ToSchema)]
#[schema(as = RefreshToken)]
pub(super) struct RawRefresh {
    #[schema(value_type = String, max_length = 75, min_length = 75)]
    refresh_token: Option<String>,
}

/// The sessions of a user.
#[derive(Serialize, ToSchema)]
#[schema(as = Sessions)]
pub(super) struct SessionList {
    sessions: Vec<SessionView>,
}

/// A session as its owner sees it. Times are those of RFC 3339.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
struct SessionView {
    #[schema(inline)]
    id: SessionId,
    #[schema(format = "date-time", example = "2026-05-01T09:30:00Z")]
    created_at: String,
    /// When it was opened or last refreshed.
    #[schema(format = "date-time", example = "2026-05-01T10:30:00Z")]
    last_used_at: String,
    #[schema(format = "date-time", example = "2026-05-31T09:30:00Z")]
    expires_at: String,
    #[schema(example = "192.0.2.7")]
    ip: String,
    #[schema(example = "curl/8.14.1")]
    user_agent: String,
    /// Whether it is that of the token that was shown.
    current: bool,
}

/// Exchanges a refresh token for the next pair of tokens.
#[utoipa::path(
    post, path = "/auth/refresh", tag = "sessions", request_body = RawRefresh,
    responses(
        (
            status = 200, description = "The next tokens", body = TokenReply<'_>,
            headers(("Cache-Control" = String)),
        ),
        Refused<(BadJson, MissingRefreshToken, WrongRefreshToken, Unanswered)>,
    ),
)]
pub(super) async fn refresh(
    api: Data<Api>,
    client: Client,
    Body(body): Body<RawRefresh>,
) -> Result<impl Responder, ApiError> {
    let token = body.refresh_token.ok_or(ApiError::MissingRefreshToken)?;
    let span = Span::current();

    let refreshed = match api.tokens.verify_refresh_token(&token) {
        Some((session, presented)) => {
            api.sessions.ask(Refresh { session, presented, client, span }).await
        }
        None => Err(SessionError::Over),
    };
    let outcome = match &refreshed {
        Ok(_) => "success",
        Err(SessionError::Over) => "refused",
        Err(_) => "error",
    };
    api.metrics.refreshes.with_label_values(&[outcome]).inc();
    let refreshed = refreshed.map_err(|error| match error {
        SessionError::Over => ApiError::RefreshTokenRefused,
        error => error.into(),
    })?;
    token_reply(&api, &refreshed)
}

/// Ends every session of the user.
#[utoipa::path(
    post, path = "/auth/logout-all", tag = "sessions", security(("bearer" = [])),
    responses(
        (status = 200, description = "Committed", body = Message, example = json!(LOGGED_OUT)),
        Refused<(BadToken,)>,
    ),
)]
pub(super) async fn logout_all(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
) -> Result<impl Responder, ApiError> {
    let (user_id, by) = (bearer.0.user_id, bearer.from(client));
    let edit = UserEdit::EndSessions;
    let change = ChangeUser { user_id, version: None, edit, but: None, by };
    api.sessions.ask(change).await.map_err(|error| match error {
        // The account is gone, and this session with it.
        SessionError::UserChanged => TokenRefusal::Revoked.into(),
        error => ApiError::from(error),
    })?;

    tracing::info!(user.id = %user_id, "user logged out everywhere");
    Ok(Json(LOGGED_OUT))
}

/// Lists the own sessions.
#[utoipa::path(
    get, path = "/auth/sessions", operation_id = "list_sessions", tag = "sessions",
    security(("bearer" = [])),
    responses(
        (
            status = 200, description = "Those that are open", body = SessionList,
            links(("end" = (
                operation_id = "end_session", parameters(("id" = "$response.body#/sessions/0/id")),
            ))),
        ),
        Refused<(BadToken,)>,
    ),
)]
pub(super) async fn list(
    api: Data<Api>,
    Authenticated(claims): Authenticated,
) -> Result<impl Responder, ApiError> {
    let sessions = api.sessions.ask(ListSessions { user_id: claims.user_id }).await?;

    Ok(Json(SessionList::of(sessions, claims.session_id)))
}

/// Ends one of the own sessions.
#[utoipa::path(
    delete, path = "/auth/sessions/{id}", operation_id = "end_session", tag = "sessions",
    security(("bearer" = [])), params(("id" = inline(SessionId), Path)),
    responses((status = 204, description = "Committed"), Refused<(BadToken, NotFound)>),
)]
pub(super) async fn end(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    id: Path<SessionId>,
) -> Result<impl Responder, ApiError> {
    let (session, owner) = (*id, Some(bearer.0.user_id));
    api.sessions.ask(EndSession { session, owner, by: bearer.from(client) }).await?;

    tracing::info!(user.id = %bearer.0.user_id, session.id = %session, "session ended");
    Ok(HttpResponse::NoContent().finish())
}

impl SessionList {
    pub(super) fn of(sessions: Vec<Session>, current: SessionId) -> Self {
        let view = |session| SessionView::of(session, current);
        Self { sessions: sessions.into_iter().map(view).collect() }
    }
}

impl SessionView {
    fn of(session: Session, current: SessionId) -> Self {
        let Session { id, created_at, last_used_at, expires_at, client, .. } = session;
        Self {
            id,
            created_at: timestamp(created_at),
            last_used_at: timestamp(last_used_at),
            expires_at: timestamp(expires_at),
            ip: client.address.to_string(),
            user_agent: client.user_agent.as_str().to_owned(),
            current: id == current,
        }
    }
}
