//! [`Refused`]: the error replies of an operation in the OpenAPI document. They are generated from
//! [`ApiError`], so that the document and the service cannot disagree.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::marker::PhantomData;
use std::time::Duration;

use actix_web::ResponseError;
use actix_web::http::StatusCode;
use serde_json::json;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::{Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use super::body::MAX_BODY_SIZE;
use super::error::{ApiError, AuthorizationHeaderError, ErrorBody};
use crate::domain::{
    AccountError, AudienceError, ClientNameError, ExternalIdError, LackingPermissions,
    MetadataError, PasswordError, PasswordPolicy, Permission, PermissionError, Permissions,
    RoleName, RoleNameError, Roles, UsernameError,
};
use crate::tokens::TokenRefusal;

/// Headers of error replies: name, description, and pattern of the value.
pub(super) const ERROR_HEADERS: [(&str, &str, &str); 2] = [
    (
        "WWW-Authenticate",
        "The scheme and, if a token was refused, the reason (RFC 6750 section 3).",
        "^(Bearer|Basic)( .+)?$",
    ),
    ("Retry-After", "Seconds to wait before the next try.", "^[1-9][0-9]*$"),
];

/// Error replies of a handler, for its `responses(...)`: `Refused<(BadToken, NotFound)>`.
pub(super) struct Refused<R>(PhantomData<R>);

/// One or several reasons to reply with an error.
pub(super) trait Reasons {
    /// Returns an example of each error.
    fn errors() -> Vec<ApiError>;
}

/// Declares reasons, each with examples of its errors.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $($error:expr),+;)*) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl Reasons for $name {
            fn errors() -> Vec<ApiError> {
                vec![$($error.into()),+]
            }
        }
    )*};
}

