//! `/auth`: registering, logging in, logging out.

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use prometheus::IntCounterVec;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::body::Body;
use super::openapi::{
    BadJson, BadPassword, BadToken, BadUsername, MissingCredentials, Overloaded, Refused,
    Unanswered, UserExists, WrongCredentials,
};
use super::{Api, ApiError, Authenticated, Message};
use crate::actors::{Login, OpenSession, Refreshed, Register, Revoke, Revoked, UserError};
use crate::domain::{Client, Generation, Initiator, Password, Role, Roles, Session, Username};

const REGISTERED: Message = Message { msg: "User registered successfully" };
const LOGGED_OUT: Message = Message { msg: "Successfully logged out" };

/// The body of a registration or a login, as it came.
#[derive(Deserialize, ToSchema)]
#[schema(as = Credentials)]
pub(super) struct RawCredentials {
    #[schema(value_type = Username)]
    pub(super) username: Option<String>,
    #[schema(value_type = Password)]
    pub(super) password: Option<String>,
}

/// A pair of tokens in a reply (RFC 6749 section 5.1).
#[derive(Serialize, ToSchema)]
#[schema(as = Tokens)]
pub(super) struct TokenReply<'a> {
    /// Sent as `Authorization: Bearer <JWT>`.
    #[schema(
        example = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJ0eXBlIjoiYWNjZXNzIn0.c2lnbmF0dXJl"
    )]
    access_token: &'a str,
    /// Good for one exchange.
    #[schema(
        example = "rLVu0mXvTMK0dFhrA0nW4gAAAAAAAAABb2Zmc3ByaW5nIG9mIGEga2V5IGFuZCBhIHNlc3Npb24"
    )]
    refresh_token: &'a str,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// The life of the access token, in seconds.
    #[schema(example = 3600)]
    expires_in: u64,
}

impl RawCredentials {
    /// Returns the username and the password, neither of them empty.
    pub(super) fn require(self) -> Result<(String, Zeroizing<String>), ApiError> {
        match (self.username, self.password.map(Zeroizing::new)) {
            (Some(username), Some(password)) if !username.is_empty() && !password.is_empty() => {
                Ok((username, password))
            }
            _ => Err(ApiError::MissingCredentials),
        }
    }
}

/// Adds an account.
#[utoipa::path(
    post, path = "/auth/register", tag = "account", request_body = RawCredentials,
    responses(
        (
            status = 201, description = "The account is there", body = Message,
            links(("login" = (operation_id = "login", request_body = "$request.body"))),
            example = json!(REGISTERED),
        ),
        Refused<(
            BadJson, MissingCredentials, BadUsername, BadPassword, UserExists, Overloaded,
            Unanswered,
        )>,
    ),
)]
pub(super) async fn register(
    api: Data<Api>,
    client: Client,
    Body(body): Body<RawCredentials>,
) -> Result<impl Responder, ApiError> {
    let (username, password) = body.require()?;
    let (username, password) = (Username::parse(&username)?, Password::parse(&password)?);

    let roles = Roles::from_iter([Role::User]);
    let by = Initiator { user_id: None, session: None, client: Some(client) };
    let registered = api.users.ask(Register { username, password, roles, by }).await;
    count(&api.metrics.registrations, &registered);
    let user = registered?;

    tracing::info!(user.id = %user.id, "user registered");
    Ok(HttpResponse::Created().json(REGISTERED))
}

/// Opens a session.
#[utoipa::path(
    post, path = "/auth/login", tag = "sessions", request_body = RawCredentials,
    responses(
        (
            status = 200, description = "Its first tokens", body = TokenReply<'_>,
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
        Refused<(BadJson, MissingCredentials, WrongCredentials, Overloaded, Unanswered)>,
    ),
)]
pub(super) async fn login(
    api: Data<Api>,
    client: Client,
    Body(body): Body<RawCredentials>,
) -> Result<impl Responder, ApiError> {
    let (username, password) = body.require()?;
    // What cannot be anybody's is refused like a wrong password, and as late.
    let claimed = Username::parse(&username).ok().zip(Password::parse(&password).ok());

    let logged_in = api.users.ask(Login { claimed }).await;
    count(&api.metrics.logins, &logged_in);
    let user = logged_in?;
    let open = OpenSession { user_id: user.id, version: user.version, client };
    let Session { id: session, expires_at, .. } = api.sessions.ask(open).await?;

    tracing::info!(user.id = %user.id, session.id = %session, "user logged in");
    token_reply(&api, &Refreshed { user, session, expires_at, generation: Generation::FIRST })
}

/// Issues the tokens of one generation of a session.
pub(super) fn token_reply(api: &Api, of: &Refreshed) -> Result<HttpResponse, ApiError> {
    let Refreshed { user, session, expires_at, generation } = of;
    let issued = api.tokens.issue(user, *session, *expires_at, api.clock.now())?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(TokenReply {
        access_token: &issued.access_token,
        refresh_token: &api.tokens.refresh_token(*session, *generation),
        token_type: "Bearer",
        expires_in: issued.expires_in.as_secs(),
    }))
}

/// Ends the session with all its tokens.
#[utoipa::path(
    post, path = "/auth/logout", tag = "sessions", security(("bearer" = [])),
    responses(
        (status = 200, description = "Committed", body = Message, example = json!(LOGGED_OUT)),
        Refused<(BadToken,)>,
    ),
)]
pub(super) async fn logout(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
) -> Result<impl Responder, ApiError> {
    let (user_id, what) = (bearer.0.user_id, Revoked::Session(bearer.0.session_id));
    api.sessions.ask(Revoke { what, user_id, by: bearer.from(client) }).await?;

    tracing::info!(user.id = %user_id, "user logged out");
    Ok(HttpResponse::Ok().json(LOGGED_OUT))
}

fn count<T>(counters: &IntCounterVec, outcome: &Result<T, UserError>) {
    let label = match outcome {
        Ok(_) => "success",
        Err(UserError::UsernameTaken) => "taken",
        Err(UserError::InvalidCredentials) => "invalid_credentials",
        Err(UserError::Overloaded { .. }) => "overloaded",
        Err(_) => "error",
    };
    counters.with_label_values(&[label]).inc();
}
