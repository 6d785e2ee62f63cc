//! `/oauth/introspect` (RFC 7662) and `/oauth/revoke` (RFC 7009): tokens in the hands of those who did
//! not issue them.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::authenticated::is_revoked;
use super::body::Form;
use super::openapi::{BadForm, BadToken, MissingToken, NeedsTokensIntrospect, Refused};
use super::{Api, ApiError, Authenticated, Message};
use crate::actors::{EndSession, Revoke, Revoked, SessionError};
use crate::domain::{Client, Initiator, Permission, SessionId, TokenId, UserId};
use crate::tokens::AccessClaims;

const REVOKED: Message = Message { msg: "Token revoked" };

/// The body of both, as it came. What kind of token it is, is seen by looking.
#[derive(Deserialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct RawToken {
    #[schema(value_type = String)]
    token: Option<String>,
}

/// What is said about a token (RFC 7662 section 2.2).
#[derive(Serialize, ToSchema)]
struct Introspection {
    active: bool,
    #[serde(flatten)]
    #[schema(value_type = ActiveToken)]
    claims: Option<ActiveToken>,
}

/// What is said, moreover, about a token that is good at this moment.
#[derive(Serialize, ToSchema)]
struct ActiveToken {
    #[schema(required = false, example = "Bearer")]
    token_type: &'static str,
    /// Permissions, with spaces between them.
    #[schema(required = false, example = "dashboard:read")]
    scope: String,
    #[schema(required = false, example = "testuser")]
    username: String,
    #[schema(required = false, inline)]
    sub: UserId,
    #[schema(required = false, inline)]
    sid: SessionId,
    #[schema(required = false, inline)]
    jti: TokenId,
    /// Seconds since 1970.
    #[schema(required = false, example = 1_777_627_800)]
    exp: i64,
}

/// Tells whether an access token is good (RFC 7662).
///
/// A refresh token is nobody's business but the service's: it is inactive.
#[utoipa::path(
    post, path = "/oauth/introspect", tag = "oauth", security(("bearer" = ["tokens:introspect"])),
    request_body(content = RawToken, content_type = "application/x-www-form-urlencoded"),
    responses(
        (
            status = 200, description = "What is to be said about it", body = Introspection,
            headers(("Cache-Control" = String)),
        ),
        Refused<(BadToken, BadForm, MissingToken, NeedsTokensIntrospect)>,
    ),
)]
pub(super) async fn introspect(
    api: Data<Api>,
    bearer: Authenticated,
    Form(body): Form<RawToken>,
) -> Result<impl Responder, ApiError> {
    bearer.require(Permission::TokensIntrospect)?;
    let token = body.token.ok_or(ApiError::MissingToken)?;

    let claims = match api.tokens.verify(&token, api.clock.now()) {
        Ok(claims) if !is_revoked(&api, &claims).await? => Some(ActiveToken::of(claims)),
        _ => None,
    };
    let introspection = Introspection { active: claims.is_some(), claims };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(introspection))
}

/// Ends a token (RFC 7009): an own one or, with the permission `tokens:introspect`, any.
///
/// A token that is none, or is dead already, is as dead afterwards.
#[utoipa::path(
    post, path = "/oauth/revoke", tag = "oauth", security(("bearer" = [])),
    request_body(content = RawToken, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "Committed", body = Message, example = json!(REVOKED)),
        Refused<(BadToken, BadForm, MissingToken, NeedsTokensIntrospect)>,
    ),
)]
pub(super) async fn revoke(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    Form(body): Form<RawToken>,
) -> Result<impl Responder, ApiError> {
    let token = body.token.ok_or(ApiError::MissingToken)?;

    let by = bearer.from(client);
    if let Ok(claims) = api.tokens.verify(&token, api.clock.now()) {
        revoke_token(&api, &bearer, claims, by).await?;
    } else if let Some((session, _)) = api.tokens.verify_refresh_token(&token) {
        end_session(&api, &bearer, session, by).await?;
    }

    Ok(HttpResponse::Ok().json(REVOKED))
}

/// Revokes an access token: the bearer's own, or, with the permission, anybody's.
async fn revoke_token(
    api: &Api,
    bearer: &Authenticated,
    claims: AccessClaims,
    by: Initiator,
) -> Result<(), ApiError> {
    if claims.user_id != bearer.0.user_id {
        bearer.require(Permission::TokensIntrospect)?;
    }
    if !is_revoked(api, &claims).await? {
        let (what, user_id) = (Revoked::Token(claims.token_id), claims.user_id);
        api.sessions.ask(Revoke { what, user_id, by }).await?;
        tracing::info!(user.id = %bearer.0.user_id, subject.id = %user_id, "token revoked");
    }
    Ok(())
}

/// Ends the session of a refresh token: the bearer's own, or, with the permission, anybody's.
async fn end_session(
    api: &Api,
    bearer: &Authenticated,
    session: SessionId,
    by: Initiator,
) -> Result<(), ApiError> {
    let permission = bearer.require(Permission::TokensIntrospect);
    let owner = permission.is_err().then_some(bearer.0.user_id);
    match api.sessions.ask(EndSession { session, owner, by }).await {
        Err(SessionError::Over) => Ok(()),
        Err(SessionError::Foreign) => permission,
        outcome => {
            outcome?;
            tracing::info!(user.id = %bearer.0.user_id, session.id = %session, "session ended");
            Ok(())
        }
    }
}

impl ActiveToken {
    fn of(claims: AccessClaims) -> Self {
        let scope: Vec<_> = claims.permissions.names().collect();
        Self {
            token_type: "Bearer",
            scope: scope.join(" "),
            username: claims.username,
            sub: claims.user_id,
            sid: claims.session_id,
            jti: claims.token_id,
            exp: claims.expires_at.unix_timestamp(),
        }
    }
}