reasons! {
    /// Errors of [`Authenticated`](super::authenticated::Authenticated).
    BadToken =>
        AuthorizationHeaderError::Missing,
        AuthorizationHeaderError::NotBearer,
        AuthorizationHeaderError::Malformed,
        TokenRefusal::NotEnoughSegments,
        TokenRefusal::BadSignature,
        TokenRefusal::AlgorithmNotAllowed,
        TokenRefusal::UnknownKey,
        TokenRefusal::WrongIssuer,
        TokenRefusal::WrongAudience,
        TokenRefusal::Expired,
        TokenRefusal::NotYetValid,
        TokenRefusal::WrongType,
        TokenRefusal::Revoked,
        TokenRefusal::Invalid,
        ApiError::Unavailable(hidden_cause()),
        ApiError::Internal(hidden_cause());
    /// Errors of [`JsonBody`](super::body::JsonBody).
    BadJson =>
        ApiError::InvalidBody("EOF while parsing a value at line 1 column 0".to_owned()),
        ApiError::BodyTooSlow,
        ApiError::BodyTooLarge(MAX_BODY_SIZE),
        ApiError::NotJson;
    /// Errors of [`FormBody`](super::body::FormBody).
    BadForm =>
        ApiError::InvalidBody("Parse error: duplicate field `token`.".to_owned()),
        ApiError::BodyTooSlow,
        ApiError::BodyTooLarge(MAX_BODY_SIZE),
        ApiError::NotForm;
    /// Errors of [`Query`](actix_web::web::Query).
    BadQuery => ApiError::InvalidQuery("limit must be from 1 to 200".to_owned());
    /// Errors of [`NoQuery`](super::page::NoQuery).
    NoParameters =>
        ApiError::InvalidQuery("unknown field `dry_run`, there are no fields".to_owned());

    /// Errors of the permissions that a gateway requires.
    BadRequirement =>
        ApiError::InvalidRequirement(r#"unknown parameter "permision""#.to_owned());

    MissingCredentials => ApiError::MissingCredentials;
    MissingPassword => ApiError::MissingPassword;
    MissingResetCode => ApiError::MissingResetCode;
    MissingRefreshToken => ApiError::MissingRefreshToken;
    MissingRoles => ApiError::MissingRoles;
    MissingToken => ApiError::MissingToken;
    BadUsername => UsernameError::TooLong, UsernameError::Forbidden;
    BadExternalId => ExternalIdError;
    BadMetadata => MetadataError;
    /// Errors of a new password.
    BadPassword =>
        PasswordError::TooShort { min_length: PasswordPolicy::LEAST_MIN_LENGTH },
        PasswordError::TooLong,
        PasswordError::ContainsNul,
        PasswordError::TooCommon,
        PasswordError::IsUsername;
    BadAudience => AudienceError::example();
    BadRoles => ApiError::InvalidRoles(RoleNameError), AccountError::UnknownRoles {
        known: Roles::from_iter([RoleName::ADMIN, RoleName::INTROSPECTOR, RoleName::USER]),
    };
    BadRoleName => RoleNameError;
    MissingPermissions => ApiError::MissingPermissions;
    BadPermissions => PermissionError;
    BuiltInRole => ApiError::BuiltInRole;
    RoleInUse => ApiError::RoleInUse;
    /// The requester grants what it lacks.
    LacksPermissions => LackingPermissions(Permissions::from_iter([Permission::KEYS_WRITE]));
    WrongCredentials => ApiError::InvalidCredentials;
    WrongPassword => ApiError::WrongPassword;
    WrongResetCode => ApiError::InvalidResetCode;
    WrongRefreshToken => ApiError::InvalidRefreshToken;
    RegistrationClosed => ApiError::RegistrationClosed;
    UserExists => ApiError::UserExists;
    ExternalIdTaken => ApiError::ExternalIdTaken;
    UserDisabled => ApiError::UserDisabled;
    LastAdmin => ApiError::LastAdmin;
    KeyTooNew => ApiError::KeyTooNew(Duration::from_mins(10));
    KeysNotUsed => ApiError::KeysNotUsed;
    NoPublicUrl => ApiError::NoPublicUrl;
    ScopeTooLong => ApiError::ScopeTooLong;
    TooManyAttempts => ApiError::TooManyAttempts { retry_after: Duration::from_secs(5) };
    TooManyRegistrations =>
        ApiError::TooManyRegistrations { retry_after: Duration::from_mins(1) };
    TooManyPasswordChanges =>
        ApiError::TooManyPasswordChanges { retry_after: Duration::from_mins(1) };
    TooManyRevocations => ApiError::TooManyRevocations { retry_after: Duration::from_mins(10) };
    BadGrant => ApiError::MissingGrantType, ApiError::UnsupportedGrantType, ApiError::InvalidScope;
    WrongClient => ApiError::InvalidClient;
    TwoCredentials => ApiError::TwoCredentials;
    TooManyTokens => ApiError::TooManyTokens { retry_after: Duration::from_secs(1) };
    BadClient => ClientNameError, PermissionError, AudienceError::example();
    ClientExists => ApiError::ClientExists;
    TooManySecrets => ApiError::TooManySecrets;
    /// The bearer is a client.
    NotUser => ApiError::NotUser;
    NotFound => ApiError::NotFound;
    NeedsDashboardRead => ApiError::PermissionMissing(Permission::DASHBOARD_READ);
    NeedsAuditRead => ApiError::PermissionMissing(Permission::AUDIT_READ);
    NeedsUsersRead => ApiError::PermissionMissing(Permission::USERS_READ);
    NeedsUsersWrite => ApiError::PermissionMissing(Permission::USERS_WRITE);
    NeedsClientsRead => ApiError::PermissionMissing(Permission::CLIENTS_READ);
    NeedsClientsWrite =>
        ApiError::PermissionMissing(Permission::CLIENTS_WRITE),
        LackingPermissions(Permissions::from_iter([Permission::KEYS_WRITE]));
    NeedsRolesRead => ApiError::PermissionMissing(Permission::ROLES_READ);
    NeedsRolesWrite => ApiError::PermissionMissing(Permission::ROLES_WRITE);
    NeedsKeysRead => ApiError::PermissionMissing(Permission::KEYS_READ);
    NeedsKeysWrite => ApiError::PermissionMissing(Permission::KEYS_WRITE);
    NeedsTokensRevoke => ApiError::PermissionMissing(Permission::TOKENS_REVOKE);
    NeedsRevocationsRead => ApiError::PermissionMissing(Permission::REVOCATIONS_READ);
    NeedsTokensIntrospect => ApiError::PermissionMissing(Permission::TOKENS_INTROSPECT);

    /// A permission that a gateway requires.
    NeedsRequired => ApiError::PermissionMissing(Permission::DASHBOARD_READ);

    /// The hashing queue is full.
    Overloaded => ApiError::Overloaded { retry_after: Duration::from_secs(3) };
    /// An actor, or the database, failed or did not answer. Part of [`BadToken`], too.
    ActorFailed => ApiError::Unavailable(hidden_cause()), ApiError::Internal(hidden_cause());
    Internal => ApiError::Internal(hidden_cause());
    /// The replica is stale.
    Stale => ApiError::RevocationsStale(hidden_cause());
    NotReady =>
        ApiError::ShuttingDown,
        ApiError::DatabaseUnreachable(hidden_cause()),
        ApiError::RevocationsStale(hidden_cause());
}

/// Implements [`Reasons`] for a tuple of reasons.
macro_rules! tuple_of_reasons {
    ($($name:ident)+) => {
        impl<$($name: Reasons),+> Reasons for ($($name,)+) {
            fn errors() -> Vec<ApiError> {
                [$($name::errors()),+].into_iter().flatten().collect()
            }
        }
    };
}

tuple_of_reasons!(A);
tuple_of_reasons!(A B);
tuple_of_reasons!(A B C);
tuple_of_reasons!(A B C D);
tuple_of_reasons!(A B C D E);
tuple_of_reasons!(A B C D E F);
tuple_of_reasons!(A B C D E F G);
tuple_of_reasons!(A B C D E F G H);
tuple_of_reasons!(A B C D E F G H I);
tuple_of_reasons!(A B C D E F G H I J);
tuple_of_reasons!(A B C D E F G H I J K);
tuple_of_reasons!(A B C D E F G H I J K L);
tuple_of_reasons!(A B C D E F G H I J K L M);
tuple_of_reasons!(A B C D E F G H I J K L M N);

impl<R: Reasons> IntoResponses for Refused<R> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        by_status(R::errors())
    }
}

