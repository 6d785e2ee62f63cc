//! `/oauth/revoke` (RFC 7009).

use actix_web::http::header::AUTHORIZATION;
use actix_web::web::Data;
use actix_web::{HttpRequest, Responder};

use super::authenticated::{is_revoked, verify_token};
use super::body::FormBody;
use super::caller::{Caller, ClientForm};
use super::error::{ApiError, AuthorizationHeaderError};
use super::introspect::RawToken;
use super::json::Json;
use super::refused::{
    BadForm, BadToken, MissingToken, NeedsTokensRevoke, Refused, TwoCredentials, WrongClient,
};
use super::state::Api;
use super::views::Message;
use crate::actors::{ActorError, EndSession, RevokeClientToken, RevokeToken};
use crate::domain::{Permission, RequestOrigin, Requester, SessionId};
use crate::tokens::{AccessClaims, Subject};

const REVOKED: Message = Message { msg: "Token revoked" };

/// Revoke a token (RFC 7009)
///
/// An access token is revoked alone; a refresh token ends its session. Tokens of others require the
/// permission `tokens:revoke`. Succeeds also if the token is invalid or already revoked. Without
/// credentials, a valid refresh token still ends its session.
#[utoipa::path(
    post, path = "/oauth/revoke", tag = "oauth", security((), ("client_secret" = []), ("access_token" = [])),
    request_body(content = RawToken, content_type = "application/x-www-form-urlencoded"),
    responses(
        (
            status = 200, description = "The token is no longer valid", body = Message,
            example = json!(REVOKED),
        ),
        Refused<(
            BadToken, WrongClient, TwoCredentials, BadForm, MissingToken, NeedsTokensRevoke,
        )>,
    ),
)]
pub(super) async fn revoke(
    api: Data<Api>,
    request: HttpRequest,
    origin: RequestOrigin,
    body: FormBody<RawToken>,
) -> Result<impl Responder, ApiError> {
    let has_header = request.headers().contains_key(AUTHORIZATION);
    let caller = if has_header { Some(Caller::from_header(&api, &request).await) } else { None };
    let form = match body.read().await {
        Ok(form) => form,
        Err(error) => return Err(refusal_of(caller).unwrap_or(error)),
    };
    let caller = match (caller, form.credentials()) {
        (Some(Ok(caller)), credentials) => {
            caller.require_no_other(credentials)?;
            Ok(caller)
        }
        (Some(Err(refusal)), _) => Err(refusal),
        (None, credentials) => Caller::from_form(&api, credentials).await,
    };
    match caller {
        Ok(caller) => revoke_by(&api, &request, &caller, form.token, origin).await?,
        Err(refusal) => end_session_of_bearer(&api, form.token, refusal, origin).await?,
    }
    Ok(Json(REVOKED))
}

/// Returns the reason why a caller is refused.
fn refusal_of(caller: Option<Result<Caller, ApiError>>) -> Option<ApiError> {
    match caller {
        Some(Ok(_)) => None,
        Some(Err(refusal)) => Some(refusal),
        None => Some(AuthorizationHeaderError::Missing.into()),
    }
}

/// Revokes a token for a caller.
async fn revoke_by(
    api: &Api,
    request: &HttpRequest,
    caller: &Caller,
    token: Option<String>,
    origin: RequestOrigin,
) -> Result<(), ApiError> {
    let token = token.ok_or(ApiError::MissingToken)?;
    let requester = caller.requester(origin);
    if let Some((session_id, _)) = api.tokens.verify_refresh_token(&token) {
        return end_session(api, caller, session_id, requester).await;
    }
    match verify_token(request, &token).await {
        Ok(claims) => revoke_access_token(api, caller, &claims, requester).await,
        // It is no longer valid, or never was.
        Err(ApiError::TokenRefused(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Revokes an access token. The permission is required for tokens of others.
async fn revoke_access_token(
    api: &Api,
    caller: &Caller,
    claims: &AccessClaims,
    requester: Requester,
) -> Result<(), ApiError> {
    if !caller.is(&claims.subject) {
        caller.require_permission(Some(&Permission::TOKENS_REVOKE))?;
    }
    if is_revoked(api, claims).await? {
        return Ok(());
    }
    let requester_id = requester.id();
    let (token_id, session_id) = (claims.token_id, claims.session_id);
    let expires_at = claims.issued_expires_at;
    match claims.subject {
        Subject::User { id: user_id, .. } => {
            let revoke = RevokeToken { token_id, expires_at, session_id, user_id, requester };
            api.sessions.ask(revoke).await?;
        }
        Subject::Client(client_id) => {
            let revoke =
                RevokeClientToken { client_id, token_id, expires_at, session_id, requester };
            api.clients.ask(revoke).await?;
        }
    }

    let requester_id = requester_id.map(tracing::field::display);
    tracing::info!(requester.id = requester_id, subject.id = %claims.subject, "token revoked");
    Ok(())
}

/// Ends the session of a refresh token. The permission is required for sessions of other users.
async fn end_session(
    api: &Api,
    caller: &Caller,
    session_id: SessionId,
    requester: Requester,
) -> Result<(), ApiError> {
    let permission = caller.require_permission(Some(&Permission::TOKENS_REVOKE));
    let owner = match (&permission, caller.user_id()) {
        (Ok(()), _) => None,
        (Err(_), Some(user_id)) => Some(user_id),
        (Err(_), None) => return permission,
    };
    let requester_id = requester.id().map(tracing::field::display);
    match api.sessions.ask(EndSession { session_id, owner, requester }).await {
        Ok(()) => {
            tracing::info!(requester.id = requester_id, session.id = %session_id, "session ended");
            Ok(())
        }
        Err(ActorError::SessionNotFound) => Ok(()),
        Err(ActorError::NotOwner) => permission,
        Err(error) => Err(error.into()),
    }
}

/// Ends the session of a refresh token that was shown without valid credentials. Any refresh token
/// of the session may end it: an earlier one would do so as a replay, too.
async fn end_session_of_bearer(
    api: &Api,
    token: Option<String>,
    refusal: ApiError,
    origin: RequestOrigin,
) -> Result<(), ApiError> {
    let session = token.and_then(|token| api.tokens.verify_refresh_token(&token));
    let (session_id, _) = session.ok_or(refusal)?;
    let requester = Requester::anonymous(origin);
    match api.sessions.ask(EndSession { session_id, owner: None, requester }).await {
        Ok(()) => {
            tracing::info!(session.id = %session_id, "session ended with its refresh token");
            Ok(())
        }
        Err(ActorError::SessionNotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
