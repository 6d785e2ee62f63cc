//! `/auth/me` and `/auth/password`: the requester's own account.

use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use serde::Deserialize;
use utoipa::ToSchema;

use super::authenticated::Authenticated;
use super::body::JsonBody;
use super::credentials::{parse_current_password, parse_new_password};
use super::error::ApiError;
use super::json::Json;
use super::refused::{
    BadJson, BadPassword, BadToken, LastAdmin, MissingPassword, NotUser, Overloaded, Refused,
    TooManyAttempts, TooManyPasswordChanges, WrongPassword,
};
use super::state::Api;
use super::views::{AccountView, Message};
use crate::actors::{ChangeOwnPassword, DeleteOwnAccount, FindUser};
use crate::domain::{NewPassword, Password, RequestOrigin};

const CHANGED: Message = Message { msg: "Password changed" };

/// Change of a password.
#[derive(Deserialize, ToSchema)]
#[schema(
    as = PasswordChange,
    example = json!({ "current_password": "testpass", "new_password": "correct horse" }),
)]
pub(super) struct RawPasswordChange {
    #[schema(value_type = Password)]
    current_password: Option<String>,
    #[schema(value_type = NewPassword)]
    new_password: Option<String>,
}

/// Confirmation of a deletion.
#[derive(Deserialize, ToSchema)]
#[schema(as = Deletion)]
pub(super) struct RawDeletion {
    #[schema(value_type = Password)]
    password: Option<String>,
}

/// Read your account
#[utoipa::path(
    get, path = "/auth/me", tag = "account", security(("access_token" = [])),
    responses(
        (status = 200, description = "The account", body = AccountView),
        Refused<(BadToken, NotUser)>,
    ),
)]
pub(super) async fn me(api: Data<Api>, bearer: Authenticated) -> Result<impl Responder, ApiError> {
    let find = FindUser { user_id: bearer.require_user()? };
    let user = api.users.ask(find).await.map_err(ApiError::from_own_account)?;

    Ok(Json(AccountView::from(&user)))
}

/// Change your password
///
/// Ends every other session of the account.
#[utoipa::path(
    put, path = "/auth/password", tag = "account", security(("access_token" = [])),
    request_body = RawPasswordChange,
    responses(
        (
            status = 200, description = "The password was changed", body = Message,
            example = json!(CHANGED),
        ),
        Refused<(
            BadToken, NotUser, BadJson, MissingPassword, BadPassword, WrongPassword,
            TooManyAttempts, TooManyPasswordChanges, Overloaded,
        )>,
    ),
)]
pub(super) async fn change_password(
    api: Data<Api>,
    bearer: Authenticated,
    origin: RequestOrigin,
    body: JsonBody<RawPasswordChange>,
) -> Result<impl Responder, ApiError> {
    let user_id = bearer.require_user()?;
    let body = body.read().await?;
    let change = ChangeOwnPassword {
        user_id,
        current: parse_current_password(body.current_password)?,
        new: parse_new_password(body.new_password, &api.passwords)?,
        keep_session: bearer.claims.session_id,
        requester: bearer.requester(origin),
    };
    let user = api.users.ask(change).await.map_err(ApiError::from_own_account)?;

    tracing::info!(user.id = %user.id, "password changed");
    Ok(Json(CHANGED))
}

/// Delete your account
///
/// Ends its sessions and frees its username.
#[utoipa::path(
    delete, path = "/auth/me", tag = "account", security(("access_token" = [])),
    request_body = RawDeletion,
    responses(
        (status = 204, description = "The account was deleted"),
        Refused<(
            BadToken, NotUser, BadJson, MissingPassword, WrongPassword, LastAdmin, TooManyAttempts,
            Overloaded,
        )>,
    ),
)]
pub(super) async fn delete_me(
    api: Data<Api>,
    bearer: Authenticated,
    origin: RequestOrigin,
    body: JsonBody<RawDeletion>,
) -> Result<impl Responder, ApiError> {
    let user_id = bearer.require_user()?;
    let delete = DeleteOwnAccount {
        user_id,
        password: parse_current_password(body.read().await?.password)?,
        requester: bearer.requester(origin),
    };
    let user = api.users.ask(delete).await.map_err(ApiError::from_own_account)?;

    tracing::info!(user.id = %user.id, "account deleted");
    Ok(HttpResponse::NoContent().finish())
}
