//! `/docs`: the OpenAPI document as a page, to read and to try out. It is Swagger UI, which comes along.

use std::sync::Arc;

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::Path;
use actix_web::{HttpResponse, HttpResponseBuilder, Responder};
use utoipa_swagger_ui::Config;

use super::ApiError;
use super::openapi::{Internal, NotFound, Refused};

const PAGE: &str = include_str!("docs/page.html");

/// In a file of its own, since the policy forbids scripts within the page.
const START: &str = include_str!("docs/start.js");

/// Nothing but its own files, and requests to this service. The pictures are in the style sheet.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Shows this document.
#[utoipa::path(
    get, path = "/docs", operation_id = "docs", tag = "documentation",
    responses((
        status = 200, description = "The page", body = String, content_type = "text/html",
        headers(("Content-Security-Policy" = String), ("X-Content-Type-Options" = String)),
    )),
)]
pub(super) async fn page() -> impl Responder {
    reply().content_type("text/html; charset=utf-8").body(PAGE)
}

/// What that page consists of.
#[utoipa::path(
    get, path = "/docs/{file}", operation_id = "docs_file", tag = "documentation",
    params(("file" = String, Path, example = "start.js")),
    responses(
        (
            status = 200, description = "The file",
            content((String = "text/javascript"), (String = "text/css")),
            headers(("Content-Security-Policy" = String), ("X-Content-Type-Options" = String)),
        ),
        Refused<(NotFound, Internal)>,
    ),
)]
pub(super) async fn file(name: Path<String>) -> Result<impl Responder, ApiError> {
    match name.as_str() {
        "start.js" => Ok(reply().content_type("text/javascript; charset=utf-8").body(START)),
        name @ ("swagger-ui.css" | "swagger-ui-bundle.js") => swagger_ui(name),
        _ => Err(ApiError::NotFound),
    }
}

fn swagger_ui(name: &str) -> Result<HttpResponse, ApiError> {
    let file = utoipa_swagger_ui::serve(name, Arc::new(Config::from("")));
    let file = file.map_err(|error| ApiError::Internal(error.to_string().into()))?;
    let file = file.ok_or(ApiError::NotFound)?;
    let mut reply = reply();
    reply.content_type(file.content_type);
    if file.gzpipped {
        reply.insert_header((CONTENT_ENCODING, "gzip"));
    }
    Ok(reply.body(file.bytes.into_owned()))
}

fn reply() -> HttpResponseBuilder {
    let mut reply = HttpResponse::Ok();
    reply
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    reply
}
