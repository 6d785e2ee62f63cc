//! `/oauth/introspect` (RFC 7662).

use actix_web::web::Data;
use actix_web::{HttpRequest, Responder};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::authenticated::{is_revoked, verify_token};
use super::body::FormBody;
use super::caller::{Caller, ClientForm, non_empty};
use super::error::ApiError;
use super::json::Json;
use super::refused::{
    BadForm, BadToken, MissingToken, NeedsTokensIntrospect, Refused, TwoCredentials, WrongClient,
};
use super::state::Api;
use crate::actors::{Details, ReadDetails};
use crate::domain::{Metadata, Permission, Roles, SessionId, TokenId};
use crate::tokens::{AccessClaims, Subject};

/// Access token or refresh token. `token_type_hint` is ignored: the formats differ.
#[derive(Deserialize, ToSchema)]
#[schema(as = Token)]
pub(super) struct RawToken {
    #[schema(
        value_type = String,
        example = "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJwb3J0Y3VsbGlzIn0.c2lnbmF0dXJl"
    )]
    pub(super) token: Option<String>,
    /// Id of the client, without an `Authorization` header.
    #[schema(example = "")]
    client_id: Option<String>,
    /// Secret of the client, without an `Authorization` header.
    #[schema(example = "")]
    client_secret: Option<String>,
}

/// State of a token (RFC 7662 section 2.2). An inactive one has no other fields.
#[derive(Serialize, ToSchema)]
struct Introspection {
    active: bool,
    #[serde(flatten)]
    #[schema(value_type = ActiveToken)]
    claims: Option<ActiveToken>,
}

/// Claims of an active token. Times are in seconds since the Unix epoch.
#[derive(Serialize, ToSchema)]
struct ActiveToken {
    #[schema(required = false, example = "Bearer")]
    token_type: &'static str,
    #[schema(required = false, example = "https://auth.example.com")]
    iss: String,
    #[schema(required = false)]
    aud: Vec<String>,
    /// Id of the user; of the client, for a token of its own.
    #[schema(required = false)]
    sub: String,
    /// `portcullis` for the token of a user.
    #[schema(required = false, example = "portcullis")]
    client_id: String,
    /// Absent for the token of a client.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "testuser")]
    username: Option<String>,
    #[schema(required = false, inline)]
    roles: Roles,
    /// Permissions, separated by spaces.
    #[schema(required = false, example = "dashboard:read")]
    scope: String,
    #[schema(required = false, inline)]
    sid: SessionId,
    #[schema(required = false, inline)]
    jti: TokenId,
    #[schema(required = false, example = 1_777_624_200)]
    iat: i64,
    #[serde(flatten)]
    #[schema(value_type = AccountDetails)]
    details: Option<AccountDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_777_624_200)]
    nbf: Option<i64>,
    #[schema(required = false, example = 1_777_627_800)]
    exp: i64,
}

/// Details of the account of a user, absent for the token of a client. They are at most one staleness
/// bound old.
#[derive(Serialize, ToSchema)]
struct AccountDetails {
    /// Id of the account in another system; `null` for none.
    #[schema(example = "42")]
    external_id: Option<String>,
    #[schema(value_type = Option<Metadata>, inline)]
    metadata: Metadata,
}

/// Introspect an access token (RFC 7662)
///
/// Refresh tokens are reported as inactive: only this service accepts them. To a client with a
/// `resource`, so are the tokens for other audiences.
#[utoipa::path(
    post, path = "/oauth/introspect", tag = "oauth",
    security((), ("client_secret" = []), ("access_token" = ["tokens:introspect"])),
    request_body(content = RawToken, content_type = "application/x-www-form-urlencoded"),
    responses(
        (
            status = 200, description = "The state of the token", body = Introspection,
            headers(("Cache-Control" = String)),
        ),
        Refused<(
            BadToken, WrongClient, TwoCredentials, BadForm, MissingToken, NeedsTokensIntrospect,
        )>,
    ),
)]
pub(super) async fn introspect(
    api: Data<Api>,
    request: HttpRequest,
    body: FormBody<RawToken>,
) -> Result<impl Responder, ApiError> {
    let permission = Some(&Permission::TOKENS_INTROSPECT);
    let (caller, form) = Caller::read_form(&api, &request, body, permission).await?;
    let token = form.token.ok_or(ApiError::MissingToken)?;

    let issuer = api.tokens.issuer();
    let claims = match verify_token(&request, &token).await {
        Ok(claims) if !caller.can_introspect(&api, &claims.audience) => None,
        Ok(claims) if is_revoked(&api, &claims).await? => None,
        Ok(claims) => {
            let details = find_details(&api, &claims).await?;
            Some(ActiveToken::new(&claims, issuer, details))
        }
        Err(ApiError::TokenRefused(_)) => None,
        Err(error) => return Err(error),
    };
    let introspection = Introspection { active: claims.is_some(), claims };
    Ok(Json(introspection))
}

/// Returns the details of the user of a token. A client has none.
async fn find_details(
    api: &Api,
    claims: &AccessClaims,
) -> Result<Option<AccountDetails>, ApiError> {
    let Subject::User { id, .. } = claims.subject else { return Ok(None) };
    let details = match api.details.find(id) {
        None => api.users.ask(ReadDetails { user_id: id }).await?,
        found => found,
    };
    Ok(details.as_deref().map(AccountDetails::from))
}

impl From<&Details> for AccountDetails {
    fn from(details: &Details) -> Self {
        Self {
            external_id: details.external_id.as_ref().map(|id| id.as_str().to_owned()),
            metadata: details.metadata.clone(),
        }
    }
}

impl ClientForm for RawToken {
    fn credentials(&self) -> (Option<&str>, Option<&str>) {
        (non_empty(self.client_id.as_ref()), non_empty(self.client_secret.as_ref()))
    }
}

impl ActiveToken {
    fn new(claims: &AccessClaims, issuer: &str, details: Option<AccountDetails>) -> Self {
        let username = match &claims.subject {
            Subject::User { username, .. } => Some(username.clone()),
            Subject::Client(_) => None,
        };
        Self {
            token_type: "Bearer",
            iss: issuer.to_owned(),
            aud: claims.audience.clone(),
            sub: claims.subject.to_string(),
            client_id: claims.subject.client_id().into_owned(),
            username,
            roles: claims.roles.clone(),
            scope: claims.permissions.to_string(),
            sid: claims.session_id,
            jti: claims.token_id,
            iat: claims.issued_at,
            details,
            nbf: claims.not_before,
            exp: claims.expires_at.unix_timestamp(),
        }
    }
}
