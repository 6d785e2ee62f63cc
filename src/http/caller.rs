//! [`Caller`]: the user or client that calls a route under `/oauth/`.

use std::sync::Arc;

use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE};
use actix_web::{FromRequest, HttpRequest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;

use super::authenticated::Authenticated;
use super::body::FormBody;
use super::error::{ApiError, AuthorizationHeaderError};
use super::state::Api;
use crate::actors::ReloadClients;
use crate::clients::AuthenticatedClient;
use crate::domain::{ClientId, Permission, Permissions, RequestOrigin, Requester, UserId};
use crate::revocation::Verdict;
use crate::tokens::Subject;

/// Bearer of an access token, or a client that has shown its secret.
pub(super) enum Caller {
    /// Bearer of an access token (RFC 6750).
    Bearer(Authenticated),
    /// Client with HTTP Basic or with credentials in a form (RFC 6749 section 2.3.1).
    Client(AuthenticatedClient),
}

/// Form that can contain the credentials of a client.
pub(super) trait ClientForm {
    /// Returns `client_id` and `client_secret`.
    fn credentials(&self) -> (Option<&str>, Option<&str>);
}

/// Returns the value of a parameter. One without a value counts as omitted (RFC 6749 section 3.2).
pub(super) fn non_empty(value: Option<&String>) -> Option<&str> {
    value.map(String::as_str).filter(|value| !value.is_empty())
}

impl Caller {
    /// Reads a form, and authenticates its sender: before it, if the request has an `Authorization`
    /// header, or by the credentials in it.
    ///
    /// # Errors
    /// Returns an error of the header, of the token, of the credentials or of the form,
    /// [`ApiError::PermissionMissing`] or, for credentials in both places,
    /// [`ApiError::TwoCredentials`].
    pub(super) async fn read_form<T: ClientForm + DeserializeOwned + 'static>(
        api: &Api,
        request: &HttpRequest,
        body: FormBody<T>,
        permission: Option<&Permission>,
    ) -> Result<(Self, T), ApiError> {
        if request.headers().contains_key(AUTHORIZATION) {
            let caller = Self::from_header(api, request).await?;
            caller.require_permission(permission)?;
            let form = body.read().await?;
            caller.require_no_other(form.credentials())?;
            return Ok((caller, form));
        }
        let form = match body.read().await {
            Ok(form) => form,
            Err(error) if request.headers().contains_key(CONTENT_TYPE) => return Err(error),
            Err(_) => return Err(AuthorizationHeaderError::Missing.into()),
        };
        let caller = Self::from_form(api, form.credentials()).await?;
        caller.require_permission(permission)?;
        Ok((caller, form))
    }

    /// Authenticates the sender of a request by its `Authorization` header.
    ///
    /// # Errors
    /// Returns an error of the header, of the token, or [`ApiError::InvalidClient`].
    pub(super) async fn from_header(api: &Api, request: &HttpRequest) -> Result<Self, ApiError> {
        match basic_credentials(request).map_err(|_| ApiError::InvalidClient)? {
            Some((id, secret)) => {
                authenticate(api, Some(&id), Some(&secret)).await.map(Self::Client)
            }
            None => Authenticated::extract(request).await.map(Self::Bearer),
        }
    }

    /// Authenticates the sender of a form by the `client_id` and `client_secret` in it.
    ///
    /// # Errors
    /// Returns [`AuthorizationHeaderError::Missing`] without either of them, an error of the
    /// database, or [`ApiError::InvalidClient`].
    pub(super) async fn from_form(
        api: &Api,
        credentials: (Option<&str>, Option<&str>),
    ) -> Result<Self, ApiError> {
        match credentials {
            (None, None) => Err(AuthorizationHeaderError::Missing.into()),
            (id, secret) => authenticate(api, id, secret).await.map(Self::Client),
        }
    }

    /// Requires that a form has no credentials beside those of the `Authorization` header.
    ///
    /// # Errors
    /// Returns [`ApiError::TwoCredentials`].
    pub(super) fn require_no_other(
        &self,
        (id, secret): (Option<&str>, Option<&str>),
    ) -> Result<(), ApiError> {
        let is_own = |id: &str| match self {
            Self::Bearer(_) => false,
            Self::Client(caller) => caller.client.id.to_string() == id,
        };
        if secret.is_some() || !id.is_none_or(is_own) {
            return Err(ApiError::TwoCredentials);
        }
        Ok(())
    }

    /// Requires a permission.
    ///
    /// # Errors
    /// Returns [`ApiError::PermissionMissing`].
    pub(super) fn require_permission(
        &self,
        permission: Option<&Permission>,
    ) -> Result<(), ApiError> {
        match permission {
            Some(permission) if !self.permissions().contains(permission) => {
                Err(ApiError::PermissionMissing(permission.clone()))
            }
            _ => Ok(()),
        }
    }

    /// Returns `true` if the caller is the subject of a token.
    pub(super) fn is(&self, subject: &Subject) -> bool {
        match self {
            Self::Bearer(bearer) => bearer.claims.subject == *subject,
            Self::Client(caller) => Subject::Client(caller.client.id) == *subject,
        }
    }

    /// Returns the account of the caller, if it is a user.
    pub(super) fn user_id(&self) -> Option<UserId> {
        match self {
            Self::Bearer(bearer) => bearer.require_user().ok(),
            Self::Client(_) => None,
        }
    }

    /// Returns `true` if the caller may introspect a token with this audience. A client that sends
    /// its own access token may introspect no more than with its secret.
    pub(super) fn can_introspect(&self, api: &Api, audience: &[String]) -> bool {
        let client = match self {
            Self::Client(caller) => Some(Arc::clone(&caller.client)),
            Self::Bearer(bearer) => match bearer.claims.subject {
                Subject::User { .. } => return true,
                Subject::Client(id) => api.directory.load().find(id).map(Arc::clone),
            },
        };
        let Some(client) = client else { return false };
        let is_in = |name: &str| audience.iter().any(|recipient| recipient == name);
        let resource = client.rights.resource.as_ref();
        resource.is_none_or(|resource| resource.names(api.tokens.issuer()).any(is_in))
    }

    /// Returns the caller as the requester of an action.
    pub(super) fn requester(&self, origin: RequestOrigin) -> Requester {
        match self {
            Self::Bearer(bearer) => bearer.requester(origin),
            Self::Client(caller) => Requester {
                client_id: Some(caller.client.id),
                session_id: Some(caller.session_id),
                permissions: Some(caller.client.rights.permissions.clone()),
                origin: Some(origin),
                ..Requester::COMMAND_LINE
            },
        }
    }

    fn permissions(&self) -> &Permissions {
        match self {
            Self::Bearer(bearer) => &bearer.claims.permissions,
            Self::Client(caller) => &caller.client.rights.permissions,
        }
    }
}

