//! `/auth/register`, `/auth/login`, `/auth/refresh` and `/auth/logout`.

use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::authenticated::Authenticated;
use super::body::JsonBody;
use super::credentials::RawCredentials;
use super::error::ApiError;
use super::json::reply_json;
use super::refused::{
    ActorFailed, BadAudience, BadJson, BadPassword, BadToken, BadUsername, MissingCredentials,
    MissingRefreshToken, NotUser, Overloaded, Refused, RegistrationClosed, ScopeTooLong, Stale,
    TooManyAttempts, TooManyRegistrations, TooManyRevocations, UserExists, WrongCredentials,
    WrongRefreshToken,
};
use super::state::Api;
use super::views::Message;
use crate::actors::{
    ActorError, LogOut, LoggedIn, Login, OpenSession, Refresh, Register, TokenGrant,
};
use crate::domain::{
    AccountError, Audience, Device, Metadata, Password, RequestOrigin, Requester, RoleName, Roles,
    User, Username,
};
use crate::metrics::{LoginOutcome, RefreshOutcome, RegistrationOutcome};

const REGISTERED: Message = Message { msg: "User registered successfully" };
const LOGGED_OUT: Message = Message { msg: "Successfully logged out" };

/// Username and password, and the audience of the access tokens.
#[derive(Deserialize, ToSchema)]
#[schema(as = Login, example = json!({ "username": "testuser", "password": "testpass" }))]
pub(super) struct RawLogin {
    #[schema(value_type = Username)]
    username: Option<String>,
    #[schema(value_type = Password)]
    password: Option<String>,
    /// Recipients of the access tokens (`aud`), from the default ones: the issuer and
    /// `JWT_AUDIENCE`. Without the issuer, this service does not accept the access tokens.
    audience: Option<Vec<String>>,
    /// `device_token` of an earlier login on this device. Failed logins elsewhere then do not delay
    /// this one. A token that is not valid is ignored.
    device_token: Option<String>,
}

/// Refresh token.
#[derive(Deserialize, ToSchema)]
#[schema(as = RefreshToken)]
pub(super) struct RawRefreshToken {
    #[schema(
        value_type = String, max_length = 75, min_length = 75,
        example = "rLVu0mXvTMK0dFhrA0nW4gAAAAAAAAABb2Zmc3ByaW5nIG9mIGEga2V5IGFuZCBhIHNlc3Npb24"
    )]
    refresh_token: Option<String>,
}

/// Pair of tokens (RFC 6749 section 5.1).
#[derive(Serialize, ToSchema)]
#[schema(as = Tokens)]
struct TokensView {
    /// Sent as `Authorization: Bearer <JWT>`.
    #[schema(
        example = "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJwb3J0Y3VsbGlzIn0.c2lnbmF0dXJl"
    )]
    access_token: String,
    /// Valid for one exchange.
    #[schema(
        example = "rLVu0mXvTMK0dFhrA0nW4gAAAAAAAAABb2Zmc3ByaW5nIG9mIGEga2V5IGFuZCBhIHNlc3Npb24"
    )]
    refresh_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Life of the access token in seconds.
    #[schema(example = 3600)]
    expires_in: u64,
}

/// Tokens of a new session.
#[derive(Serialize, ToSchema)]
#[schema(as = LoginTokens)]
struct LoginView {
    #[serde(flatten)]
    tokens: TokensView,
    /// Kept by the client for its next login with this username; valid for a year, until the
    /// account changes. It proves nothing by itself.
    #[schema(
        example = "Zm91ciByYW5kb20gd29yZHNmaXZlIHJhbmRvbSB3b3Jkc3YAAAAAAAAAAGjQpYDs3MnXZHRlbiByYW5kb20gd29yZHMgb2YgYW4gSE1BQyBzZWFs"
    )]
    device_token: String,
}

