//! `/auth/me` and `/auth/password`: what users do with their own accounts.

use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, Responder};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::body::Body;
use super::openapi::{
    BadJson, BadPassword, BadToken, LastAdmin, MissingPassword, Overloaded, Refused, WrongPassword,
};
use super::{Api, ApiError, Authenticated, Message};
use crate::actors::{ChangeUser, FindUser, HashPassword, ProvePassword, SessionError, UserError};
use crate::clock::timestamp;
use crate::domain::{
    Client, Password, Permissions, Roles, SessionId, User, UserEdit, UserId, granted_by,
};
use crate::tokens::TokenRefusal;

const CHANGED: Message = Message { msg: "Password changed" };

/// The body of a change of password, as it came.
#[derive(Deserialize, ToSchema)]
#[schema(
    as = PasswordChange,
    example = json!({ "current_password": "testpass", "new_password": "correct horse" }),
)]
pub(super) struct RawPasswordChange {
    #[schema(value_type = Password)]
    current_password: Option<String>,
    #[schema(value_type = Password)]
    new_password: Option<String>,
}

/// The body of a deletion, as it came.
#[derive(Deserialize, ToSchema)]
#[schema(as = Deletion)]
pub(super) struct RawDeletion {
    #[schema(value_type = Password)]
    password: Option<String>,
}

/// An account as its owner sees it.
#[derive(Serialize, ToSchema)]
pub(super) struct Account {
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
    let user = api.users.ask(FindUser { id: claims.user_id }).await.map_err(own)?;

    Ok(Json(Account::of(user)))
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
    bearer: Authenticated,
    client: Client,
    Body(body): Body<RawPasswordChange>,
) -> Result<impl Responder, ApiError> {
    let current = require(body.current_password)?;
    let new = Password::parse(&require(body.new_password)?)?;

    let user = prove(&api, &bearer, &current).await?;
    let hash = api.users.ask(HashPassword { password: new }).await?;
    let (edit, but) = (UserEdit::Password(hash), Some(bearer.0.session_id));
    change(&api, &bearer, client, &user, edit, but).await?;

    tracing::info!(user.id = %user.id, "password changed");
    Ok(Json(CHANGED))
}

/// Deletes the account with its sessions, and frees its name.
#[utoipa::path(
    delete, path = "/auth/me", tag = "account", security(("bearer" = [])),
    request_body = RawDeletion,
    responses(
        (status = 204, description = "Committed"),
        Refused<(BadToken, BadJson, MissingPassword, WrongPassword, LastAdmin, Overloaded)>,
    ),
)]
pub(super) async fn delete_me(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    Body(body): Body<RawDeletion>,
) -> Result<impl Responder, ApiError> {
    let password = require(body.password)?;

    let user = prove(&api, &bearer, &password).await?;
    change(&api, &bearer, client, &user, UserEdit::Delete, None).await?;

    tracing::info!(user.id = %user.id, "account deleted");
    Ok(HttpResponse::NoContent().finish())
}

/// Takes a password that is there.
pub(super) fn require(password: Option<String>) -> Result<Zeroizing<String>, ApiError> {
    let password = password.map(Zeroizing::new).filter(|password| !password.is_empty());
    password.ok_or(ApiError::MissingPassword)
}

/// Has the bearer of a token prove to be its owner.
async fn prove(api: &Api, bearer: &Authenticated, password: &str) -> Result<User, ApiError> {
    let (id, password) = (bearer.0.user_id, Password::parse(password).ok());
    api.users.ask(ProvePassword { id, password }).await.map_err(own)
}

/// Changes the account of a bearer who has proved to own it.
async fn change(
    api: &Api,
    bearer: &Authenticated,
    client: Client,
    user: &User,
    edit: UserEdit,
    but: Option<SessionId>,
) -> Result<User, SessionError> {
    let (user_id, version) = (user.id, Some(user.version));
    api.sessions.ask(ChangeUser { user_id, version, edit, but, by: bearer.from(client) }).await
}

/// Says what a failure means to whoever is logged in to the account.
fn own(error: UserError) -> ApiError {
    match error {
        // Its tokens are refused from now on, this one among them.
        UserError::Gone => TokenRefusal::Revoked.into(),
        UserError::InvalidCredentials => ApiError::WrongPassword,
        error => error.into(),
    }
}

impl Account {
    pub(super) fn of(user: User) -> Self {
        let User { id, username, roles, created_at, .. } = user;
        Self {
            id,
            username: username.as_str().to_owned(),
            roles,
            permissions: granted_by(roles),
            created_at: timestamp(created_at),
        }
    }
}
