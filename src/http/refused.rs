//! [`Refused`]: the error replies of an operation in the OpenAPI document. They are generated from
//! [`ApiError`], so that the document and the service cannot disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::marker::PhantomData;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use super::body::MAX_BODY_SIZE;
use super::error::{ApiError, AuthorizationHeaderError, ErrorBody};
use crate::domain::{AudienceError, PasswordError, Permission, UnknownRole, UsernameError};
use crate::tokens::TokenRefusal;

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

    MissingCredentials => ApiError::MissingCredentials;
    MissingPassword => ApiError::MissingPassword;
    MissingRefreshToken => ApiError::MissingRefreshToken;
    MissingRoles => ApiError::MissingRoles;
    MissingToken => ApiError::MissingToken;
    BadUsername => UsernameError::TooLong, UsernameError::Forbidden;
    BadPassword =>
        PasswordError::TooShort, PasswordError::TooLong, PasswordError::ContainsNul;
    BadAudience => AudienceError::example();
    BadRoles => ApiError::InvalidRoles(UnknownRole("astronaut".to_owned()));
    WrongCredentials => ApiError::InvalidCredentials;
    WrongPassword => ApiError::WrongPassword;
    WrongRefreshToken => ApiError::InvalidRefreshToken;
    UserExists => ApiError::UserExists;
    LastAdmin => ApiError::LastAdmin;
    KeyTooNew => ApiError::KeyTooNew(Duration::from_mins(10));
    KeysNotUsed => ApiError::KeysNotUsed;
    NoPublicUrl => ApiError::NoPublicUrl;
    TooManyPasswordChanges =>
        ApiError::TooManyPasswordChanges { retry_after: Duration::from_mins(1) };
    TooManyRevocations => ApiError::TooManyRevocations { retry_after: Duration::from_mins(10) };
    NotFound => ApiError::NotFound;
    NeedsDashboardRead => ApiError::PermissionMissing(Permission::DashboardRead);
    NeedsUsersRead => ApiError::PermissionMissing(Permission::UsersRead);
    NeedsUsersWrite => ApiError::PermissionMissing(Permission::UsersWrite);
    NeedsKeysRead => ApiError::PermissionMissing(Permission::KeysRead);
    NeedsKeysWrite => ApiError::PermissionMissing(Permission::KeysWrite);
    NeedsRevocationsRead => ApiError::PermissionMissing(Permission::RevocationsRead);
    NeedsTokensIntrospect => ApiError::PermissionMissing(Permission::TokensIntrospect);

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

impl<R: Reasons> IntoResponses for Refused<R> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut by_status: BTreeMap<StatusCode, Vec<ApiError>> = BTreeMap::new();
        for error in R::errors() {
            by_status.entry(error.status_code()).or_default().push(error);
        }
        by_status
            .into_iter()
            .map(|(status, errors)| (status.as_str().to_owned(), response(status, &errors).into()))
            .collect()
    }
}

/// Returns a header extension that marks a header as always present, for which [`HeaderBuilder`]
/// has no method.
pub(super) fn always_present() -> Extensions {
    Extensions::from_iter([("required", true)])
}

/// Describes the replies with one status.
fn response(status: StatusCode, errors: &[ApiError]) -> Response {
    let mut response = ResponseBuilder::new()
        .description(status.canonical_reason().unwrap_or_default())
        .content("application/json", content(errors));
    for name in ["WWW-Authenticate", "Retry-After"] {
        if let Some(header) = header(name, errors) {
            response = response.header(name, header);
        }
    }
    response.build()
}

/// Describes the bodies of some errors: the schema of all error bodies, with only their codes.
fn content(errors: &[ApiError]) -> Content {
    let codes: BTreeSet<_> = errors.iter().map(ApiError::code).collect();
    let code = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes));
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name(ErrorBody::name()))
        .item(ObjectBuilder::new().property("code", code));
    let examples = named(errors).map(|(name, error)| {
        let example = ExampleBuilder::new().summary(error.to_string());
        (name, example.value(Some(json!(error.body()))))
    });
    ContentBuilder::new().schema(Some(schema)).examples_from_iter(examples).build()
}

/// Describes a header with its values in the replies. Returns `None` if no reply has it.
fn header(name: &str, errors: &[ApiError]) -> Option<Header> {
    let examples: Vec<_> = named(errors)
        .filter_map(|(example_name, error)| {
            let value = header_value(&error.error_response(), name)?;
            Some((example_name, ExampleBuilder::new().value(Some(value.into()))))
        })
        .collect();
    if examples.is_empty() {
        return None;
    }
    let is_always_present = examples.len() == errors.len();
    let header = HeaderBuilder::new().extensions(is_always_present.then(always_present));
    Some(header.examples_from_iter(examples).build())
}

fn header_value(reply: &HttpResponse, name: &str) -> Option<String> {
    reply.headers().get(name)?.to_str().ok().map(str::to_owned)
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