/// Register an account
#[utoipa::path(
    post, path = "/auth/register", tag = "authentication", request_body = RawCredentials,
    responses(
        (
            status = 201, description = "The account was created", body = Message,
            links(("login" = (operation_id = "login", request_body = "$request.body"))),
            example = json!(REGISTERED),
        ),
        Refused<(
            BadJson, MissingCredentials, BadUsername, BadPassword, RegistrationClosed, UserExists,
            TooManyRegistrations, Overloaded, ActorFailed,
        )>,
    ),
)]
pub(super) async fn register(
    api: Data<Api>,
    origin: RequestOrigin,
    body: JsonBody<RawCredentials>,
) -> Result<impl Responder, ApiError> {
    if !api.is_registration_open {
        api.metrics.registrations.inc(RegistrationOutcome::Closed);
        return Err(ApiError::RegistrationClosed);
    }
    let (username, password) = body.read().await?.parse(&api.passwords)?;

    let roles = Roles::from_iter([RoleName::USER]);
    let requester = Requester::anonymous(origin);
    let register = Register {
        username,
        password,
        roles,
        external_id: None,
        metadata: Metadata::default(),
        requester,
    };
    let registered = api.users.ask(register).await;
    api.metrics.registrations.inc(registration_outcome(&registered));
    let user = registered?;

    tracing::info!(user.id = %user.id, "user registered");
    Ok(reply_json(&mut HttpResponse::Created(), &REGISTERED))
}

/// Log in
///
/// Opens a session.
#[utoipa::path(
    post, path = "/auth/login", tag = "authentication", request_body = RawLogin,
    responses(
        (
            status = 200, description = "The first tokens of the session", body = LoginView,
            headers(("Cache-Control" = String)),
            links(
                ("refresh" = (
                    operation_id = "refresh",
                    request_body = json!({ "refresh_token": "$response.body#/refresh_token" }),
                )),
                ("dashboard" = (operation_id = "dashboard", description = "With `access_token`")),
                ("logout" = (operation_id = "logout", description = "With `access_token`")),
            ),
        ),
        Refused<(
            BadJson, MissingCredentials, BadAudience, WrongCredentials, ScopeTooLong,
            TooManyAttempts, TooManyRevocations, Overloaded, ActorFailed, Stale,
        )>,
    ),
)]
pub(super) async fn login(
    api: Data<Api>,
    origin: RequestOrigin,
    body: JsonBody<RawLogin>,
) -> Result<impl Responder, ApiError> {
    let RawLogin { username, password, audience, device_token } = body.read().await?;
    let credentials = RawCredentials { username, password }.parse_for_login()?;
    let audience = audience.map(|names| api.tokens.parse_audience(&names)).transpose()?;
    api.require_signing_key()?;

    let device = find_device(&api, credentials.as_ref(), device_token.as_deref());
    let address = origin.address;
    let granted = open_session(&api, Login { credentials, device, origin }, audience).await;
    api.metrics.logins.inc(login_outcome(&granted));
    let (grant, device) = granted?;

    let TokenGrant { user, session_id, .. } = &grant;
    tracing::info!(user.id = %user.id, session.id = %session_id, client.address = %address, "user logged in");
    let tokens = issue_tokens(&api, &grant)?;
    let device_token = api.tokens.device_token(device, &grant.user, grant.issued_at);
    Ok(reply_json(&mut HttpResponse::Ok(), &LoginView { tokens, device_token }))
}

/// Exchange a refresh token for new tokens
#[utoipa::path(
    post, path = "/auth/refresh", tag = "authentication", request_body = RawRefreshToken,
    responses(
        (
            status = 200, description = "The next tokens of the session", body = TokensView,
            headers(("Cache-Control" = String)),
        ),
        Refused<(
            BadJson, MissingRefreshToken, WrongRefreshToken, ScopeTooLong, ActorFailed, Stale,
        )>,
    ),
)]
pub(super) async fn refresh(
    api: Data<Api>,
    origin: RequestOrigin,
    body: JsonBody<RawRefreshToken>,
) -> Result<impl Responder, ApiError> {
    let token = body.read().await?.refresh_token.ok_or(ApiError::MissingRefreshToken)?;
    api.require_signing_key()?;

    let granted = exchange_refresh_token(&api, &token, origin).await;
    api.metrics.refreshes.inc(refresh_outcome(&granted));
    match granted {
        Ok(grant) => Ok(reply_json(&mut HttpResponse::Ok(), &issue_tokens(&api, &grant)?)),
        Err(ActorError::SessionNotFound) => Err(ApiError::InvalidRefreshToken),
        Err(error) => Err(error.into()),
    }
}

