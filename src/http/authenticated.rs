//! [`Authenticated`]: the proof, in a handler's parameters, that the client is logged in.

use std::future::{Ready, ready};
use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::{Either, LocalBoxFuture};

use super::{Api, ApiError, NoToken};
use crate::actors::IsRevoked;
use crate::domain::{Client, Initiator, Label, Permission};
use crate::revocation::Verdict;
use crate::tokens::{AccessClaims, Memo, TokenRefusal};

/// The claims of a token that is good at this moment. Add this as a parameter to a handler to
/// require a logged-in user.
#[derive(Debug)]
pub struct Authenticated(pub Rc<AccessClaims>);

impl Authenticated {
    /// Requires that the bearer may do something.
    ///
    /// # Errors
    /// [`ApiError::PermissionMissing`] when it may not.
    pub fn require(&self, permission: Permission) -> Result<(), ApiError> {
        if self.0.permissions.contains(permission) {
            Ok(())
        } else {
            Err(ApiError::PermissionMissing(permission.as_str()))
        }
    }

    /// Names the bearer as the one who wants something, from somewhere.
    #[must_use]
    pub fn from(&self, client: Client) -> Initiator {
        let (user_id, session) = (Some(self.0.user_id), Some(self.0.session_id));
        Initiator { user_id, session, client: Some(client) }
    }

    fn unless(is_revoked: bool, claims: Rc<AccessClaims>) -> Result<Self, ApiError> {
        if is_revoked { Err(TokenRefusal::Revoked.into()) } else { Ok(Self(claims)) }
    }
}

impl FromRequest for Authenticated {
    type Error = ApiError;
    // Boxed only where the database has to be asked: a healthy check does not allocate for it.
    type Future =
        Either<Ready<Result<Self, ApiError>>, LocalBoxFuture<'static, Result<Self, ApiError>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let (api, claims) = match verified(request) {
            Ok(verified) => verified,
            Err(error) => return Either::Left(ready(Err(error))),
        };
        match look_up(api, &claims) {
            Some(is_revoked) => Either::Left(ready(Self::unless(is_revoked, claims))),
            None => Either::Right(Box::pin(check_with_database(api.clone(), claims))),
        }
    }
}

/// Tells whether a token was revoked.
pub(super) async fn is_revoked(api: &Api, claims: &AccessClaims) -> Result<bool, ApiError> {
    match look_up(api, claims) {
        Some(is_revoked) => Ok(is_revoked),
        None => ask_database(api, claims).await,
    }
}

/// Looks a token up in memory; `None` when that cannot tell.
fn look_up(api: &Api, claims: &AccessClaims) -> Option<bool> {
    match api.replica.check(claims.revocation_ids()) {
        Verdict::Clear => {
            api.clear_checks.inc();
            Some(false)
        }
        Verdict::Revoked => {
            count(api, "revoked");
            Some(true)
        }
        Verdict::Unknown => None,
    }
}

fn verified(request: &HttpRequest) -> Result<(&Data<Api>, Rc<AccessClaims>), ApiError> {
    let shared = request.app_data::<Data<Api>>().zip(request.app_data::<Memo>());
    let (api, memo) = shared.ok_or_else(|| {
        ApiError::Internal("the API or the memo is not among the app data".into())
    })?;
    let claims = memo.verify(&api.tokens, bearer_token(request)?, api.clock.now())?;
    Ok((api, claims))
}

async fn check_with_database(
    api: Data<Api>,
    claims: Rc<AccessClaims>,
) -> Result<Authenticated, ApiError> {
    let is_revoked = ask_database(&api, &claims).await?;
    Authenticated::unless(is_revoked, claims)
}

async fn ask_database(api: &Api, claims: &AccessClaims) -> Result<bool, ApiError> {
    let answer = api.sessions.ask(IsRevoked { ids: claims.revocation_ids() }).await;
    let result = match &answer {
        Ok(false) => "fallback_clear",
        Ok(true) => "fallback_revoked",
        Err(_) => "fallback_failed",
    };
    count(api, result);
    Ok(answer?)
}

/// Reads the token from `Authorization: Bearer <JWT>` (RFC 6750 section 2.1). The name of the scheme
/// is compared without regard to case (RFC 9110 section 11.1).
///
/// A token is hundreds of bytes: what goes through them one by one, as `HeaderValue::to_str` and
/// `split_ascii_whitespace` do, was a tenth of everything that a check computes.
fn bearer_token(request: &HttpRequest) -> Result<&str, NoToken> {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let (header, another) = (headers.next(), headers.next());
    let header = header.map_or(&[][..], HeaderValue::as_bytes).trim_ascii();
    let header = str::from_utf8(header).ok().filter(|header| header.is_ascii());
    let header = header.ok_or(NoToken::BadHeader)?;
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    let token = token.trim_ascii_start();
    if scheme.is_empty() {
        Err(NoToken::MissingHeader)
    } else if !scheme.eq_ignore_ascii_case("Bearer") {
        Err(NoToken::MissingBearer)
    } else if token.is_empty() || token.contains(' ') || another.is_some() {
        Err(NoToken::BadHeader)
    } else {
        Ok(token)
    }
}

fn count(api: &Api, result: &str) {
    api.metrics.revocation_checks.with_label_values(&[result]).inc();
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn read(headers: &[&str]) -> Result<String, NoToken> {
        let request = headers.iter().fold(TestRequest::default(), |request, &value| {
            request.append_header((AUTHORIZATION, value))
        });
        bearer_token(&request.to_http_request()).map(str::to_owned)
    }

    #[test]
    fn the_token_follows_the_scheme_in_whatever_case() {
        for header in ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c "] {
            assert_eq!(read(&[header]), Ok("a.b.c".to_owned()), "{header}");
        }
    }

    #[test]
    fn anything_else_is_refused_by_its_fault() {
        let cases: [(&[&str], _); 8] = [
            (&[], NoToken::MissingHeader),
            (&[""], NoToken::MissingHeader),
            (&["Basic YTpi"], NoToken::MissingBearer),
            (&["a.b.c"], NoToken::MissingBearer),
            (&["Bearer"], NoToken::BadHeader),
            (&["Bearer a.b.c d"], NoToken::BadHeader),
            (&["Bearer \u{e9}"], NoToken::BadHeader),
            (&["Bearer a.b.c", "Bearer d.e.f"], NoToken::BadHeader),
        ];
        for (headers, fault) in cases {
            assert_eq!(read(headers), Err(fault), "{headers:?}");
        }
    }
}
