//! `/auth/check`: forward authentication, for a gateway that asks before it passes a request on.
//!
//! Only the token of the client, and the permissions that the gateway requires, decide. The path
//! behind `/auth/check/` and its query are ignored, and the body is not read. An
//! `X-Auth-Require` that a client adds can only lead to a refusal.

use std::collections::BTreeMap;

use actix_web::http::header::HeaderName;
use actix_web::{HttpRequest, HttpResponse, Responder};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::{RefOr, Response, ResponseBuilder};
use utoipa::{IntoParams, IntoResponses};

use super::authenticated::Authenticated;
use super::error::ApiError;
use super::refused::{BadRequirement, BadToken, NeedsRequired, Refused};
use crate::domain::Permission;
use crate::tokens::{AccessClaims, Subject};

const X_AUTH_REQUIRE: HeaderName = HeaderName::from_static("x-auth-require");

const X_AUTH_USER_ID: HeaderName = HeaderName::from_static("x-auth-user-id");
const X_AUTH_USERNAME: HeaderName = HeaderName::from_static("x-auth-username");
const X_AUTH_ROLES: HeaderName = HeaderName::from_static("x-auth-roles");
const X_AUTH_SCOPE: HeaderName = HeaderName::from_static("x-auth-scope");
const X_AUTH_SESSION_ID: HeaderName = HeaderName::from_static("x-auth-session-id");
const X_AUTH_CLIENT_ID: HeaderName = HeaderName::from_static("x-auth-client-id");

/// Characters of a username that are percent-encoded: all but the unreserved ones (RFC 3986 section
/// 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Permissions that a gateway requires, in a header.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its schema is used")]
struct RequireHeader {
    /// Permissions that the bearer has to have, all of them, separated by spaces or commas.
    #[param(
        rename = "X-Auth-Require",
        example = "dashboard:read",
        pattern = r"^[!#-+\--\[\]-~]{1,64}([ ,]+[!#-+\--\[\]-~]{1,64})*$"
    )]
    x_auth_require: Option<String>,
}

/// Check an access token for a gateway
///
/// For forward authentication: a gateway sends the `Authorization` header of each request here, and
/// passes the request on if the reply is 200. Every method is answered alike.
#[utoipa::path(
    get, path = "/auth/check", operation_id = "check", tag = "gateways",
    security(("access_token" = []), ("client_token" = [])),
    extensions(("x-any-method" = json!(true))),
    params(
        (
            "permission" = inline(Option<Vec<Permission>>), Query, example = json!(["dashboard:read"]),
            description = "Permissions that the bearer has to have, all of them. Other parameters \
                           are refused.",
        ),
        RequireHeader,
    ),
    responses(Allowed, Refused<(BadToken, BadRequirement, NeedsRequired)>),
)]
pub(super) async fn check(
    request: HttpRequest,
    bearer: Authenticated,
) -> Result<impl Responder, ApiError> {
    for (name, value) in form_urlencoded::parse(request.query_string().as_bytes()) {
        // Another parameter may be a misspelt requirement.
        if name != "permission" {
            return Err(ApiError::InvalidRequirement(format!("unknown parameter {name:?}")));
        }
        require(&bearer, &value)?;
    }
    check_path(request, bearer).await
}

/// Check an access token for a gateway that appends the path of the request
///
/// `rest`, which may contain slashes, and the query are those of the client, and are ignored. Every
/// method is answered alike.
#[utoipa::path(
    get, path = "/auth/check/{rest}", operation_id = "check_path", tag = "gateways",
    security(("access_token" = []), ("client_token" = [])),
    extensions(("x-any-method" = json!(true))),
    params(
        ("rest" = String, Path, description = "Ignored", example = "orders/7"), RequireHeader,
    ),
    responses(Allowed, Refused<(BadToken, BadRequirement, NeedsRequired)>),
)]
pub(super) async fn check_path(
    request: HttpRequest,
    bearer: Authenticated,
) -> Result<impl Responder, ApiError> {
    for header in request.headers().get_all(X_AUTH_REQUIRE) {
        // A header that is not ASCII has no permission.
        let names = header.to_str().unwrap_or_default().split([' ', ',']);
        let mut names = names.filter(|name| !name.is_empty()).peekable();
        // It may be a template of the gateway that was not filled in.
        if names.peek().is_none() {
            let reason = "X-Auth-Require names no permission".to_owned();
            return Err(ApiError::InvalidRequirement(reason));
        }
        names.try_for_each(|name| require(&bearer, name))?;
    }
    Ok(identity(&bearer.claims))
}

/// Requires a permission of the bearer.
fn require(bearer: &Authenticated, permission: &str) -> Result<(), ApiError> {
    let permission = Permission::parse(permission)
        .map_err(|_| ApiError::InvalidRequirement(format!("{permission:?} is no permission")))?;
    bearer.require_permission(&permission)
}

/// Returns the reply that lets a request pass. It has all identity headers, so that a gateway that
/// copies them replaces every one that a client has forged.
fn identity(claims: &AccessClaims) -> HttpResponse {
    let (user_id, username) = match &claims.subject {
        Subject::User { id, username } => {
            (id.to_string(), utf8_percent_encode(username, RESERVED).to_string())
        }
        Subject::Client(_) => (String::new(), String::new()),
    };
    HttpResponse::Ok()
        .insert_header((X_AUTH_USER_ID, user_id))
        .insert_header((X_AUTH_USERNAME, username))
        .insert_header((X_AUTH_ROLES, claims.roles.names().join(" ")))
        .insert_header((X_AUTH_SCOPE, claims.permissions.names().join(" ")))
        .insert_header((X_AUTH_SESSION_ID, claims.session_id.to_string()))
        .insert_header((X_AUTH_CLIENT_ID, &*claims.subject.client_id()))
        .finish()
}

/// Description of the reply of [`identity`].
struct Allowed;

impl IntoResponses for Allowed {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        const HEADERS: [(&str, &str); 6] = [
            ("X-Auth-User-Id", "Id of the user; empty for a client that acts for itself"),
            ("X-Auth-Username", "Username, in UTF-8 and percent-encoded (RFC 3986)"),
            ("X-Auth-Roles", "Roles, separated by spaces"),
            ("X-Auth-Scope", "Permissions, separated by spaces"),
            ("X-Auth-Session-Id", "Id of the session"),
            ("X-Auth-Client-Id", "Client that the token was issued to; `portcullis` for a login"),
        ];
        let reply = ResponseBuilder::new().description(
            "The request may pass. The body is empty, and so is a header without a value.",
        );
        let required = Extensions::from_iter([("required", true)]);
        let reply = HEADERS.into_iter().fold(reply, |reply, (name, description)| {
            let header = HeaderBuilder::new().description(Some(description));
            reply.header(name, header.extensions(Some(required.clone())).build())
        });
        BTreeMap::from([("200".to_owned(), reply.build().into())])
    }
}