/// Log out
///
/// Ends the session of the access token and revokes all its tokens.
#[utoipa::path(
    post, path = "/auth/logout", tag = "authentication", security(("access_token" = [])),
    responses(
        (
            status = 200, description = "The session has ended", body = Message,
            example = json!(LOGGED_OUT),
        ),
        Refused<(BadToken, NotUser)>,
    ),
)]
pub(super) async fn logout(
    api: Data<Api>,
    bearer: Authenticated,
    origin: RequestOrigin,
) -> Result<impl Responder, ApiError> {
    let session_id = bearer.claims.session_id;
    let user_id = bearer.require_user()?;
    let requester = bearer.requester(origin);
    api.sessions.ask(LogOut { session_id, user_id, requester }).await?;

    tracing::info!(user.id = %user_id, "user logged out");
    Ok(reply_json(&mut HttpResponse::Ok(), &LOGGED_OUT))
}

/// Returns the device of a device token that is valid for the username.
fn find_device(
    api: &Api,
    credentials: Option<&(Username, Password)>,
    token: Option<&str>,
) -> Option<Device> {
    let (username, _) = credentials?;
    api.tokens.verify_device_token(token?, username, api.clock.now())
}

/// Checks credentials and opens a session. Returns the grant and the device, if it is known.
async fn open_session(
    api: &Api,
    login: Login,
    audience: Option<Audience>,
) -> Result<(TokenGrant, Option<Device>), ActorError> {
    let origin = login.origin.clone();
    let LoggedIn { user, device, is_new_network } = api.users.ask(login).await?;
    let open = OpenSession { user, audience, is_new_network, origin };
    Ok((api.sessions.ask(open).await?, device))
}

async fn exchange_refresh_token(
    api: &Api,
    token: &str,
    origin: RequestOrigin,
) -> Result<TokenGrant, ActorError> {
    let Some((session_id, presented)) = api.tokens.verify_refresh_token(token) else {
        return Err(ActorError::SessionNotFound);
    };
    api.sessions.ask(Refresh { session_id, presented, origin }).await
}

/// Issues the tokens of a grant.
fn issue_tokens(api: &Api, grant: &TokenGrant) -> Result<TokensView, ApiError> {
    api.require_fresh()?;
    let TokenGrant { user, session_id, audience, issued_at, token_expires_at, generation } = grant;
    let (session_id, audience) = (*session_id, audience.as_ref());
    let issued = api.tokens.issue(user, session_id, audience, *token_expires_at, *issued_at)?;
    Ok(TokensView {
        access_token: issued.access_token,
        refresh_token: api.tokens.refresh_token(session_id, *generation),
        token_type: "Bearer",
        expires_in: issued.expires_in.as_secs(),
    })
}

fn registration_outcome(registered: &Result<User, ActorError>) -> RegistrationOutcome {
    match registered {
        Ok(_) => RegistrationOutcome::Success,
        Err(ActorError::Account(AccountError::UsernameTaken)) => RegistrationOutcome::Taken,
        Err(ActorError::TooManyRegistrations { .. }) => RegistrationOutcome::TooManyRegistrations,
        Err(ActorError::Overloaded { .. }) => RegistrationOutcome::Overloaded,
        Err(_) => RegistrationOutcome::Error,
    }
}

fn login_outcome<T>(granted: &Result<T, ActorError>) -> LoginOutcome {
    match granted {
        Ok(_) => LoginOutcome::Success,
        Err(ActorError::InvalidCredentials | ActorError::Account(AccountError::Changed)) => {
            LoginOutcome::InvalidCredentials
        }
        Err(ActorError::TooManyAttempts { .. }) => LoginOutcome::TooManyAttempts,
        Err(ActorError::Account(AccountError::TooManyRevocations { .. })) => {
            LoginOutcome::TooManyRevocations
        }
        Err(ActorError::Overloaded { .. }) => LoginOutcome::Overloaded,
        Err(_) => LoginOutcome::Error,
    }
}

fn refresh_outcome(granted: &Result<TokenGrant, ActorError>) -> RefreshOutcome {
    match granted {
        Ok(_) => RefreshOutcome::Success,
        Err(ActorError::SessionNotFound) => RefreshOutcome::Refused,
        Err(_) => RefreshOutcome::Error,
    }
}
