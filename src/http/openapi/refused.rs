//! [`Refused`]: the replies that are no success, read off the errors themselves, so that the document
//! cannot say anything else.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::time::Duration;

use actix_web::ResponseError;
use actix_web::http::StatusCode;
use serde_json::json;
use utoipa::openapi::content::{Content, ContentBuilder};
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use super::always;
use crate::domain::{Label, PasswordError, Permission, UnknownLabel, UsernameError};
use crate::http::error::ErrorBody;
use crate::http::{ApiError, BODY_LIMIT, NoToken};
use crate::tokens::TokenRefusal;

/// The refusals of a handler, for its `responses(...)`: `Refused<(BadToken, NotFound)>`.
pub(in crate::http) struct Refused<R>(PhantomData<R>);

/// A reason to refuse, or several.
pub(in crate::http) trait Reasons {
    /// Returns the errors that may be the reply.
    fn errors() -> Vec<ApiError>;
}

/// Declares reasons, each with the errors that it stands for.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $($error:expr),+;)*) => {$(
        $(#[$doc])*
        pub(in crate::http) struct $name;

        impl Reasons for $name {
            fn errors() -> Vec<ApiError> {
                vec![$($error.into()),+]
            }
        }
    )*};
}

reasons! {
    /// What [`Authenticated`](crate::http::Authenticated) refuses.
    BadToken =>
        NoToken::MissingHeader,
        NoToken::MissingBearer,
        NoToken::BadHeader,
        TokenRefusal::NotEnoughSegments,
        TokenRefusal::BadSignature,
        TokenRefusal::AlgorithmNotAllowed,
        TokenRefusal::Expired,
        TokenRefusal::NotYetValid,
        TokenRefusal::WrongType,
        TokenRefusal::Revoked,
        TokenRefusal::Invalid,
        ApiError::Unavailable(unseen()),
        ApiError::Internal(unseen());
    /// What `Body` refuses.
    BadJson =>
        ApiError::InvalidBody("EOF while parsing a value at line 1 column 0".to_owned()),
        ApiError::BodyTooSlow,
        ApiError::BodyTooLarge(BODY_LIMIT),
        ApiError::NotJson;
    /// What `Form` refuses.
    BadForm =>
        ApiError::InvalidBody("Parse error: duplicate field `token`.".to_owned()),
        ApiError::BodyTooSlow,
        ApiError::BodyTooLarge(BODY_LIMIT),
        ApiError::NotForm;

    /// What `Query` refuses.
    BadQuery => ApiError::InvalidQuery("limit must be from 1 to 200".to_owned());

    MissingCredentials => ApiError::MissingCredentials;
    MissingPassword => ApiError::MissingPassword;
    MissingRefreshToken => ApiError::MissingRefreshToken;
    MissingRoles => ApiError::MissingRoles;
    MissingToken => ApiError::MissingToken;
    BadUsername => UsernameError::TooLong, UsernameError::Forbidden;
    BadPassword => PasswordError::TooShort, PasswordError::TooLong;
    BadRoles => ApiError::InvalidRoles(UnknownLabel::new("astronaut"));
    WrongCredentials => ApiError::InvalidCredentials;
    WrongPassword => ApiError::WrongPassword, ApiError::InvalidCredentials;
    WrongRefreshToken => ApiError::RefreshTokenRefused;
    UserExists => ApiError::UserExists;
    LastAdmin => ApiError::LastAdmin;
    NotFound => ApiError::NotFound;
    NeedsDashboardRead => ApiError::PermissionMissing(Permission::DashboardRead.as_str());
    NeedsUsersRead => ApiError::PermissionMissing(Permission::UsersRead.as_str());
    NeedsUsersWrite => ApiError::PermissionMissing(Permission::UsersWrite.as_str());
    NeedsTokensIntrospect => ApiError::PermissionMissing(Permission::TokensIntrospect.as_str());

    /// A queue of passwords that is too long.
    Overloaded => ApiError::Overloaded { retry_after: Duration::from_secs(3) };
    /// An actor, or the database behind it, that does not answer.
    Unanswered => ApiError::Unavailable(unseen()), ApiError::Internal(unseen());
    Internal => ApiError::Internal(unseen());
    NotReady =>
        ApiError::ShuttingDown,
        ApiError::DatabaseUnreachable(unseen()),
        ApiError::RevocationsStale(unseen());
}

/// Makes the reasons of a handler of those in a tuple.
macro_rules! tuples {
    ($($name:ident)+) => {
        impl<$($name: Reasons),+> Reasons for ($($name,)+) {
            fn errors() -> Vec<ApiError> {
                [$($name::errors()),+].into_iter().flatten().collect()
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);
tuples!(A B C D E F G H I);

impl<R: Reasons> IntoResponses for Refused<R> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut by_status: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for error in R::errors() {
            by_status.entry(error.status_code()).or_default().push(error);
        }
        let response = |(status, errors): (StatusCode, Vec<_>)| {
            let description = status.canonical_reason().unwrap_or_default();
            (status.as_str().to_owned(), response(description, &errors).into())
        };
        by_status.into_iter().map(response).collect()
    }
}

/// Describes a reply that may be any of some errors.
fn response(description: &str, errors: &[ApiError]) -> Response {
    let response = ResponseBuilder::new().description(description);
    ["WWW-Authenticate", "Retry-After"]
        .into_iter()
        .filter_map(|name| Some((name, header(name, errors)?)))
        .fold(response, |response, (name, header)| response.header(name, header))
        .content("application/json", content(errors))
        .build()
}

fn content(errors: &[ApiError]) -> Content {
    let codes: BTreeSet<_> = errors.iter().map(ApiError::code).collect();
    let narrowed = ObjectBuilder::new()
        .property("code", ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codes)));
    let schema = AllOfBuilder::new().item(Ref::from_schema_name(ErrorBody::name())).item(narrowed);
    let examples = named(errors).map(|(name, error)| {
        let example = ExampleBuilder::new().summary(error.to_string());
        (name, example.value(Some(json!(error.body()))))
    });
    ContentBuilder::new().schema(Some(schema)).examples_from_iter(examples).build()
}

/// Describes a header that is in some of the replies.
fn header(name: &str, errors: &[ApiError]) -> Option<Header> {
    let example = |(code, error): (String, &ApiError)| {
        let reply = error.error_response();
        let value = reply.headers().get(name)?.to_str().ok()?;
        Some((code, ExampleBuilder::new().value(Some(value.into()))))
    };
    let examples: Vec<_> = named(errors).filter_map(example).collect();
    let is_required = examples.len() == errors.len();
    let header = HeaderBuilder::new().extensions(is_required.then(always));
    (!examples.is_empty()).then(|| header.examples_from_iter(examples).build())
}

/// Names errors by their codes; those of one code by a number, too.
fn named(errors: &[ApiError]) -> impl Iterator<Item = (String, &ApiError)> {
    errors.iter().enumerate().map(|(index, error)| {
        let code = error.code();
        let name = match errors[..index].iter().filter(|other| other.code() == code).count() {
            0 => code.to_owned(),
            earlier => format!("{code}_{}", earlier + 1),
        };
        (name, error)
    })
}

/// A cause, which no reply shows.
fn unseen() -> Box<dyn std::error::Error + Send + Sync> {
    "unseen".into()
}
