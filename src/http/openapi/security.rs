//! Security schemes. A handler names them in `security(...)`, with the permission that it requires:
//! `("access_token" = ["keys:read"])`. Clients have no account, so only what requires a permission is
//! open to their access tokens.

use utoipa::openapi::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{
    ClientCredentials, Flow, HttpAuthScheme, HttpBuilder, OAuth2, SecurityRequirement,
    SecurityScheme,
};

use crate::domain::Permission;

const ACCESS_TOKEN: &str = "access_token";
const CLIENT_TOKEN: &str = "client_token";
const CLIENT_SECRET: &str = "client_secret";

const ABOUT_ACCESS_TOKEN: &str = "\
    Access token of a user. Log in with `POST /auth/login`, and paste `access_token` of the reply \
    here, without `Bearer`. The page `/docs` does so by itself when a login is tried there.";

const ABOUT_CLIENT_TOKEN: &str = "\
    Access token of a client, from `POST /oauth/token`. Paste `client_id` and `client_secret`; \
    `portcullis client create NAME` prints both. Select the permissions that the token needs, or \
    none for all of the client.";

const ABOUT_CLIENT_SECRET: &str = "\
    A client itself, without a token: the username is its `client_id`, the password its \
    `client_secret`, both form-encoded (RFC 6749 section 2.3.1).";

/// Adds the security schemes of a service at a URL, which is empty if none is known.
pub(super) fn add_schemes(document: &mut OpenApi, public_url: &str) {
    let token_url = format!("{public_url}/oauth/token");
    let scopes = Permission::OF_SERVICE.iter().map(|name| (name.as_str(), "")).collect();
    let flow = Flow::ClientCredentials(ClientCredentials::new(token_url, scopes));
    let client_token = OAuth2::with_description([flow], ABOUT_CLIENT_TOKEN);
    let access_token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some(ABOUT_ACCESS_TOKEN));
    let client_secret =
        HttpBuilder::new().scheme(HttpAuthScheme::Basic).description(Some(ABOUT_CLIENT_SECRET));

    let components = document.components.get_or_insert_default();
    components.add_security_scheme(ACCESS_TOKEN, SecurityScheme::Http(access_token.build()));
    components.add_security_scheme(CLIENT_TOKEN, SecurityScheme::OAuth2(client_token));
    components.add_security_scheme(CLIENT_SECRET, SecurityScheme::Http(client_secret.build()));
}

/// Adds the token of a client to an operation, where that of a user needs a permission.
pub(super) fn admit_clients(operation: &mut Operation) {
    let Some(requirements) = &mut operation.security else { return };
    for permission in Permission::OF_SERVICE {
        let scope = [permission.as_str()];
        if requirements.contains(&SecurityRequirement::new(ACCESS_TOKEN, scope)) {
            requirements.push(SecurityRequirement::new(CLIENT_TOKEN, scope));
        }
    }
}
