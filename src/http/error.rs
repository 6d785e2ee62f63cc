//! [`ApiError`]: every error reply of the API, with its text, status, code and headers.

use std::time::Duration;

use actix_cors::CorsError;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use thiserror::Error;
use utoipa::ToSchema;

use super::json::reply_json;
use crate::actors::ActorError;
use crate::domain::{
    AccountError, AudienceError, ClientError, ClientNameError, ExternalIdError, KeyError,
    LackingPermissions, MetadataError, PasswordError, Permission, PermissionError, RoleError,
    RoleNameError, Roles, SECRETS_PER_CLIENT, UsernameError,
};
use crate::tokens::{IssueError, TokenRefusal};

/// `Retry-After` of errors whose duration is unknown.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Error reply. `Display` is its `msg`; a cause is only logged.
#[derive(Debug, Error)]
pub(super) enum ApiError {
    #[error("Missing username or password")]
    MissingCredentials,
    #[error(transparent)]
    InvalidUsername(#[from] UsernameError),
    #[error(transparent)]
    InvalidPassword(#[from] PasswordError),
    #[error(transparent)]
    InvalidExternalId(#[from] ExternalIdError),
    #[error(transparent)]
    InvalidMetadata(#[from] MetadataError),
    #[error("The request body is not valid: {0}")]
    InvalidBody(String),
    #[error("The query is not valid: {0}")]
    InvalidQuery(String),
    /// The permissions that a gateway requires do not parse.
    #[error("The required permissions are not valid: {0}")]
    InvalidRequirement(String),
    #[error("Missing roles")]
    MissingRoles,
    #[error("Missing permissions")]
    MissingPermissions,
    #[error("A built-in role cannot be deleted")]
    BuiltInRole,
    #[error("An account has the role")]
    RoleInUse,
    #[error("Clients have no account")]
    NotUser,
    #[error(transparent)]
    InvalidRoles(#[from] RoleNameError),
    #[error("Roles must be among these: {}", .0.names().join(", "))]
    UnknownRoles(Roles),
    #[error(transparent)]
    PermissionsLacking(#[from] LackingPermissions),
    #[error(transparent)]
    InvalidClientName(#[from] ClientNameError),
    #[error(transparent)]
    InvalidPermissions(#[from] PermissionError),
    #[error("The client exists already")]
    ClientExists,
    #[error("A client has at most {SECRETS_PER_CLIENT} secrets")]
    TooManySecrets,
    #[error("The client requests tokens too often")]
    TooManyTokens { retry_after: Duration },
    #[error(transparent)]
    InvalidAudience(#[from] AudienceError),
    #[error("Missing token")]
    MissingToken,
    #[error("Missing grant_type")]
    MissingGrantType,
    #[error("grant_type must be client_credentials")]
    UnsupportedGrantType,
    #[error("The client does not have all permissions in scope")]
    InvalidScope,
    /// The client is unknown, disabled or expired, or the secret is wrong.
    #[error("Invalid client_id or client_secret")]
    InvalidClient,
    #[error("The request has two kinds of credentials")]
    TwoCredentials,
    #[error("Missing refresh token")]
    MissingRefreshToken,
    #[error("Missing reset code")]
    MissingResetCode,
    #[error("Missing password")]
    MissingPassword,
    #[error("Invalid username or password")]
    InvalidCredentials,
    /// The access token is valid, but the password that the operation also requires is not.
    #[error("Wrong password")]
    WrongPassword,
    /// The refresh token is not authentic, or its session has ended.
    #[error("Invalid refresh token")]
    InvalidRefreshToken,
    /// No enabled account has the code, or it has expired.
    #[error("Invalid reset code")]
    InvalidResetCode,
    #[error(transparent)]
    AuthorizationHeader(#[from] AuthorizationHeaderError),
    #[error(transparent)]
    TokenRefused(#[from] TokenRefusal),
    #[error("You do not have the permission {0}")]
    PermissionMissing(Permission),
    #[error(
        "The account has more permissions than fit in a token; an administrator has to take some away"
    )]
    ScopeTooLong,
    #[error("The preflight was refused: {0}")]
    PreflightRefused(CorsError),
    #[error("Not found")]
    NotFound,
    /// Lists the methods that the path has.
    #[error("Method not allowed. Allowed: {0}")]
    MethodNotAllowed(String),
    #[error("The request body did not arrive in time")]
    BodyTooSlow,
    #[error("Registration is closed")]
    RegistrationClosed,
    #[error("User already exists")]
    UserExists,
    #[error("Another account has the external id")]
    ExternalIdTaken,
    #[error("The account is disabled")]
    UserDisabled,
    #[error("The last administrator has to stay one")]
    LastAdmin,
    #[error("The pending key has to be published for another {} s", .0.as_secs_f64().ceil())]
    KeyTooNew(Duration),
    #[error("JWT_ALGORITHM is HS256: JWT_SECRET_KEY signs, and its change ends the tokens")]
    KeysNotUsed,
    #[error("The metadata is published once PUBLIC_URL is set")]
    NoPublicUrl,
    #[error("Too many attempts, try again later")]
    TooManyAttempts {
        /// Time after which a retry may succeed.
        retry_after: Duration,
    },
    #[error("Too many registrations, try again later")]
    TooManyRegistrations {
        /// Time after which a retry may succeed.
        retry_after: Duration,
    },
    #[error("The password was changed too often, try again later")]
    TooManyPasswordChanges {
        /// Time after which a retry may succeed.
        retry_after: Duration,
    },
    #[error("Too many tokens of the account were revoked recently, try again later")]
    TooManyRevocations {
        /// Time after which a retry may succeed.
        retry_after: Duration,
    },
    #[error("The request body must be at most {0} bytes long")]
    BodyTooLarge(usize),
    #[error("The request body must be JSON, sent with 'Content-Type: application/json'")]
    NotJson,
    #[error(
        "The request body must be a form, sent with \
         'Content-Type: application/x-www-form-urlencoded'"
    )]
    NotForm,
    #[error("Too many requests at once, try again later")]
    Overloaded {
        /// Time after which a retry may succeed.
        retry_after: Duration,
    },
    /// A dependency did not answer; a retry may succeed.
    #[error("Service temporarily unavailable, try again later")]
    Unavailable(#[source] Cause),
    #[error("The database cannot be used")]
    DatabaseUnreachable(#[source] Cause),
    /// The replica is stale, so that each token is checked against the database.
    #[error("The known revocations are too old")]
    RevocationsStale(#[source] Cause),
    #[error("The service is shutting down")]
    ShuttingDown,
    #[error("Internal server error")]
    Internal(#[source] Cause),
}

/// Reason why an `Authorization` header yields no token. The texts are those of Flask-JWT-Extended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum AuthorizationHeaderError {
    /// There is no header, or it is empty.
    #[error("Missing Authorization Header")]
    Missing,
    /// The header has another scheme.
    #[error(
        "Missing 'Bearer' type in 'Authorization' header. Expected 'Authorization: Bearer <JWT>'"
    )]
    NotBearer,
    /// The header is not a scheme followed by one token.
    #[error("Bad Authorization header. Expected 'Authorization: Bearer <JWT>'")]
    Malformed,
}

/// Body of every error reply.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorBody {
    /// Text for a person; it may change.
    msg: String,
    /// Code for a program; it never changes.
    code: &'static str,
}

impl ApiError {
    /// Returns the code, which is part of the API and never changes.
    pub(super) fn code(&self) -> &'static str {
        self.status_and_code().1
    }

    /// Returns the body of the reply.
    pub(super) fn body(&self) -> ErrorBody {
        ErrorBody { msg: self.to_string(), code: self.code() }
    }

    /// Returns the error if the operating system provides no random bytes.
    pub(super) fn no_random_bytes() -> Self {
        Self::Internal("the operating system provides no random bytes".into())
    }

    /// Returns the cause, which only failures of the service have.
    pub(super) fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unavailable(cause)
            | Self::DatabaseUnreachable(cause)
            | Self::RevocationsStale(cause)
            | Self::Internal(cause) => Some(cause.as_ref()),
            _ => None,
        }
    }

    /// Converts an error about the requester's own account.
    pub(super) fn from_own_account(error: ActorError) -> Self {
        match error {
            // Deleting an account revokes its access tokens.
            ActorError::Account(AccountError::NotFound) => TokenRefusal::Revoked.into(),
            ActorError::InvalidCredentials | ActorError::Account(AccountError::Changed) => {
                Self::WrongPassword
            }
            error => error.into(),
        }
    }

    #[expect(clippy::too_many_lines, reason = "one exhaustive match")]
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::MissingCredentials => (StatusCode::BAD_REQUEST, "missing_credentials"),
            Self::InvalidUsername(_) => (StatusCode::BAD_REQUEST, "invalid_username"),
            Self::InvalidPassword(PasswordError::TooCommon | PasswordError::IsUsername) => {
                (StatusCode::BAD_REQUEST, "password_too_common")
            }
            Self::InvalidPassword(_) => (StatusCode::BAD_REQUEST, "invalid_password"),
            Self::InvalidExternalId(_) => (StatusCode::BAD_REQUEST, "invalid_external_id"),
            Self::InvalidMetadata(_) => (StatusCode::BAD_REQUEST, "invalid_metadata"),
            Self::InvalidBody(_) => (StatusCode::BAD_REQUEST, "invalid_body"),
            Self::InvalidQuery(_) => (StatusCode::BAD_REQUEST, "invalid_query"),
            Self::InvalidRequirement(_) => (StatusCode::BAD_REQUEST, "invalid_requirement"),
            Self::MissingRoles => (StatusCode::BAD_REQUEST, "missing_roles"),
            Self::InvalidRoles(_) | Self::UnknownRoles(_) => {
                (StatusCode::BAD_REQUEST, "invalid_roles")
            }
            Self::MissingPermissions => (StatusCode::BAD_REQUEST, "missing_permissions"),
            Self::BuiltInRole => (StatusCode::CONFLICT, "built_in_role"),
            Self::RoleInUse => (StatusCode::CONFLICT, "role_in_use"),
            Self::NotUser => (StatusCode::FORBIDDEN, "not_a_user"),
            Self::PermissionsLacking(_) => (StatusCode::FORBIDDEN, "permissions_lacking"),
            Self::InvalidAudience(_) => (StatusCode::BAD_REQUEST, "invalid_audience"),
            Self::MissingToken => (StatusCode::BAD_REQUEST, "missing_token"),
            Self::MissingGrantType => (StatusCode::BAD_REQUEST, "missing_grant_type"),
            Self::UnsupportedGrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
            Self::InvalidScope => (StatusCode::BAD_REQUEST, "invalid_scope"),
            Self::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client"),
            Self::TwoCredentials => (StatusCode::BAD_REQUEST, "two_credentials"),
            Self::MissingRefreshToken => (StatusCode::BAD_REQUEST, "missing_refresh_token"),
            Self::MissingResetCode => (StatusCode::BAD_REQUEST, "missing_reset_code"),
            Self::MissingPassword => (StatusCode::BAD_REQUEST, "missing_password"),
            Self::InvalidCredentials => (StatusCode::UNAUTHORIZED, "invalid_credentials"),
            Self::WrongPassword => (StatusCode::UNAUTHORIZED, "wrong_password"),
            Self::InvalidRefreshToken => (StatusCode::UNAUTHORIZED, "invalid_refresh_token"),
            Self::InvalidResetCode => (StatusCode::UNAUTHORIZED, "invalid_reset_code"),
            Self::AuthorizationHeader(error) => (StatusCode::UNAUTHORIZED, error.code()),
            Self::TokenRefused(refusal) => (StatusCode::UNAUTHORIZED, refusal_code(*refusal)),
            Self::PermissionMissing(_) => (StatusCode::FORBIDDEN, "permission_missing"),
            Self::ScopeTooLong => (StatusCode::FORBIDDEN, "scope_too_long"),
            Self::PreflightRefused(_) => (StatusCode::FORBIDDEN, "preflight_refused"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "body_too_slow"),
            Self::RegistrationClosed => (StatusCode::FORBIDDEN, "registration_closed"),
            Self::UserExists => (StatusCode::CONFLICT, "user_exists"),
            Self::ExternalIdTaken => (StatusCode::CONFLICT, "external_id_taken"),
            Self::UserDisabled => (StatusCode::CONFLICT, "user_disabled"),
            Self::LastAdmin => (StatusCode::CONFLICT, "last_admin"),
            Self::InvalidClientName(_) => (StatusCode::BAD_REQUEST, "invalid_client_name"),
            Self::InvalidPermissions(_) => (StatusCode::BAD_REQUEST, "invalid_permissions"),
            Self::ClientExists => (StatusCode::CONFLICT, "client_exists"),
            Self::TooManySecrets => (StatusCode::CONFLICT, "too_many_secrets"),
            Self::KeyTooNew(_) => (StatusCode::CONFLICT, "key_too_new"),
            Self::KeysNotUsed => (StatusCode::CONFLICT, "keys_not_used"),
            Self::NoPublicUrl => (StatusCode::NOT_FOUND, "no_public_url"),
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::NotJson | Self::NotForm => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            Self::TooManyTokens { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_tokens"),
            Self::TooManyAttempts { .. } => (StatusCode::TOO_MANY_REQUESTS, "too_many_attempts"),
            Self::TooManyRegistrations { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "too_many_registrations")
            }
            Self::TooManyPasswordChanges { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "too_many_password_changes")
            }
            Self::TooManyRevocations { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "too_many_revocations")
            }
            Self::Overloaded { .. } => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Self::DatabaseUnreachable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "database_unreachable")
            }
            Self::RevocationsStale(_) => (StatusCode::SERVICE_UNAVAILABLE, "revocations_stale"),
            Self::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }

    /// Returns the `error` in a reply under `/oauth/` (RFC 6749 section 5.2, RFC 6750 section 3.1).
    pub(super) fn oauth_code(&self) -> &'static str {
        match self {
            Self::InvalidClient | Self::AuthorizationHeader(_) => "invalid_client",
            Self::TokenRefused(_) => "invalid_token",
            Self::PermissionMissing(_) => "insufficient_scope",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            error if error.status_code().is_server_error() => "temporarily_unavailable",
            Self::TooManyTokens { .. } => "temporarily_unavailable",
            _ => "invalid_request",
        }
    }

    /// Returns the value of `WWW-Authenticate` (RFC 6750 section 3): only the scheme if the request
    /// contained no token.
    fn challenge(&self) -> Option<String> {
        match self {
            Self::InvalidCredentials
            | Self::WrongPassword
            | Self::InvalidResetCode
            | Self::AuthorizationHeader(_) => Some("Bearer".to_owned()),
            Self::InvalidClient => Some(r#"Basic realm="portcullis""#.to_owned()),
            Self::TokenRefused(_) | Self::InvalidRefreshToken => {
                Some(format!(r#"Bearer error="invalid_token", error_description="{self}""#))
            }
            Self::PermissionMissing(permission) => {
                Some(format!(r#"Bearer error="insufficient_scope", scope="{permission}""#))
            }
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyTokens { retry_after }
            | Self::TooManyAttempts { retry_after }
            | Self::TooManyRegistrations { retry_after }
            | Self::TooManyPasswordChanges { retry_after }
            | Self::TooManyRevocations { retry_after }
            | Self::Overloaded { retry_after } => Some(*retry_after),
            Self::Unavailable(_)
            | Self::DatabaseUnreachable(_)
            | Self::RevocationsStale(_)
            | Self::ShuttingDown => Some(DEFAULT_RETRY_AFTER),
            _ => None,
        }
    }
}

impl AuthorizationHeaderError {
    fn code(self) -> &'static str {
        match self {
            Self::Missing => "missing_authorization",
            Self::NotBearer => "missing_bearer",
            Self::Malformed => "bad_authorization",
        }
    }
}

pub(super) fn refusal_code(refusal: TokenRefusal) -> &'static str {
    match refusal {
        TokenRefusal::NotEnoughSegments => "not_enough_segments",
        TokenRefusal::BadSignature => "bad_signature",
        TokenRefusal::AlgorithmNotAllowed => "algorithm_not_allowed",
        TokenRefusal::UnknownKey => "unknown_key",
        TokenRefusal::WrongIssuer => "wrong_issuer",
        TokenRefusal::WrongAudience => "wrong_audience",
        TokenRefusal::Expired => "token_expired",
        TokenRefusal::NotYetValid => "token_not_yet_valid",
        TokenRefusal::WrongType => "wrong_token_type",
        TokenRefusal::Revoked => "token_revoked",
        TokenRefusal::Invalid => "invalid_token",
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status_and_code().0
    }

    fn error_response(&self) -> HttpResponse {
        let mut reply = HttpResponseBuilder::new(self.status_code());
        if let Some(challenge) = self.challenge() {
            reply.insert_header((WWW_AUTHENTICATE, challenge));
        }
        if let Some(delay) = self.retry_after() {
            // Rounded up: a retry that comes too early is only refused again.
            let seconds = delay.as_millis().div_ceil(1_000).max(1);
            reply.insert_header((RETRY_AFTER, seconds.to_string()));
        }
        if let Self::RevocationsStale(_) = self {
            // So that the load balancer finds another instance.
            reply.force_close();
        }
        if let Self::MethodNotAllowed(allowed) = self {
            reply.insert_header((ALLOW, allowed.as_str()));
        }
        reply_json(&mut reply, &self.body())
    }
}

impl From<ActorError> for ApiError {
    fn from(error: ActorError) -> Self {
        match &error {
            ActorError::Account(cause) => cause.clone().into(),
            ActorError::Role(cause) => cause.clone().into(),
            ActorError::Client(cause) => cause.clone().into(),
            ActorError::TooManyTokens { retry_after } => {
                Self::TooManyTokens { retry_after: *retry_after }
            }
            ActorError::TooManyAttempts { retry_after } => {
                Self::TooManyAttempts { retry_after: *retry_after }
            }
            ActorError::Key(KeyError::TooEarly(wait)) => Self::KeyTooNew(*wait),
            ActorError::Key(KeyError::NotUsed) => Self::KeysNotUsed,
            ActorError::Key(KeyError::RequesterSignedOut) => TokenRefusal::Revoked.into(),
            ActorError::Password(cause) => cause.clone().into(),
            ActorError::InvalidCredentials => Self::InvalidCredentials,
            ActorError::TooManyRegistrations { retry_after } => {
                Self::TooManyRegistrations { retry_after: *retry_after }
            }
            ActorError::SessionNotFound
            | ActorError::NotOwner
            | ActorError::Key(KeyError::NotFound) => Self::NotFound,
            ActorError::Overloaded { retry_after } => {
                Self::Overloaded { retry_after: *retry_after }
            }
            ActorError::Store(cause) if !cause.is_transient() => Self::Internal(error.into()),
            ActorError::Store(_) | ActorError::Ask(_) => Self::Unavailable(error.into()),
            ActorError::Hashing(_) | ActorError::Crypto(_) => Self::Internal(error.into()),
        }
    }
}

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::NameTaken => Self::ClientExists,
            ClientError::NotFound => Self::NotFound,
            ClientError::TooManySecrets => Self::TooManySecrets,
            ClientError::RequesterSignedOut => TokenRefusal::Revoked.into(),
            ClientError::PermissionsLacking(lacking) => lacking.into(),
        }
    }
}