/// Authenticates a client from memory. The database is asked only if memory may be outdated: if the
/// replica cannot tell whether the secret was removed, or tells that it was.
///
/// # Errors
/// Returns [`ApiError::InvalidClient`] for an unknown client and a wrong secret alike, or an error of
/// the database.
async fn authenticate(
    api: &Api,
    id: Option<&str>,
    secret: Option<&str>,
) -> Result<AuthenticatedClient, ApiError> {
    let id = id.and_then(|id| id.parse().ok()).map(|id: uuid::Uuid| ClientId::from(id));
    let secret = secret.unwrap_or_default();
    let shown = api.directory.load().authenticate(id, secret, api.clock.now());
    let shown = shown.ok_or(ApiError::InvalidClient)?;
    if let Verdict::Clear = api.replica.check([shown.session_id.into()]) {
        return Ok(shown);
    }
    api.clients.ask(ReloadClients).await?;
    let shown = api.directory.load().authenticate(id, secret, api.clock.now());
    shown.ok_or(ApiError::InvalidClient)
}

/// Reads HTTP Basic credentials (RFC 7617). Both parts are form-encoded (RFC 6749 section 2.3.1).
/// Returns `None` for another scheme.
fn basic_credentials(
    request: &HttpRequest,
) -> Result<Option<(String, String)>, AuthorizationHeaderError> {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let header = headers.next().and_then(|header| header.to_str().ok()).unwrap_or_default();
    let header = header.trim();
    let (scheme, encoded) = header.split_once(' ').unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Ok(None);
    }
    if headers.next().is_some() {
        return Err(AuthorizationHeaderError::Malformed);
    }
    let decoded = STANDARD.decode(encoded.trim()).ok();
    let text = decoded.and_then(|decoded| String::from_utf8(decoded).ok());
    let (id, secret) = text
        .as_deref()
        .and_then(|text| text.split_once(':'))
        .ok_or(AuthorizationHeaderError::Malformed)?;
    Ok(Some((form_decode(id), form_decode(secret))))
}

/// Decodes a value of a form.
fn form_decode(text: &str) -> String {
    let pair = format!("={}", text.replace('&', "%26"));
    form_urlencoded::parse(pair.as_bytes()).map(|(_, value)| value.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn parse(header: &str) -> Result<Option<(String, String)>, AuthorizationHeaderError> {
        let request = TestRequest::default().insert_header((AUTHORIZATION, header));
        basic_credentials(&request.to_http_request())
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn basic_credentials_are_form_decoded() {
        let cases = [
            ("id:secret", ("id", "secret")),
            ("id:", ("id", "")),
            (":secret", ("", "secret")),
            ("a%3Ab:c%25d%20e+f", ("a:b", "c%d e f")),
            ("id:a=b&c", ("id", "a=b&c")),
            ("id:a:b", ("id", "a:b")),
        ];
        for (text, (id, secret)) in cases {
            let expected = Ok(Some((id.to_owned(), secret.to_owned())));
            assert_eq!(parse(&basic(text)), expected, "{text}");
            assert_eq!(parse(&basic(text).replace("Basic", "bAsIc ")), expected, "{text}");
        }
    }

    #[test]
    fn malformed_basic_credentials_are_refused() {
        for header in ["Basic !", "Basic ", &basic("no colon"), "Basic /w=="] {
            assert_eq!(parse(header), Err(AuthorizationHeaderError::Malformed), "{header}");
        }
        assert_eq!(parse("Bearer a.b.c"), Ok(None));
    }
}
