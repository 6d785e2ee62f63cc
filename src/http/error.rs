//! [`ApiError`]: every way in which the API says no. One text for a person, one code for a program.

use std::borrow::Cow;
use std::time::Duration;

use actix_web::error::{JsonPayloadError, UrlencodedError};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use thiserror::Error;
use utoipa::ToSchema;

use crate::actors::{SessionError, UserError};
use crate::domain::{Label, PasswordError, Role, UnknownLabel, UsernameError};
use crate::tokens::{IssueError, TokenRefusal};

/// How long a client is asked to wait when nobody knows how long it will be.
const RETRY_LATER: Duration = Duration::from_secs(1);

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A refusal or a failure, named by what the client can do about it. `Display` is the text it is
/// sent; a cause is for the log alone.
#[derive(Debug, Error)]
pub enum ApiError {
    /// 400: the credentials are not all there.
    #[error("Missing username or password")]
    MissingCredentials,
    /// 400: the username breaks a rule.
    #[error(transparent)]
    InvalidUsername(#[from] UsernameError),
    /// 400: the password breaks a rule.
    #[error(transparent)]
    InvalidPassword(#[from] PasswordError),
    /// 400: the body is not the JSON that the route reads.
    #[error("The request body is not valid: {0}")]
    InvalidBody(String),
    /// 400: the query is not one that the route reads.
    #[error("The query is not valid: {0}")]
    InvalidQuery(String),
    /// 400: there are no roles in the body.
    #[error("Missing roles")]
    MissingRoles,
    /// 400: a role is none of those that there are.
    #[error("Roles must be among these: {}", role_names())]
    InvalidRoles(#[from] UnknownLabel),
    /// 400: there is no token in the form.
    #[error("Missing token")]
    MissingToken,
    /// 400: there is no refresh token in the body.
    #[error("Missing refresh token")]
    MissingRefreshToken,
    /// 400: there is no password in the body, or not both of them.
    #[error("Missing password")]
    MissingPassword,
    /// 401: the token is good, but the password is not.
    #[error("Wrong password")]
    WrongPassword,
    /// 401: the refresh token is none of ours, or its session is over.
    #[error("Invalid refresh token")]
    RefreshTokenRefused,
    /// 401: the username or the password is wrong.
    #[error("Invalid username or password")]
    InvalidCredentials,
    /// 401: no token was shown.
    #[error(transparent)]
    NoToken(#[from] NoToken),
    /// 401: the token that was shown is not good.
    #[error(transparent)]
    TokenRefused(#[from] TokenRefusal),
    /// 403: the token is good, but not for this.
    #[error("You do not have the permission {0}")]
    PermissionMissing(&'static str),
    /// 404: there is nothing here.
    #[error("Not found")]
    NotFound,
    /// 405: there is something here, for these other methods.
    #[error("Method not allowed. Allowed: {0}")]
    MethodNotAllowed(&'static str),
    /// 408: the body did not arrive in time.
    #[error("The request body did not arrive in time")]
    BodyTooSlow,
    /// 409: another account bears the username.
    #[error("User already exists")]
    UserExists,
    /// 409: nobody could manage accounts any more.
    #[error("The last administrator has to stay one")]
    LastAdmin,
    /// 413: the body is too large.
    #[error("The request body must be at most {0} bytes long")]
    BodyTooLarge(usize),
    /// 415: the body is of another type.
    #[error("The request body must be JSON, sent with 'Content-Type: application/json'")]
    NotJson,
    /// 415: the body is of another type.
    #[error(
        "The request body must be a form, sent with \
         'Content-Type: application/x-www-form-urlencoded'"
    )]
    NotForm,
    /// 503: too much at once; worth another try after a while.
    #[error("Too many requests at once, try again later")]
    Overloaded {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// 503: something that the service needs is out of reach; worth another try.
    #[error("Service temporarily unavailable, try again later")]
    Unavailable(#[source] Cause),
    /// 503: not ready, for want of the database.
    #[error("The database cannot be reached")]
    DatabaseUnreachable(#[source] Cause),
    /// 503: not ready, for want of news of revocations: each token is checked with the database.
    #[error("What is known of revocations is too old")]
    RevocationsStale(#[source] Cause),
    /// 503: not ready any more.
    #[error("The service is shutting down")]
    ShuttingDown,
    /// 500: something that should not happen did.
    #[error("Internal server error")]
    Internal(#[source] Cause),
}

/// Why a request shows no token. The texts are those of Flask-JWT-Extended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NoToken {
    /// There is no header, or an empty one.
    #[error("Missing Authorization Header")]
    MissingHeader,
    /// The header has another scheme.
    #[error(
        "Missing 'Bearer' type in 'Authorization' header. Expected 'Authorization: Bearer <JWT>'"
    )]
    MissingBearer,
    /// The header is not a scheme and one token.
    #[error("Bad Authorization header. Expected 'Authorization: Bearer <JWT>'")]
    BadHeader,
}

/// The body of every reply that is not a success.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorBody {
    /// For a person.
    msg: String,
    /// For a program: it never changes.
    code: &'static str,
}

impl ApiError {
    /// Returns the name by which a program knows the error. It never changes.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingCredentials => "missing_credentials",
            Self::InvalidUsername(_) => "invalid_username",
            Self::InvalidPassword(_) => "invalid_password",
            Self::InvalidBody(_) => "invalid_body",
            Self::InvalidQuery(_) => "invalid_query",
            Self::MissingRoles => "missing_roles",
            Self::InvalidRoles(_) => "invalid_roles",
            Self::MissingToken => "missing_token",
            Self::MissingRefreshToken => "missing_refresh_token",
            Self::RefreshTokenRefused => "invalid_refresh_token",
            Self::MissingPassword => "missing_password",
            Self::WrongPassword => "wrong_password",
            Self::InvalidCredentials => "invalid_credentials",
            Self::NoToken(NoToken::MissingHeader) => "missing_authorization",
            Self::NoToken(NoToken::MissingBearer) => "missing_bearer",
            Self::NoToken(NoToken::BadHeader) => "bad_authorization",
            Self::TokenRefused(refusal) => refusal_code(*refusal),
            Self::PermissionMissing(_) => "permission_missing",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed(_) => "method_not_allowed",
            Self::BodyTooSlow => "body_too_slow",
            Self::UserExists => "user_exists",
            Self::LastAdmin => "last_admin",
            Self::BodyTooLarge(_) => "body_too_large",
            Self::NotJson | Self::NotForm => "unsupported_media_type",
            Self::Overloaded { .. } => "overloaded",
            Self::Unavailable(_) => "unavailable",
            Self::DatabaseUnreachable(_) => "database_unreachable",
            Self::RevocationsStale(_) => "revocations_stale",
            Self::ShuttingDown => "shutting_down",
            Self::Internal(_) => "internal_error",
        }
    }

    /// Returns the body that it is sent as.
    pub(super) fn body(&self) -> ErrorBody {
        ErrorBody { msg: self.to_string(), code: self.code() }
    }

    /// Returns what went wrong behind a failure that is not the client's.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unavailable(cause)
            | Self::DatabaseUnreachable(cause)
            | Self::RevocationsStale(cause)
            | Self::Internal(cause) => Some(cause.as_ref()),
            _ => None,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::MissingCredentials
            | Self::MissingToken
            | Self::MissingRefreshToken
            | Self::MissingPassword
            | Self::InvalidUsername(_)
            | Self::InvalidPassword(_)
            | Self::InvalidBody(_)
            | Self::InvalidQuery(_)
            | Self::MissingRoles
            | Self::InvalidRoles(_) => StatusCode::BAD_REQUEST,
            Self::InvalidCredentials
            | Self::RefreshTokenRefused
            | Self::WrongPassword
            | Self::NoToken(_)
            | Self::TokenRefused(_) => StatusCode::UNAUTHORIZED,
            Self::PermissionMissing(_) => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::UserExists | Self::LastAdmin => StatusCode::CONFLICT,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson | Self::NotForm => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Overloaded { .. }
            | Self::Unavailable(_)
            | Self::DatabaseUnreachable(_)
            | Self::RevocationsStale(_)
            | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns what a `WWW-Authenticate` header has to say (RFC 6750 section 3): nothing but the
    /// scheme where no token was shown.
    fn challenge(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::InvalidCredentials | Self::WrongPassword | Self::NoToken(_) => {
                Some("Bearer".into())
            }
            Self::TokenRefused(_) | Self::RefreshTokenRefused => {
                Some(format!(r#"Bearer error="invalid_token", error_description="{self}""#).into())
            }
            Self::PermissionMissing(permission) => {
                Some(format!(r#"Bearer error="insufficient_scope", scope="{permission}""#).into())
            }
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after } => Some(*retry_after),
            Self::Unavailable(_)
            | Self::DatabaseUnreachable(_)
            | Self::RevocationsStale(_)
            | Self::ShuttingDown => Some(RETRY_LATER),
            _ => None,
        }
    }

    /// Reads why `actix-web` could not read a body.
    pub(super) fn from_json_payload(error: &JsonPayloadError, limit: usize) -> Self {
        match error {
            JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
                Self::BodyTooLarge(limit)
            }
            JsonPayloadError::ContentType => Self::NotJson,
            JsonPayloadError::Deserialize(error) => Self::InvalidBody(error.to_string()),
            other => Self::InvalidBody(other.to_string()),
        }
    }

    /// Reads why `actix-web` could not read a form.
    pub(super) fn from_form(error: &UrlencodedError, limit: usize) -> Self {
        match error {
            UrlencodedError::Overflow { .. } => Self::BodyTooLarge(limit),
            UrlencodedError::ContentType => Self::NotForm,
            other => Self::InvalidBody(other.to_string()),
        }
    }
}

fn role_names() -> String {
    Role::ALL.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")
}

fn refusal_code(refusal: TokenRefusal) -> &'static str {
    match refusal {
        TokenRefusal::NotEnoughSegments => "not_enough_segments",
        TokenRefusal::BadSignature => "bad_signature",
        TokenRefusal::AlgorithmNotAllowed => "algorithm_not_allowed",
        TokenRefusal::Expired => "token_expired",
        TokenRefusal::NotYetValid => "token_not_yet_valid",
        TokenRefusal::WrongType => "wrong_token_type",
        TokenRefusal::Revoked => "token_revoked",
        TokenRefusal::Invalid => "invalid_token",
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut reply = HttpResponse::build(self.status());
        if let Some(challenge) = self.challenge() {
            reply.insert_header((WWW_AUTHENTICATE, challenge.as_ref()));
        }
        if let Some(delay) = self.retry_after() {
            // Rounded up: a client that comes back too early is only sent away again.
            reply
                .insert_header((RETRY_AFTER, delay.as_millis().div_ceil(1_000).max(1).to_string()));
        }
        if let Self::MethodNotAllowed(allowed) = self {
            reply.insert_header((ALLOW, *allowed));
        }
        reply.json(self.body())
    }
}

impl From<UserError> for ApiError {
    fn from(error: UserError) -> Self {
        match &error {
            UserError::UsernameTaken => Self::UserExists,
            UserError::Gone => Self::NotFound,
            UserError::InitiatorOut => TokenRefusal::Revoked.into(),
            UserError::InvalidCredentials => Self::InvalidCredentials,
            UserError::Overloaded { retry_after } => Self::Overloaded { retry_after: *retry_after },
            UserError::Store(cause) if !cause.is_passing() => Self::Internal(error.into()),
            UserError::Unanswered(_) | UserError::Store(_) => Self::Unavailable(error.into()),
            UserError::Hashing(_) => Self::Internal(error.into()),
        }
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        match &error {
            SessionError::Over | SessionError::Foreign => Self::NotFound,
            SessionError::InitiatorOut => TokenRefusal::Revoked.into(),
            // After the password was checked.
            SessionError::UserChanged => Self::InvalidCredentials,
            SessionError::LastAdmin => Self::LastAdmin,
            SessionError::Store(cause) if !cause.is_passing() => Self::Internal(error.into()),
            SessionError::Unanswered(_) | SessionError::Store(_) => Self::Unavailable(error.into()),
        }
    }
}

impl From<IssueError> for ApiError {
    fn from(error: IssueError) -> Self {
        Self::Internal(error.into())
    }
}

impl From<prometheus::Error> for ApiError {
    fn from(error: prometheus::Error) -> Self {
        Self::Internal(error.into())
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::actors::Unanswered;

    const SECRET: &str = "the disk at /dev/sda is on fire";

    fn cause() -> Cause {
        SECRET.into()
    }

    /// An error, its status, its code, and the headers it adds.
    type Row = (ApiError, u16, &'static str, &'static [(&'static str, &'static str)]);

    const BEARER: &[(&str, &str)] = &[("www-authenticate", "Bearer")];
    const AT_ONCE: &[(&str, &str)] = &[("retry-after", "1")];
    const TOKEN_EXPIRED: &[(&str, &str)] = &[(
        "www-authenticate",
        r#"Bearer error="invalid_token", error_description="Token has expired""#,
    )];
    const SCOPE: &[(&str, &str)] =
        &[("www-authenticate", r#"Bearer error="insufficient_scope", scope="users:read""#)];
    const REFRESH_REFUSED: &[(&str, &str)] = &[(
        "www-authenticate",
        r#"Bearer error="invalid_token", error_description="Invalid refresh token""#,
    )];

    fn table() -> Vec<Row> {
        let too_long = Duration::from_millis(2_001);
        vec![
            (ApiError::MissingCredentials, 400, "missing_credentials", &[]),
            (UsernameError::TooLong.into(), 400, "invalid_username", &[]),
            (PasswordError::TooShort.into(), 400, "invalid_password", &[]),
            (ApiError::InvalidBody("EOF".to_owned()), 400, "invalid_body", &[]),
            (ApiError::MissingRefreshToken, 400, "missing_refresh_token", &[]),
            (ApiError::RefreshTokenRefused, 401, "invalid_refresh_token", REFRESH_REFUSED),
            (ApiError::MissingPassword, 400, "missing_password", &[]),
            (ApiError::WrongPassword, 401, "wrong_password", BEARER),
            (ApiError::InvalidCredentials, 401, "invalid_credentials", BEARER),
            (NoToken::MissingHeader.into(), 401, "missing_authorization", BEARER),
            (NoToken::MissingBearer.into(), 401, "missing_bearer", BEARER),
            (NoToken::BadHeader.into(), 401, "bad_authorization", BEARER),
            (TokenRefusal::Expired.into(), 401, "token_expired", TOKEN_EXPIRED),
            (ApiError::PermissionMissing("users:read"), 403, "permission_missing", SCOPE),
            (ApiError::NotFound, 404, "not_found", &[]),
            (ApiError::MethodNotAllowed("POST"), 405, "method_not_allowed", &[("allow", "POST")]),
            (ApiError::BodyTooSlow, 408, "body_too_slow", &[]),
            (ApiError::UserExists, 409, "user_exists", &[]),
            (ApiError::LastAdmin, 409, "last_admin", &[]),
            (ApiError::InvalidQuery("limit".to_owned()), 400, "invalid_query", &[]),
            (ApiError::MissingRoles, 400, "missing_roles", &[]),
            (UnknownLabel::new("astronaut").into(), 400, "invalid_roles", &[]),
            (ApiError::BodyTooLarge(16), 413, "body_too_large", &[]),
            (ApiError::MissingToken, 400, "missing_token", &[]),
            (ApiError::NotForm, 415, "unsupported_media_type", &[]),
            (ApiError::NotJson, 415, "unsupported_media_type", &[]),
            (
                ApiError::Overloaded { retry_after: too_long },
                503,
                "overloaded",
                &[("retry-after", "3")],
            ),
            (ApiError::Unavailable(cause()), 503, "unavailable", AT_ONCE),
            (ApiError::DatabaseUnreachable(cause()), 503, "database_unreachable", AT_ONCE),
            (ApiError::RevocationsStale(cause()), 503, "revocations_stale", AT_ONCE),
            (ApiError::ShuttingDown, 503, "shutting_down", AT_ONCE),
            (ApiError::Internal(cause()), 500, "internal_error", &[]),
        ]
    }

    #[actix_web::test]
    async fn every_error_has_its_status_code_and_headers_and_shows_no_cause() {
        for (error, status, code, headers) in table() {
            let reply = error.error_response();
            assert_eq!(reply.status().as_u16(), status, "{error:?}");
            let expected = [&[("content-type", "application/json")], headers].concat();
            assert_eq!(reply.headers().len(), expected.len(), "{error:?}");
            for (name, value) in expected {
                assert_eq!(reply.headers().get(name).unwrap(), value, "{error:?}");
            }
            let body = to_bytes(reply.into_body()).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body, json!({ "msg": error.to_string(), "code": code }));
            assert!(!error.to_string().contains(SECRET), "{error:?}");
        }
    }

    #[test]
    fn every_error_is_in_the_document() {
        let document = crate::http::openapi();
        for (error, _, code, _) in table() {
            assert!(
                document.contains(&format!("`{code}`"))
                    || document.contains(&format!("\"{code}\"")),
                "{error:?}"
            );
        }
    }

    #[test]
    fn failures_of_the_actors_become_what_the_client_can_do_about_them() {
        let late = Unanswered::Late(Duration::from_secs(1));
        let cases = [
            (UserError::UsernameTaken.into(), "user_exists"),
            (UserError::InvalidCredentials.into(), "invalid_credentials"),
            (UserError::Overloaded { retry_after: Duration::ZERO }.into(), "overloaded"),
            (UserError::Unanswered(late).into(), "unavailable"),
            (SessionError::Unanswered(late).into(), "unavailable"),
        ];
        for (error, code) in cases {
            let error: ApiError = error;
            assert_eq!(error.code(), code, "{error:?}");
        }
    }
}
