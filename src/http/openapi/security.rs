//! Security schemes. A handler names them in `security(...)`, with the permission that it requires:
//! `("bearer" = ["keys:read"])`. Clients have no account, so only what requires a permission is
//! open to their access tokens.

use utoipa::openapi::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ClientCredentials, Flow, HttpAuthScheme, HttpBuilder, OAuth2, SecurityRequirement,
    SecurityScheme,
};

use crate::domain::Permission;

const BEARER: &str = "bearer";
const CLIENT_CREDENTIALS: &str = "client_credentials";
const BASIC: &str = "basic";

const ABOUT_BEARER: &str =
    "Access token. A user gets one from `POST /auth/login`: `access_token` in the reply.";

const ABOUT_CLIENT_CREDENTIALS: &str =
    "Logs a client in. Without a choice below, its token has all permissions of the client.";

const ABOUT_BASIC: &str =
    "`client_id` and `client_secret` of a client, form-encoded (RFC 6749 section 2.3.1).";

/// Adds the security schemes of a service at a URL, which is empty if none is known.
pub(super) fn add_schemes(document: &mut OpenApi, public_url: &str) {
    let token_url = format!("{public_url}/oauth/token");
    let scopes = Permission::OF_SERVICE.iter().map(|name| (name.as_str(), "")).collect();
    let flow = Flow::ClientCredentials(ClientCredentials::new(token_url, scopes));
    let client_credentials = OAuth2::with_description([flow], ABOUT_CLIENT_CREDENTIALS);
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(ABOUT_BEARER));
    let basic = HttpBuilder::new().scheme(HttpAuthScheme::Basic).description(Some(ABOUT_BASIC));

    let components = document.components.get_or_insert_default();
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer.build()));
    components.add_security_scheme(CLIENT_CREDENTIALS, SecurityScheme::OAuth2(client_credentials));
    components.add_security_scheme(BASIC, SecurityScheme::Http(basic.build()));
}

/// Adds the token of a client to an operation, where that of a user needs a permission.
pub(super) fn admit_clients(operation: &mut Operation) {
    let Some(requirements) = &mut operation.security else { return };
    for permission in Permission::OF_SERVICE {
        let scope = [permission.as_str()];
        if requirements.contains(&SecurityRequirement::new(BEARER, scope)) {
            requirements.push(SecurityRequirement::new(CLIENT_CREDENTIALS, scope));
        }
    }
}
