//! The OpenAPI document, assembled from the handlers. The summaries of the operations are the first
//! lines of their doc comments, in the imperative.

mod schemas;
mod security;

use std::collections::BTreeMap;
use std::io::Write;
use std::iter;
use std::sync::OnceLock;

use actix_web::http::header::{CONTENT_ENCODING, ContentType};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, Responder};
use flate2::Compression;
use flate2::write::GzEncoder;
use utoipa::openapi::example::Example;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{self, Components, RefOr, Response, Server};
use utoipa::{Modify, OpenApi};

use super::compression::AcceptsGzip;
use super::error::ErrorBody;
use super::refused::{ERROR_HEADERS, reference};
use super::state::Api;
use super::{
    account, admin, admin_clients, admin_details, admin_keys, admin_roles, admin_sessions, audit,
    auth, check, dashboard, docs, introspect, metrics, probes, reset, revocations, revoke,
    sessions, token, well_known,
};

/// Headers of every reply: name, description, and pattern of the value.
const COMMON_HEADERS: [(&str, &str, &str); 3] = [
    (
        "X-Request-Id",
        "Id of the request: the one it came with, if well-formed, or a new one.",
        "^[A-Za-z0-9._-]{1,128}$",
    ),
    ("X-Content-Type-Options", "Browsers do not guess another content type.", "^nosniff$"),
    (
        "Cache-Control",
        "`no-store`, except for the public keys and the files of Swagger UI.",
        "^(no-store|public, .+)$",
    ),
];

/// Generator of the document. The operations are shown in this order.
#[derive(OpenApi)]
#[openapi(
    info(title = "Portcullis", description = include_str!("description.md")),
    paths(
        auth::register,
        auth::login,
        auth::refresh,
        auth::logout,
        sessions::logout_all,
        sessions::list,
        sessions::end,
        account::me,
        account::change_password,
        account::delete_me,
        reset::reset_password,
        dashboard::dashboard,
        token::issue,
        introspect::introspect,
        revoke::revoke,
        well_known::jwks,
        well_known::metadata,
        revocations::follow,
        check::check,
        check::check_path,
        admin::list,
        admin::create,
        admin::read,
        admin::delete,
        admin::disable,
        admin::enable,
        admin::set_roles,
        admin_details::set_external_id,
        admin_details::set_metadata,
        admin::set_password,
        admin::unthrottle,
        reset::create_code,
        admin_sessions::list,
        admin_sessions::end_all,
        admin_sessions::end,
        admin_clients::list,
        admin_clients::create,
        admin_clients::read,
        admin_clients::set_rights,
        admin_clients::delete,
        admin_clients::disable,
        admin_clients::enable,
        admin_clients::add_secret,
        admin_clients::remove_secret,
        admin_roles::list,
        admin_roles::read,
        admin_roles::set,
        admin_roles::delete,
        admin_keys::list,
        admin_keys::rotate,
        admin_keys::revoke_all,
        admin_keys::revoke,
        audit::read,
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
        (name = "authentication", description = "Start here: register an account, then log in"),
        (name = "account", description = "Your own account, and its open sessions"),
        (name = "protected", description = "Example of a resource that needs an access token"),
        (name = "oauth", description = "For APIs and their clients: tokens, introspection, revocation, public keys"),
        (name = "gateways", description = "Whether a gateway may pass a request on"),
        (name = "administration", description = "Accounts, clients, roles, signing keys and the audit log"),
        (name = "operations", description = "Probes and metrics"),
        (name = "documentation", description = "This documentation"),
    ),
    modifiers(&Headers, &SharedErrors),
)]
struct Document;

/// The document as it is served. Generated at the first request: it takes more time and memory than
/// the rest of the startup.
#[derive(Default)]
pub(super) struct CachedDocument(OnceLock<ServedDocument>);

struct ServedDocument {
    json: Bytes,
    /// The JSON, compressed.
    gzip: Bytes,
}

impl ServedDocument {
    fn new(public_url: Option<&str>) -> Self {
        let json = Bytes::from(openapi(public_url));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        // Memory can always be written to.
        let gzip = gzip.write_all(&json).and_then(|()| gzip.finish()).unwrap_or_default();
        Self { json, gzip: gzip.into() }
    }
}

