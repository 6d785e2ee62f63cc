//! `/.well-known/jwks.json` (RFC 7517) and `/.well-known/oauth-authorization-server` (RFC 8414).

use actix_web::http::header::{CACHE_CONTROL, ContentType, ETag, EntityTag, IfNoneMatch};
use actix_web::web::{self, Data};
use actix_web::{HttpResponse, Responder};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ApiError;
use super::json::Json;
use super::refused::{Internal, NoPublicUrl, Refused, Stale};
use super::state::Api;

/// Public keys that verify access tokens (RFC 7517).
#[derive(ToSchema)]
#[schema(as = Jwks)]
#[expect(dead_code, reason = "only its schema is used: the keys are serialized once")]
struct JwksView {
    /// Empty if `JWT_ALGORITHM` is HS256.
    keys: Vec<JwkView>,
}

/// Public key (RFC 7517 section 4).
#[derive(ToSchema)]
#[schema(as = Jwk)]
#[expect(dead_code, reason = "only its schema is used")]
struct JwkView {
    #[schema(example = "EC")]
    kty: String,
    #[schema(example = "P-256")]
    crv: String,
    #[schema(example = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU")]
    x: String,
    #[schema(example = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")]
    y: String,
    /// Thumbprint of the key (RFC 7638): the `kid` in the header of a token.
    #[schema(example = "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U")]
    kid: String,
    #[schema(example = "ES256")]
    alg: String,
    #[schema(example = "sig")]
    r#use: String,
}

/// Methods by which clients authenticate (RFC 7591 section 2).
const CLIENT_AUTHENTICATION: [&str; 2] = ["client_secret_basic", "client_secret_post"];

/// Metadata of the service (RFC 8414 section 2).
#[derive(Serialize, ToSchema)]
#[schema(as = ServerMetadata)]
struct MetadataView {
    #[schema(example = "https://auth.example.com")]
    issuer: String,
    jwks_uri: String,
    token_endpoint: String,
    introspection_endpoint: String,
    revocation_endpoint: String,
    /// Feed of the revocations, for services that verify tokens offline.
    revocation_feed_endpoint: String,
    /// Empty: the service has no authorization endpoint.
    response_types_supported: Vec<String>,
    grant_types_supported: [&'static str; 1],
    token_endpoint_auth_methods_supported: [&'static str; 2],
    introspection_endpoint_auth_methods_supported: [&'static str; 2],
    revocation_endpoint_auth_methods_supported: [&'static str; 2],
}

/// Read the public keys
///
/// They verify access tokens without a request to this service. Keep them for as long as
/// `Cache-Control` allows: a new key is published long before it signs.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", operation_id = "jwks", tag = "oauth",
    params((
        "If-None-Match" = Option<String>, Header, description = "`ETag` of an earlier reply",
    )),
    responses(
        (
            status = 200, description = "The keys", body = JwksView,
            headers(("ETag" = String)),
        ),
        (status = 304, description = "The keys have not changed", headers(("ETag" = String))),
        Refused<(Stale, Internal)>,
    ),
)]
pub(super) async fn jwks(
    api: Data<Api>,
    known: web::Header<IfNoneMatch>,
) -> Result<impl Responder, ApiError> {
    // The keys may have been revoked since.
    api.require_fresh()?;
    let ring = api.tokens.ring();
    let jwks = ring.jwks();

    let tag = EntityTag::new_strong(jwks.etag.clone());
    let max_age = format!("public, max-age={}", api.jwks_max_age.as_secs());
    let is_known = match known.into_inner() {
        IfNoneMatch::Any => true,
        IfNoneMatch::Items(tags) => tags.iter().any(|known| known.weak_eq(&tag)),
    };
    let mut reply = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    reply.insert_header((CACHE_CONTROL, max_age)).insert_header(ETag(tag));
    if is_known {
        return Ok(reply.finish());
    }
    Ok(reply.content_type(ContentType::json()).body(jwks.body.clone()))
}

/// Read the metadata of the service
#[utoipa::path(
    get, path = "/.well-known/oauth-authorization-server", operation_id = "server_metadata",
    tag = "oauth",
    responses(
        (status = 200, description = "The metadata", body = MetadataView),
        Refused<(NoPublicUrl,)>,
    ),
)]
pub(super) async fn metadata(api: Data<Api>) -> Result<impl Responder, ApiError> {
    let issuer = api.public_url.as_ref().ok_or(ApiError::NoPublicUrl)?;
    Ok(Json(MetadataView {
        issuer: issuer.clone(),
        jwks_uri: format!("{issuer}/.well-known/jwks.json"),
        token_endpoint: format!("{issuer}/oauth/token"),
        introspection_endpoint: format!("{issuer}/oauth/introspect"),
        revocation_endpoint: format!("{issuer}/oauth/revoke"),
        revocation_feed_endpoint: format!("{issuer}/revocations"),
        response_types_supported: Vec::new(),
        grant_types_supported: ["client_credentials"],
        token_endpoint_auth_methods_supported: CLIENT_AUTHENTICATION,
        introspection_endpoint_auth_methods_supported: CLIENT_AUTHENTICATION,
        revocation_endpoint_auth_methods_supported: CLIENT_AUTHENTICATION,
    }))
}
