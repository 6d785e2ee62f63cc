//! [`Authenticated`]: the extractor that requires a valid access token.

use std::future::{Ready, ready};
use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::{Either, LocalBoxFuture};

use super::error::{ApiError, AuthorizationHeaderError};
use super::state::Api;
use crate::actors::{ActorError, IsRevoked, ReloadClients, ReloadKeys, RequireOpen};
use crate::domain::{Permission, RequestOrigin, Requester, UserId};
use crate::metrics::CheckResult;
use crate::revocation::Verdict;
use crate::tokens::{AccessClaims, Subject, TokenRefusal, VerifiedTokenCache, key_id};

/// Claims of a valid access token that is not revoked. Add this as a parameter to a handler to
/// require a logged-in user.
pub(super) struct Authenticated {
    pub(super) claims: Rc<AccessClaims>,
}

impl Authenticated {
    fn new(claims: Rc<AccessClaims>, is_revoked: bool) -> Result<Self, ApiError> {
        if is_revoked {
            return Err(TokenRefusal::Revoked.into());
        }
        if !claims.is_for_service {
            return Err(TokenRefusal::WrongAudience.into());
        }
        Ok(Self { claims })
    }

    /// Requires a permission of the bearer.
    ///
    /// # Errors
    /// Returns [`ApiError::PermissionMissing`] if the token does not contain the permission.
    pub(super) fn require_permission(&self, permission: &Permission) -> Result<(), ApiError> {
        if self.claims.permissions.contains(permission) {
            Ok(())
        } else {
            Err(ApiError::PermissionMissing(permission.clone()))
        }
    }

    /// Requires that the bearer is a user, and returns the account.
    ///
    /// # Errors
    /// Returns [`ApiError::NotUser`] if the bearer is a client.
    pub(super) fn require_user(&self) -> Result<UserId, ApiError> {
        match &self.claims.subject {
            Subject::User { id, .. } => Ok(*id),
            Subject::Client(_) => Err(ApiError::NotUser),
        }
    }

    /// Requires that the database has the session of the bearer.
    ///
    /// Changes check this in their commit. A read of accounts of others checks it as well: it asks
    /// the database anyway, and an administrator who has logged out elsewhere expects that the
    /// token is worth nothing from then on. Without it, the token works up to the staleness bound.
    ///
    /// # Errors
    /// Returns [`TokenRefusal::Revoked`], or an error of the database.
    pub(super) async fn require_open_session(&self, api: &Api) -> Result<(), ApiError> {
        let session_id = self.claims.session_id;
        if let Subject::Client(id) = self.claims.subject {
            api.clients.ask(ReloadClients).await?;
            let is_open = api.directory.load().has_session(id, session_id);
            return if is_open { Ok(()) } else { Err(TokenRefusal::Revoked.into()) };
        }
        api.sessions.ask(RequireOpen { session_id }).await.map_err(|error| match error {
            ActorError::SessionNotFound => TokenRefusal::Revoked.into(),
            error => error.into(),
        })
    }

    /// Returns the bearer as the requester of an action.
    pub(super) fn requester(&self, origin: RequestOrigin) -> Requester {
        let (user_id, client_id) = match &self.claims.subject {
            Subject::User { id, .. } => (Some(*id), None),
            Subject::Client(id) => (None, Some(*id)),
        };
        Requester {
            user_id,
            client_id,
            session_id: Some(self.claims.session_id),
            permissions: Some(self.claims.permissions.clone()),
            origin: Some(origin),
        }
    }
}

impl FromRequest for Authenticated {
    type Error = ApiError;
    // Boxed only if the database has to be asked: a check in memory allocates nothing for it.
    type Future =
        Either<Ready<Result<Self, ApiError>>, LocalBoxFuture<'static, Result<Self, ApiError>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let verified = bearer_token(request).map_err(Into::into);
        let (api, claims) = match verified.and_then(|token| verify(request, token)) {
            Ok(verified) => verified,
            Err(ApiError::TokenRefused(TokenRefusal::UnknownKey)) => {
                let request = request.clone();
                return Either::Right(Box::pin(
                    async move { verify_with_new_keys(&request).await },
                ));
            }
            Err(error) => return Either::Left(ready(Err(error))),
        };
        if let Some(is_revoked) = check_replica(api, &claims) {
            return Either::Left(ready(Self::new(claims, is_revoked)));
        }
        let api = api.clone();
        Either::Right(Box::pin(async move {
            let is_revoked = check_database(&api, &claims).await?;
            Self::new(claims, is_revoked)
        }))
    }
}

/// Returns `true` if a token is revoked. Asks the database if the replica cannot tell.
pub(super) async fn is_revoked(api: &Api, claims: &AccessClaims) -> Result<bool, ApiError> {
    match check_replica(api, claims) {
        Some(is_revoked) => Ok(is_revoked),
        None => check_database(api, claims).await,
    }
}

/// Verifies an access token, except for its revocation, with the newest keys if it names an unknown
/// one: another instance may have made it just now. `request` may have another token.
pub(super) async fn verify_token(
    request: &HttpRequest,
    token: &str,
) -> Result<Rc<AccessClaims>, ApiError> {
    match verify(request, token) {
        Err(ApiError::TokenRefused(TokenRefusal::UnknownKey)) => {
            look_for_key(find_api(request)?, token).await?;
            verify(request, token).map(|(_, claims)| claims)
        }
        verified => verified.map(|(_, claims)| claims),
    }
}

