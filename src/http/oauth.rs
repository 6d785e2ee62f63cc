//! `/oauth/introspect` (RFC 7662) and `/oauth/revoke` (RFC 7009).

use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, Responder};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::authenticated::{Authenticated, is_revoked, verify_token};
use super::body::FormBody;
use super::error::ApiError;
use super::refused::{BadForm, BadToken, MissingToken, NeedsTokensIntrospect, Refused};
use super::state::Api;
use super::views::Message;
use crate::actors::{ActorError, EndSession, RevokeToken};
use crate::domain::{Permission, RequestOrigin, Requester, SessionId, TokenId};
use crate::tokens::{AccessClaims, Subject};

const REVOKED: Message = Message { msg: "Token revoked" };

/// Access token or refresh token. `token_type_hint` is ignored: the formats differ.
#[derive(Deserialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct RawToken {
    #[schema(value_type = String)]
    token: Option<String>,
}

/// State of a token (RFC 7662 section 2.2). An inactive one has no other fields.
#[derive(Serialize, ToSchema)]
struct Introspection {
    active: bool,
    #[serde(flatten)]
    #[schema(value_type = ActiveToken)]
    claims: Option<ActiveToken>,
}

/// Claims of an active token.
#[derive(Serialize, ToSchema)]
struct ActiveToken {
    #[schema(required = false, example = "Bearer")]
    token_type: &'static str,
    /// Permissions, separated by spaces.
    #[schema(required = false, example = "dashboard:read")]
    scope: String,
    #[schema(required = false, example = "testuser")]
    username: String,
    #[schema(required = false)]
    sub: String,
    #[schema(required = false, inline)]
    sid: SessionId,
    #[schema(required = false, inline)]
    jti: TokenId,
    /// Expiry in seconds since the Unix epoch.
    #[schema(required = false, example = 1_777_627_800)]
    exp: i64,
}

/// Introspect an access token (RFC 7662)
///
/// Refresh tokens are reported as inactive: only this service accepts them.
#[utoipa::path(
    post, path = "/oauth/introspect", tag = "oauth", security(("bearer" = ["tokens:introspect"])),
    request_body(content = RawToken, content_type = "application/x-www-form-urlencoded"),
    responses(
        (
            status = 200, description = "The state of the token", body = Introspection,
            headers(("Cache-Control" = String)),
        ),
        Refused<(BadToken, BadForm, MissingToken, NeedsTokensIntrospect)>,
    ),
)]
pub(super) async fn introspect(
    api: Data<Api>,
    bearer: Authenticated,
    body: FormBody<RawToken>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::TOKENS_INTROSPECT)?;
    let token = body.read().await?.token.ok_or(ApiError::MissingToken)?;

    let claims = match verify_token(&api, &token).await {
        Ok(claims) if is_revoked(&api, &claims).await? => None,
        Ok(claims) => Some(ActiveToken::from(claims)),
        Err(ApiError::TokenRefused(_)) => None,
        Err(error) => return Err(error),
    };
    let introspection = Introspection { active: claims.is_some(), claims };
    Ok(Json(introspection))
}