/// Describes errors by their status. Not generic, so that it is compiled only once.
fn by_status(errors: Vec<ApiError>) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<StatusCode, Vec<ApiError>> = BTreeMap::new();
    for error in errors {
        by_status.entry(error.status_code()).or_default().push(error);
    }
    by_status
        .into_iter()
        .map(|(status, errors)| (status.as_str().to_owned(), response(status, &errors).into()))
        .collect()
}

/// Describes the replies with one status. A header is described if all of them have it.
fn response(status: StatusCode, errors: &[ApiError]) -> Response {
    let mut response = ResponseBuilder::new()
        .description(status.canonical_reason().unwrap_or_default())
        .content("application/json", content(errors))
        .build();
    for (name, ..) in ERROR_HEADERS {
        if errors.iter().all(|error| error.error_response().headers().contains_key(name)) {
            response.headers.insert(name.to_owned(), reference("headers", name));
        }
    }
    response
}

/// Refers to a component of the document.
pub(super) fn reference<T>(kind: &str, name: &str) -> RefOr<T> {
    RefOr::Ref(Ref::new(format!("#/components/{kind}/{name}")))
}

/// Describes the bodies of some errors: the schema of all error bodies, and an example of each.
fn content(errors: &[ApiError]) -> Content {
    let examples = named(errors).map(|(name, error)| {
        let example = ExampleBuilder::new().summary(error.to_string());
        (name, example.value(Some(json!(error.body()))))
    });
    let schema = Ref::from_schema_name(ErrorBody::name());
    ContentBuilder::new().schema(Some(schema)).examples_from_iter(examples).build()
}

/// Names each error by its code, and by a number if several have the same code.
fn named(errors: &[ApiError]) -> impl Iterator<Item = (String, &ApiError)> {
    errors.iter().enumerate().map(|(index, error)| {
        let code = error.code();
        let earlier = errors[..index].iter().filter(|earlier| earlier.code() == code).count();
        let name = if earlier == 0 { code.to_owned() } else { format!("{code}_{}", earlier + 1) };
        (name, error)
    })
}

/// Returns a cause for an example. No reply shows causes.
fn hidden_cause() -> Box<dyn StdError + Send + Sync> {
    "hidden".into()
}