/// Verifies the access token of a request with the newest keys, and checks its revocation.
async fn verify_with_new_keys(request: &HttpRequest) -> Result<Authenticated, ApiError> {
    let claims = verify_token(request, bearer_token(request)?).await?;
    let is_revoked = is_revoked(find_api(request)?, &claims).await?;
    Authenticated::new(claims, is_revoked)
}

/// Reads the keys if that may find the key of a token. Otherwise refuses the token.
async fn look_for_key(api: &Api, token: &str) -> Result<(), ApiError> {
    match key_id(token) {
        Some(id) if api.replica.contains(id.into()) => Err(TokenRefusal::Revoked.into()),
        Some(_) if api.tokens.ring().is_stored() => Ok(api.keys.ask(ReloadKeys).await?),
        _ => Err(TokenRefusal::UnknownKey.into()),
    }
}

/// Verifies an access token with the cache of this thread, except for its revocation.
fn verify<'r>(
    request: &'r HttpRequest,
    token: &str,
) -> Result<(&'r Data<Api>, Rc<AccessClaims>), ApiError> {
    let api = find_api(request)?;
    let cache = request
        .app_data::<VerifiedTokenCache>()
        .ok_or_else(|| missing_app_data("VerifiedTokenCache"))?;
    let claims = cache.verify(&api.tokens, token, api.clock.now())?;
    Ok((api, claims))
}

fn find_api(request: &HttpRequest) -> Result<&Data<Api>, ApiError> {
    request.app_data::<Data<Api>>().ok_or_else(|| missing_app_data("Api"))
}

fn missing_app_data(name: &str) -> ApiError {
    ApiError::Internal(format!("{name} is missing from the app data").into())
}

/// Checks the replica for a revocation. Returns `None` if the replica cannot tell.
fn check_replica(api: &Api, claims: &AccessClaims) -> Option<bool> {
    match api.replica.check(claims.revocation_ids()) {
        Verdict::Clear => {
            api.metrics.revocation_checks.inc(CheckResult::Clear);
            Some(false)
        }
        Verdict::Revoked => {
            api.metrics.revocation_checks.inc(CheckResult::Revoked);
            Some(true)
        }
        Verdict::Unknown => None,
    }
}

/// Checks the database for a revocation: the fallback of the replica.
async fn check_database(api: &Api, claims: &AccessClaims) -> Result<bool, ApiError> {
    let is_revoked = api.sessions.ask(IsRevoked { ids: claims.revocation_ids() }).await;
    api.metrics.revocation_checks.inc(match is_revoked {
        Ok(false) => CheckResult::FallbackClear,
        Ok(true) => CheckResult::FallbackRevoked,
        Err(_) => CheckResult::FallbackFailed,
    });
    Ok(is_revoked?)
}

/// Reads the token from `Authorization: Bearer <JWT>` (RFC 6750 section 2.1). The scheme is
/// case-insensitive (RFC 9110 section 11.1).
///
/// A token has hundreds of bytes. `HeaderValue::to_str` and `split_ascii_whitespace`, which go
/// through them one by one, took a tenth of the time of a check.
pub(super) fn bearer_token(request: &HttpRequest) -> Result<&str, AuthorizationHeaderError> {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let Some(header) = headers.next() else {
        return Err(AuthorizationHeaderError::Missing);
    };
    let header = ascii_text(header).ok_or(AuthorizationHeaderError::Malformed)?;
    if header.is_empty() {
        return Err(AuthorizationHeaderError::Missing);
    }
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(AuthorizationHeaderError::NotBearer);
    }
    let token = token.trim_ascii_start();
    if token.is_empty() || token.contains(' ') || headers.next().is_some() {
        return Err(AuthorizationHeaderError::Malformed);
    }
    Ok(token)
}

fn ascii_text(value: &HeaderValue) -> Option<&str> {
    str::from_utf8(value.as_bytes().trim_ascii()).ok().filter(|text| text.is_ascii())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn parse(headers: &[&str]) -> Result<String, AuthorizationHeaderError> {
        let request = headers.iter().fold(TestRequest::default(), |request, &value| {
            request.append_header((AUTHORIZATION, value))
        });
        bearer_token(&request.to_http_request()).map(str::to_owned)
    }

    #[test]
    fn scheme_is_case_insensitive() {
        for header in ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c "] {
            assert_eq!(parse(&[header]), Ok("a.b.c".to_owned()), "{header}");
        }
    }

    #[test]
    fn other_headers_are_refused_with_the_reason() {
        let cases: [(&[&str], _); 8] = [
            (&[], AuthorizationHeaderError::Missing),
            (&[""], AuthorizationHeaderError::Missing),
            (&["Basic YTpi"], AuthorizationHeaderError::NotBearer),
            (&["a.b.c"], AuthorizationHeaderError::NotBearer),
            (&["Bearer"], AuthorizationHeaderError::Malformed),
            (&["Bearer a.b.c d"], AuthorizationHeaderError::Malformed),
            (&["Bearer \u{e9}"], AuthorizationHeaderError::Malformed),
            (&["Bearer a.b.c", "Bearer d.e.f"], AuthorizationHeaderError::Malformed),
        ];
        for (headers, error) in cases {
            assert_eq!(parse(headers), Err(error), "{headers:?}");
        }
    }
}
