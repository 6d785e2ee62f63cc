//! The OpenAPI document: what the handlers say of themselves, and what is true of every reply.

mod refused;
mod schemas;

use std::sync::OnceLock;

use actix_web::http::header::ContentType;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, Responder};
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{self, Ref, RefOr, Response};
use utoipa::{Modify, OpenApi};

pub(super) use refused::*;

use super::error::ErrorBody;
use super::{account, admin, audit, auth, dashboard, docs, metrics, oauth, probes, sessions};

/// The name under which handlers say that they need an access token: `security(("bearer" = []))`.
const BEARER: &str = "bearer";

const X_REQUEST_ID: &str = "X-Request-Id";

/// Every handler in the route table, in the order in which they are shown.
#[derive(OpenApi)]
#[openapi(
    info(title = "Portcullis", description = include_str!("description.md")),
    paths(
        auth::register,
        auth::login,
        sessions::refresh,
        auth::logout,
        sessions::logout_all,
        sessions::list,
        sessions::end,
        account::me,
        account::change_password,
        account::delete_me,
        dashboard::dashboard,
        admin::list,
        admin::create,
        admin::read,
        admin::delete,
        admin::disable,
        admin::enable,
        admin::set_roles,
        admin::set_password,
        admin::list_sessions,
        admin::end_sessions,
        admin::end_session,
        audit::read,
        oauth::introspect,
        oauth::revoke,
        probes::root,
        probes::live,
        probes::ready,
        metrics::metrics,
        document,
        docs::page,
        docs::file,
    ),
    components(schemas(ErrorBody)),
    tags(
        (name = "sessions", description = "Logging in, and what follows from it"),
        (name = "account", description = "What users do with their own accounts"),
        (name = "protected", description = "What a logged-in user came for"),
        (name = "administration", description = "What administrators do with the accounts of others"),
        (name = "oauth", description = "Tokens in the hands of those who did not issue them"),
        (name = "operations", description = "For orchestrators, load balancers and Prometheus"),
        (name = "documentation", description = "What you are reading"),
    ),
    modifiers(&Bearer, &RequestId),
)]
struct Document;

/// The document as it is sent: written when it is first asked for, since that takes more time and memory
/// than everything else at a start.
#[derive(Default)]
pub(super) struct Written(OnceLock<Bytes>);

/// Returns the OpenAPI 3.1 document of the API, as JSON.
#[must_use]
pub fn openapi() -> String {
    // Nothing in it can fail to be written; were something to, the tests would find nothing.
    Document::openapi().to_pretty_json().unwrap_or_default()
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "documentation",
    responses((status = 200, description = "The document", body = Object)),
)]
pub(super) async fn document(document: Data<Written>) -> impl Responder {
    HttpResponse::Ok()
        .content_type(ContentType::json())
        .body(document.0.get_or_init(|| openapi().into()).clone())
}

/// Adds the scheme that [`BEARER`] names.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(BEARER, SecurityScheme::Http(scheme.build()));
    }
}

/// Adds the header that every reply bears.
struct RequestId;

impl Modify for RequestId {
    fn modify(&self, document: &mut openapi::OpenApi) {
        for reply in document.paths.paths.values_mut().flat_map(operations).flat_map(replies) {
            let header = Ref::new(format!("#/components/headers/{X_REQUEST_ID}"));
            reply.headers.insert(X_REQUEST_ID.to_owned(), RefOr::Ref(header));
        }
        let components = document.components.get_or_insert_default();
        components.headers.insert(X_REQUEST_ID.to_owned(), request_id().into());
    }
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, post, put, delete, .. } = path;
    [get, post, put, delete].into_iter().flatten()
}

fn replies(operation: &mut Operation) -> impl Iterator<Item = &mut Response> {
    operation.responses.responses.values_mut().filter_map(|reply| match reply {
        RefOr::T(reply) => Some(reply),
        RefOr::Ref(_) => None,
    })
}

fn request_id() -> Header {
    let id = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new()
        .description(Some("The client's own, where it is well-formed; else a new one."))
        .schema(Some(id.pattern(Some("^[A-Za-z0-9._-]{1,128}$"))))
        .extensions(Some(always()))
        .build()
}

/// Says of a header that it is in every such reply, for which the builder has no word.
fn always() -> Extensions {
    Extensions::from_iter([("required", true)])
}
