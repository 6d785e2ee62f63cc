//! `/auth/me` and `/auth/password`: what users do with their own accounts.

use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, Responder};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::body::Body;
use super::openapi::{
    BadJson, BadPassword, BadToken, MissingPassword, Overloaded, Refused, WrongPassword,
};
use super::sessions::timestamp;
use super::{Api, ApiError, Authenticated, Message};
use crate::actors::{ChangePassword, DeleteUser, FindUser, HashPassword, ProvePassword, UserError};
use crate::domain::{Password, Permissions, Roles, User, UserId, granted_by};

const CHANGED: Message = Message { msg: "Password changed" };

/// The body of a change of password, as it came.
#[derive(Deserialize, ToSchema)]
#[schema(as = PasswordChange)]
pub(super) struct RawPasswordChange {
    #[schema(value_type = String, min_length = 8, max_length = 256, format = "password", example = "testpass")]
    current_password: Option<String>,
    #[schema(value_type = String, min_length = 8, max_length = 256, format = "password", example = "correct horse")]
    new_password: Option<String>,
}

/// The body of a deletion, as it came.
#[derive(Deserialize, ToSchema)]
#[schema(as = Deletion)]
pub(super) struct RawDeletion {
    #[schema(value_type = String, min_length = 8, max_length = 256, format = "password", example = "testpass")]
    password: Option<String>,
}

/// An account as its owner sees it.
#[derive(Serialize, ToSchema)]
struct Account {
    #[schema(inline)]
    id: UserId,
    #[schema(example = "testuser")]
    username: String,
    #[schema(inline)]
    roles: Roles,
    #[schema(inline)]
    permissions: Permissions,
    #[schema(format = "date-time", example = "2026-05-01T09:30:00Z")]
    created_at: String,
}

/// Shows the own account.
#[utoipa::path(
    get, path = "/auth/me", tag = "account", security(("bearer" = [])),
    responses((status = 200, description = "The account", body = Account), Refused<(BadToken,)>),
)]
pub(super) async fn me(
    api: Data<Api>,
    Authenticated(claims): Authenticated,
) -> Result<impl Responder, ApiError> {
    let User { id, username, roles, created_at, .. } =
        api.users.ask(FindUser { id: claims.user_id }).await?;
    Ok(Json(Account {
        id,
        username: username.as_str().to_owned(),
        roles,
        permissions: granted_by(roles),
        created_at: timestamp(created_at),
    }))
}

/// Changes the password and ends every other session.
#[utoipa::path(
    put, path = "/auth/password", tag = "account", security(("bearer" = [])),
    request_body = RawPasswordChange,
    responses(
        (status = 200, description = "Committed", body = Message, example = json!(CHANGED)),
        Refused<(BadToken, BadJson, MissingPassword, BadPassword, WrongPassword, Overloaded)>,
    ),
)]
pub(super) async fn change_password(
    api: Data<Api>,
    Authenticated(claims): Authenticated,
    Body(body): Body<RawPasswordChange>,
) -> Result<impl Responder, ApiError> {
    let current = require(body.current_password)?;
    let new = Password::parse(&require(body.new_password)?)?;

    let User { id: user_id, version, .. } = prove(&api, claims.user_id, &current).await?;
    let new = api.users.ask(HashPassword { password: new }).await?;
    let but = claims.session_id;
    api.sessions.ask(ChangePassword { user_id, version, new, but }).await?;

    tracing::info!(user.id = %user_id, "password changed");
    Ok(Json(CHANGED))
}

/// Deletes the account with its sessions, and frees its name.
#[utoipa::path(
    delete, path = "/auth/me", tag = "account", security(("bearer" = [])), request_body = RawDeletion,
    responses(
        (status = 204, description = "Committed"),
        Refused<(BadToken, BadJson, MissingPassword, WrongPassword, Overloaded)>,
    ),
)]
pub(super) async fn delete_me(
    api: Data<Api>,
    Authenticated(claims): Authenticated,
    Body(body): Body<RawDeletion>,
) -> Result<impl Responder, ApiError> {
    let password = require(body.password)?;

    let User { id: user_id, version, .. } = prove(&api, claims.user_id, &password).await?;
    api.sessions.ask(DeleteUser { user_id, version }).await?;

    tracing::info!(user.id = %user_id, "account deleted");
    Ok(HttpResponse::NoContent().finish())
}

fn require(password: Option<String>) -> Result<Zeroizing<String>, ApiError> {
    let password = password.map(Zeroizing::new).filter(|password| !password.is_empty());
    password.ok_or(ApiError::MissingPassword)
}

/// Has the bearer of a token prove to be its owner.
async fn prove(api: &Api, id: UserId, password: &str) -> Result<User, ApiError> {
    let password = Password::parse(password).ok();
    match api.users.ask(ProvePassword { id, password }).await {
        Err(UserError::InvalidCredentials) => Err(ApiError::WrongPassword),
        outcome => Ok(outcome?),
    }
}