impl From<AccountError> for ApiError {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::UsernameTaken => Self::UserExists,
            AccountError::ExternalIdTaken => Self::ExternalIdTaken,
            AccountError::NotFound => Self::NotFound,
            // The password was checked against the account before the change.
            AccountError::Changed => Self::InvalidCredentials,
            AccountError::RequesterSignedOut => TokenRefusal::Revoked.into(),
            AccountError::LastAdmin => Self::LastAdmin,
            AccountError::Disabled => Self::UserDisabled,
            AccountError::InvalidResetCode => Self::InvalidResetCode,
            AccountError::UnknownRoles { known } => Self::UnknownRoles(known),
            AccountError::PermissionsLacking(lacking) => lacking.into(),
            AccountError::TooManyPasswordChanges { retry_after } => {
                Self::TooManyPasswordChanges { retry_after }
            }
            AccountError::TooManyRevocations { retry_after } => {
                Self::TooManyRevocations { retry_after }
            }
        }
    }
}

impl From<RoleError> for ApiError {
    fn from(error: RoleError) -> Self {
        match error {
            RoleError::NotFound => Self::NotFound,
            RoleError::BuiltIn => Self::BuiltInRole,
            RoleError::InUse => Self::RoleInUse,
            RoleError::RequesterSignedOut => TokenRefusal::Revoked.into(),
            RoleError::PermissionsLacking(lacking) => lacking.into(),
        }
    }
}

