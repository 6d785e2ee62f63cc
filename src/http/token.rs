//! `/oauth/token`: access tokens for clients (RFC 6749 section 4.4).

use actix_web::web::Data;
use actix_web::{HttpRequest, Responder};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::body::FormBody;
use super::caller::{Caller, ClientForm, non_empty};
use super::error::ApiError;
use super::json::Json;
use super::refused::{
    BadForm, BadGrant, Internal, Refused, Stale, TooManyTokens, TwoCredentials, WrongClient,
};
use super::state::Api;
use crate::actors::{ActorError, AdmitClientToken};
use crate::clients::AuthenticatedClient;
use crate::domain::Permissions;
use crate::tokens::IssueError;

/// Request of a client for an access token.
#[derive(Deserialize, ToSchema)]
#[schema(as = TokenRequest)]
pub(super) struct RawTokenRequest {
    #[schema(value_type = String, example = "client_credentials")]
    grant_type: Option<String>,
    /// Permissions of the token, separated by spaces; all of the client by default.
    #[schema(example = "")]
    scope: Option<String>,
    /// Id of the client, without HTTP Basic.
    #[schema(example = "")]
    client_id: Option<String>,
    /// Secret of the client, without HTTP Basic.
    #[schema(example = "")]
    client_secret: Option<String>,
}

/// Access token of a client (RFC 6749 section 5.1).
#[derive(Serialize, ToSchema)]
#[schema(as = ClientToken)]
struct TokenView {
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Life of the token in seconds.
    #[schema(example = 3_600)]
    expires_in: u64,
    /// Permissions of the token, separated by spaces.
    #[schema(example = "orders:read")]
    scope: String,
}

/// Get an access token for a client (RFC 6749)
///
/// The client authenticates with HTTP Basic or with `client_id` and `client_secret` in the form.
#[utoipa::path(
    post, path = "/oauth/token", tag = "oauth", security((), ("client_secret" = [])),
    request_body(content = RawTokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (
            status = 200, description = "The token", body = TokenView,
            headers(("Cache-Control" = String)),
        ),
        Refused<(WrongClient, TwoCredentials, BadForm, BadGrant, TooManyTokens, Stale, Internal)>,
    ),
)]
pub(super) async fn issue(
    api: Data<Api>,
    request: HttpRequest,
    body: FormBody<RawTokenRequest>,
) -> Result<impl Responder, ApiError> {
    let (caller, form) =
        Caller::read_form(&api, &request, body, None).await.map_err(as_client_refusal)?;
    let Caller::Client(caller) = caller else { return Err(ApiError::InvalidClient) };
    match form.grant_type.as_deref() {
        Some("client_credentials") => {}
        None | Some("") => return Err(ApiError::MissingGrantType),
        Some(_) => return Err(ApiError::UnsupportedGrantType),
    }
    let scope = requested_scope(form.scope.as_deref(), &caller.client.rights.permissions)?;
    api.require_signing_key()?;

    let now = api.clock.now();
    let expires_at = api.tokens.expiry_of_client_token(&caller.client, now);
    admit(&api, &caller, expires_at).await?;
    let issued =
        api.tokens.issue_to_client(&caller.client, caller.session_id, &scope, expires_at, now);
    let issued = issued.map_err(|error| match error {
        IssueError::ScopeTooLong(_) => ApiError::InvalidScope,
        error => error.into(),
    })?;
    tracing::info!(client.id = %caller.client.id, "token issued to a client");
    Ok(Json(TokenView {
        access_token: issued.access_token,
        token_type: "Bearer",
        expires_in: issued.expires_in.as_secs(),
        scope: scope.to_string(),
    }))
}

/// Returns the error of a request without the credentials of a client, with an access token for
/// example.
fn as_client_refusal(error: ApiError) -> ApiError {
    match error {
        ApiError::AuthorizationHeader(_) | ApiError::TokenRefused(_) => ApiError::InvalidClient,
        error => error,
    }
}

/// Narrows the permissions of a client to the requested ones.
fn requested_scope(scope: Option<&str>, held: &Permissions) -> Result<Permissions, ApiError> {
    let names = scope.unwrap_or_default().split(' ').filter(|name| !name.is_empty());
    let requested = Permissions::parse(names).map_err(|_| ApiError::InvalidScope)?;
    if requested.is_empty() {
        return Ok(held.clone());
    }
    if requested.without(held).is_empty() { Ok(requested) } else { Err(ApiError::InvalidScope) }
}

async fn admit(
    api: &Api,
    caller: &AuthenticatedClient,
    expires_at: OffsetDateTime,
) -> Result<(), ApiError> {
    let admit =
        AdmitClientToken { client_id: caller.client.id, session_id: caller.session_id, expires_at };
    api.clients.ask(admit).await.map_err(|error| match error {
        ActorError::InvalidCredentials => ApiError::InvalidClient,
        error => error.into(),
    })
}

impl ClientForm for RawTokenRequest {
    fn credentials(&self) -> (Option<&str>, Option<&str>) {
        (non_empty(self.client_id.as_ref()), non_empty(self.client_secret.as_ref()))
    }
}