/// Returns the OpenAPI 3.1 document of the API at a URL, as JSON that ends with a newline. Without a
/// URL, the addresses in it are relative.
#[must_use]
pub fn openapi(public_url: Option<&str>) -> String {
    let mut document = Document::openapi();
    document.servers = Some(vec![Server::new(public_url.unwrap_or("/"))]);
    document.paths.paths.values_mut().flat_map(operations).for_each(security::admit_clients);
    security::add_schemes(&mut document, public_url.unwrap_or_default());
    // No part of the document can fail to serialize. If one did, every test would find it empty.
    document.to_pretty_json().unwrap_or_default() + "\n"
}

/// Read the OpenAPI document
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "documentation",
    responses((status = 200, description = "The document", body = Object)),
)]
pub(super) async fn document(
    api: Data<Api>,
    document: Data<CachedDocument>,
    AcceptsGzip(accepts_gzip): AcceptsGzip,
) -> impl Responder {
    let document = document.0.get_or_init(|| ServedDocument::new(api.public_url.as_deref()));
    let mut reply = HttpResponse::Ok();
    reply.content_type(ContentType::json());
    if accepts_gzip {
        reply.insert_header((CONTENT_ENCODING, "gzip"));
        return reply.body(document.gzip.clone());
    }
    reply.body(document.json.clone())
}

/// Adds [`COMMON_HEADERS`] to every reply, and describes them and [`ERROR_HEADERS`].
struct Headers;

impl Modify for Headers {
    fn modify(&self, document: &mut openapi::OpenApi) {
        for reply in document.paths.paths.values_mut().flat_map(operations).flat_map(replies) {
            for (name, ..) in COMMON_HEADERS {
                reply.headers.insert(name.to_owned(), reference("headers", name));
            }
        }
        let components = document.components.get_or_insert_default();
        for (name, description, pattern) in COMMON_HEADERS.into_iter().chain(ERROR_HEADERS) {
            let header = header(description, pattern);
            components.headers.insert(name.to_owned(), header.into());
        }
    }
}

/// Moves the error replies and their examples to the components: many operations have the same.
struct SharedErrors;

impl Modify for SharedErrors {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let Components { responses, examples, .. } = document.components.get_or_insert_default();
        for operation in document.paths.paths.values_mut().flat_map(operations) {
            let replies = operation.responses.responses.iter_mut();
            for (_, reply) in replies.filter(|(status, _)| status.starts_with(['4', '5'])) {
                share_examples(examples, reply);
                if let RefOr::T(Response { description, .. }) = reply {
                    let name = description.replace(' ', "");
                    *reply = reference("responses", &share(responses, &name, reply));
                }
            }
        }
    }
}

fn share_examples(shared: &mut BTreeMap<String, RefOr<Example>>, reply: &mut RefOr<Response>) {
    let RefOr::T(reply) = reply else { return };
    for content in reply.content.values_mut() {
        let RefOr::T(content) = content else { continue };
        for (name, example) in &mut content.examples {
            *example = reference("examples", &share(shared, name, example));
        }
    }
}

/// Returns the name of a shared component. Adds the component, unless it is shared already.
fn share<T: Clone + PartialEq>(
    shared: &mut BTreeMap<String, T>,
    name: &str,
    component: &T,
) -> String {
    if let Some((name, _)) = shared.iter().find(|(_, known)| *known == component) {
        return name.clone();
    }
    let numbered = (2..).map(|number| format!("{name}_{number}"));
    let mut names = iter::once(name.to_owned()).chain(numbered);
    let name = names.find(|name| !shared.contains_key(name)).unwrap_or_default();
    shared.insert(name.clone(), component.clone());
    name
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

fn header(description: &str, pattern: &str) -> Header {
    let text = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new()
        .description(Some(description))
        .schema(Some(text.pattern(Some(pattern))))
        // For which `HeaderBuilder` has no method.
        .extensions(Some(Extensions::from_iter([("required", true)])))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::error::tests::examples;

    #[test]
    fn every_error_code_is_in_the_document() {
        let document = openapi(None);
        for (error, _, code, _) in examples() {
            assert!(
                document.contains(&format!("`{code}`"))
                    || document.contains(&format!("\"{code}\"")),
                "{error:?}"
            );
        }
    }
}
