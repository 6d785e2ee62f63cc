//! `/admin/users/{id}/reset` and `/auth/reset`: reset codes, with which users set a new password.

use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, Responder};
use serde::Deserialize;
use utoipa::ToSchema;

use super::admin;
use super::authenticated::Authenticated;
use super::body::JsonBody;
use super::credentials::parse_new_password;
use super::error::ApiError;
use super::json::{Json, reply_json};
use super::page::NoQuery;
use super::refused::{
    ActorFailed, BadJson, BadPassword, BadToken, LacksPermissions, MissingPassword,
    MissingResetCode, NeedsUsersWrite, NoParameters, NotFound, Overloaded, Refused,
    TooManyAttempts, UserDisabled, WrongResetCode,
};
use super::state::Api;
use super::views::{Message, ResetCodeView};
use crate::actors::{ActorError, ResetPassword};
use crate::domain::{AccountError, NewPassword, RequestOrigin, User, UserEdit, UserId};
use crate::metrics::ResetOutcome;
use crate::tokens::{generate_reset_code, hash_reset_code};

const RESET: Message = Message { msg: "Password changed" };

/// Reset code and new password.
#[derive(Deserialize, ToSchema)]
#[schema(as = PasswordReset)]
pub(super) struct RawReset {
    #[schema(value_type = String, example = "pcr_47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")]
    reset_code: Option<String>,
    #[schema(value_type = NewPassword)]
    new_password: Option<String>,
}

/// Make a reset code for an account
///
/// Its user sets a new password with it, once, within an hour. It replaces the code before, and any
/// change of the account voids it. Sessions go on until the reset.
#[utoipa::path(
    post, path = "/admin/users/{id}/reset", operation_id = "create_reset_code",
    tag = "administration", security(("access_token" = ["users:write"])),
    params(("id" = inline(UserId), Path, description = "Id of the account")),
    responses(
        (status = 201, description = "The reset code", body = ResetCodeView),
        Refused<(
            BadToken, NoParameters, NeedsUsersWrite, LacksPermissions, NotFound, UserDisabled,
        )>,
    ),
)]
pub(super) async fn create_code(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    let (code, hash) = generate_reset_code().map_err(|_| ApiError::no_random_bytes())?;
    admin::change(&api, &bearer, origin, *id, UserEdit::ResetCode(hash)).await?;
    Ok(reply_json(&mut HttpResponse::Created(), &ResetCodeView::new(&code)))
}

/// Set a new password with a reset code
///
/// Uses the code up and ends every session of the account.
#[utoipa::path(
    post, path = "/auth/reset", operation_id = "reset_password", tag = "account",
    request_body = RawReset,
    responses(
        (
            status = 200, description = "The password was changed", body = Message,
            example = json!(RESET),
        ),
        Refused<(
            BadJson, MissingResetCode, MissingPassword, BadPassword, WrongResetCode,
            TooManyAttempts, Overloaded, ActorFailed,
        )>,
    ),
)]
pub(super) async fn reset_password(
    api: Data<Api>,
    origin: RequestOrigin,
    body: JsonBody<RawReset>,
) -> Result<impl Responder, ApiError> {
    let RawReset { reset_code, new_password } = body.read().await?;
    let code = hash_reset_code(&reset_code.ok_or(ApiError::MissingResetCode)?);
    let password = parse_new_password(new_password, &api.passwords)?;

    let reset = api.users.ask(ResetPassword { code, password, origin }).await;
    api.metrics.password_resets.inc(reset_outcome(&reset));
    let user = reset?;

    tracing::info!(user.id = %user.id, "password reset with a code");
    Ok(Json(RESET))
}

fn reset_outcome(reset: &Result<User, ActorError>) -> ResetOutcome {
    match reset {
        Ok(_) => ResetOutcome::Success,
        Err(ActorError::Account(AccountError::InvalidResetCode)) => ResetOutcome::InvalidCode,
        Err(ActorError::Password(_)) => ResetOutcome::PasswordRefused,
        Err(ActorError::TooManyAttempts { .. }) => ResetOutcome::TooManyAttempts,
        Err(ActorError::Overloaded { .. }) => ResetOutcome::Overloaded,
        Err(_) => ResetOutcome::Error,
    }
}