impl From<IssueError> for ApiError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::NoKey => Self::Unavailable(error.into()),
            IssueError::ScopeTooLong(_) => Self::ScopeTooLong,
            IssueError::Sign(_) => Self::Internal(error.into()),
        }
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        Self::Internal(error.into())
    }
}

impl From<prometheus::Error> for ApiError {
    fn from(error: prometheus::Error) -> Self {
        Self::Internal(error.into())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use actix_web::body::to_bytes;
    use serde_json::{Value, json};

    use super::*;
    use crate::actors::AskError;
    use crate::domain::Permissions;

    const SECRET: &str = "the disk at /dev/sda is on fire";

    fn secret() -> Cause {
        SECRET.into()
    }

    /// Error with its status, its code, and the headers it adds.
    type Example = (ApiError, u16, &'static str, &'static [(&'static str, &'static str)]);

    const BEARER: &[(&str, &str)] = &[("www-authenticate", "Bearer")];
    const RETRY_AFTER_3: &[(&str, &str)] = &[("retry-after", "3")];
    const RETRY_AFTER_1: &[(&str, &str)] = &[("retry-after", "1")];
    const TOKEN_EXPIRED: &[(&str, &str)] = &[(
        "www-authenticate",
        r#"Bearer error="invalid_token", error_description="Token has expired""#,
    )];
    const SCOPE: &[(&str, &str)] =
        &[("www-authenticate", r#"Bearer error="insufficient_scope", scope="users:read""#)];
    const INVALID_REFRESH_TOKEN: &[(&str, &str)] = &[(
        "www-authenticate",
        r#"Bearer error="invalid_token", error_description="Invalid refresh token""#,
    )];

    #[expect(clippy::too_many_lines, reason = "it is a table")]
    pub(in crate::http) fn examples() -> Vec<Example> {
        let retry_after = Duration::from_millis(2_001);
        let too_many_changes = ApiError::TooManyPasswordChanges { retry_after };
        let too_many_revocations = ApiError::TooManyRevocations { retry_after };
        let post = "POST".to_owned();
        vec![
            (ApiError::MissingCredentials, 400, "missing_credentials", &[]),
            (UsernameError::TooLong.into(), 400, "invalid_username", &[]),
            (PasswordError::TooLong.into(), 400, "invalid_password", &[]),
            (PasswordError::TooCommon.into(), 400, "password_too_common", &[]),
            (PasswordError::IsUsername.into(), 400, "password_too_common", &[]),
            (ApiError::InvalidBody("EOF".to_owned()), 400, "invalid_body", &[]),
            (ApiError::InvalidQuery("limit".to_owned()), 400, "invalid_query", &[]),
            (ApiError::InvalidRequirement("x".to_owned()), 400, "invalid_requirement", &[]),
            (ApiError::MissingRoles, 400, "missing_roles", &[]),
            (RoleNameError.into(), 400, "invalid_roles", &[]),
            (ApiError::MissingPermissions, 400, "missing_permissions", &[]),
            (PermissionError.into(), 400, "invalid_permissions", &[]),
            (LackingPermissions(Permissions::default()).into(), 403, "permissions_lacking", &[]),
            (ApiError::BuiltInRole, 409, "built_in_role", &[]),
            (ApiError::RoleInUse, 409, "role_in_use", &[]),
            (AudienceError::example().into(), 400, "invalid_audience", &[]),
            (ApiError::MissingToken, 400, "missing_token", &[]),
            (ApiError::MissingRefreshToken, 400, "missing_refresh_token", &[]),
            (ApiError::MissingResetCode, 400, "missing_reset_code", &[]),
            (ApiError::MissingPassword, 400, "missing_password", &[]),
            (ApiError::InvalidCredentials, 401, "invalid_credentials", BEARER),
            (ApiError::WrongPassword, 401, "wrong_password", BEARER),
            (ApiError::InvalidResetCode, 401, "invalid_reset_code", BEARER),
            (ApiError::InvalidRefreshToken, 401, "invalid_refresh_token", INVALID_REFRESH_TOKEN),
            (AuthorizationHeaderError::Missing.into(), 401, "missing_authorization", BEARER),
            (AuthorizationHeaderError::NotBearer.into(), 401, "missing_bearer", BEARER),
            (AuthorizationHeaderError::Malformed.into(), 401, "bad_authorization", BEARER),
            (TokenRefusal::Expired.into(), 401, "token_expired", TOKEN_EXPIRED),
            (ApiError::PermissionMissing(Permission::USERS_READ), 403, "permission_missing", SCOPE),
            (
                ApiError::PreflightRefused(CorsError::OriginNotAllowed),
                403,
                "preflight_refused",
                &[],
            ),
            (ApiError::NotFound, 404, "not_found", &[]),
            (ApiError::MethodNotAllowed(post), 405, "method_not_allowed", &[("allow", "POST")]),
            (ApiError::BodyTooSlow, 408, "body_too_slow", &[]),
            (ApiError::RegistrationClosed, 403, "registration_closed", &[]),
            (ApiError::UserExists, 409, "user_exists", &[]),
            (ApiError::ExternalIdTaken, 409, "external_id_taken", &[]),
            (ExternalIdError.into(), 400, "invalid_external_id", &[]),
            (MetadataError.into(), 400, "invalid_metadata", &[]),
            (ApiError::UserDisabled, 409, "user_disabled", &[]),
            (ApiError::LastAdmin, 409, "last_admin", &[]),
            (ApiError::KeyTooNew(retry_after), 409, "key_too_new", &[]),
            (ApiError::KeysNotUsed, 409, "keys_not_used", &[]),
            (ApiError::ScopeTooLong, 403, "scope_too_long", &[]),
            (ApiError::NoPublicUrl, 404, "no_public_url", &[]),
            (ApiError::BodyTooLarge(16), 413, "body_too_large", &[]),
            (ApiError::TooManyAttempts { retry_after }, 429, "too_many_attempts", RETRY_AFTER_3),
            (too_many_changes, 429, "too_many_password_changes", RETRY_AFTER_3),
            (too_many_revocations, 429, "too_many_revocations", RETRY_AFTER_3),
            (ApiError::NotJson, 415, "unsupported_media_type", &[]),
            (ApiError::NotForm, 415, "unsupported_media_type", &[]),
            (ApiError::Overloaded { retry_after }, 503, "overloaded", RETRY_AFTER_3),
            (ApiError::Unavailable(secret()), 503, "unavailable", RETRY_AFTER_1),
            (ApiError::DatabaseUnreachable(secret()), 503, "database_unreachable", RETRY_AFTER_1),
            (ApiError::RevocationsStale(secret()), 503, "revocations_stale", RETRY_AFTER_1),
            (ApiError::ShuttingDown, 503, "shutting_down", RETRY_AFTER_1),
            (ApiError::Internal(secret()), 500, "internal_error", &[]),
        ]
    }

    #[actix_web::test]
    async fn error_reply_has_status_code_and_headers_but_no_cause() {
        for (error, status, code, headers) in examples() {
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
    fn error_of_an_actor_has_a_code() {
        let timeout = AskError::Timeout(Duration::from_secs(1));
        let cases = [
            (ActorError::Account(AccountError::UsernameTaken), "user_exists"),
            (ActorError::Account(AccountError::NotFound), "not_found"),
            (ActorError::Account(AccountError::RequesterSignedOut), "token_revoked"),
            (ActorError::Account(AccountError::LastAdmin), "last_admin"),
            (ActorError::Key(KeyError::TooEarly(Duration::from_secs(1))), "key_too_new"),
            (ActorError::Key(KeyError::NotFound), "not_found"),
            (ActorError::Key(KeyError::RequesterSignedOut), "token_revoked"),
            (ActorError::InvalidCredentials, "invalid_credentials"),
            (ActorError::NotOwner, "not_found"),
            (ActorError::Overloaded { retry_after: Duration::ZERO }, "overloaded"),
            (ActorError::Ask(timeout), "unavailable"),
        ];
        for (error, code) in cases {
            assert_eq!(ApiError::from(error.clone()).code(), code, "{error:?}");
        }
    }

    #[test]
    fn error_about_the_own_account_has_another_code() {
        let cases = [
            (ActorError::Account(AccountError::NotFound), "token_revoked"),
            (ActorError::Account(AccountError::Changed), "wrong_password"),
            (ActorError::InvalidCredentials, "wrong_password"),
            (ActorError::Account(AccountError::LastAdmin), "last_admin"),
        ];
        for (error, code) in cases {
            assert_eq!(ApiError::from_own_account(error.clone()).code(), code, "{error:?}");
        }
    }
}