/// Revoke a token (RFC 7009)
///
/// An access token is revoked alone; a refresh token ends its session. Tokens of other users
/// require the permission `tokens:introspect`. Succeeds also if the token is invalid or already
/// revoked. Without a valid access token, a valid refresh token still ends its session.
#[utoipa::path(
    post, path = "/oauth/revoke", tag = "oauth", security((), ("bearer" = [])),
    request_body(content = RawToken, content_type = "application/x-www-form-urlencoded"),
    responses(
        (
            status = 200, description = "The token is no longer valid", body = Message,
            example = json!(REVOKED),
        ),
        Refused<(BadToken, BadForm, MissingToken, NeedsTokensIntrospect)>,
    ),
)]
pub(super) async fn revoke(
    api: Data<Api>,
    bearer: Result<Authenticated, ApiError>,
    origin: RequestOrigin,
    body: FormBody<RawToken>,
) -> Result<impl Responder, ApiError> {
    let bearer = match bearer {
        Ok(bearer) => bearer,
        Err(refusal) => {
            let token = body.read().await.ok().and_then(|body| body.token);
            let session = token.and_then(|token| api.tokens.verify_refresh_token(&token));
            let (session_id, _) = session.ok_or(refusal)?;
            end_session_of_bearer(&api, session_id, Requester::anonymous(origin)).await?;
            return Ok(HttpResponse::Ok().json(REVOKED));
        }
    };
    let token = body.read().await?.token.ok_or(ApiError::MissingToken)?;

    let requester = bearer.requester(origin);
    if let Some((session_id, _)) = api.tokens.verify_refresh_token(&token) {
        end_session(&api, &bearer, session_id, requester).await?;
        return Ok(HttpResponse::Ok().json(REVOKED));
    }
    match verify_token(&api, &token).await {
        Ok(claims) => revoke_access_token(&api, &bearer, &claims, requester).await?,
        // It is no longer valid, or never was.
        Err(ApiError::TokenRefused(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(HttpResponse::Ok().json(REVOKED))
}

/// Revokes an access token. The permission is required for tokens of other users.
async fn revoke_access_token(
    api: &Api,
    bearer: &Authenticated,
    claims: &AccessClaims,
    requester: Requester,
) -> Result<(), ApiError> {
    if claims.subject != bearer.claims.subject {
        bearer.require_permission(&Permission::TOKENS_INTROSPECT)?;
    }
    if is_revoked(api, claims).await? {
        return Ok(());
    }
    let Subject::User { id: user_id, .. } = claims.subject else { return Ok(()) };
    let revoke = RevokeToken {
        token_id: claims.token_id,
        expires_at: claims.issued_expires_at,
        session_id: claims.session_id,
        user_id,
        requester,
    };
    api.sessions.ask(revoke).await?;

    tracing::info!(requester.id = %bearer.claims.subject, subject.id = %user_id, "token revoked");
    Ok(())
}

/// Ends the session of a refresh token. The permission is required for sessions of other users.
async fn end_session(
    api: &Api,
    bearer: &Authenticated,
    session_id: SessionId,
    requester: Requester,
) -> Result<(), ApiError> {
    let permission = bearer.require_permission(&Permission::TOKENS_INTROSPECT);
    let owner = match &permission {
        Ok(()) => None,
        Err(_) => Some(bearer.require_user()?),
    };
    match api.sessions.ask(EndSession { session_id, owner, requester }).await {
        Ok(()) => {
            let requester = &bearer.claims.subject;
            tracing::info!(requester.id = %requester, session.id = %session_id, "session ended");
            Ok(())
        }
        Err(ActorError::SessionNotFound) => Ok(()),
        Err(ActorError::NotOwner) => permission,
        Err(error) => Err(error.into()),
    }
}

/// Ends the session of a refresh token that was shown without an access token. Any refresh token of
/// the session may end it: an earlier one would do so as a replay, too.
async fn end_session_of_bearer(
    api: &Api,
    session_id: SessionId,
    requester: Requester,
) -> Result<(), ApiError> {
    match api.sessions.ask(EndSession { session_id, owner: None, requester }).await {
        Ok(()) => {
            tracing::info!(session.id = %session_id, "session ended with its refresh token");
            Ok(())
        }
        Err(ActorError::SessionNotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl From<AccessClaims> for ActiveToken {
    fn from(claims: AccessClaims) -> Self {
        Self {
            token_type: "Bearer",
            scope: claims.permissions.to_string(),
            username: claims.subject.name().into_owned(),
            sub: claims.subject.to_string(),
            sid: claims.session_id,
            jti: claims.token_id,
            exp: claims.expires_at.unix_timestamp(),
        }
    }
}
