//! `/docs`: Swagger UI, which shows the OpenAPI document and sends requests from the browser.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY};
use actix_web::web::{Bytes, Path};
use actix_web::{HttpResponse, HttpResponseBuilder, Responder};
use utoipa_swagger_ui::Config;

use super::error::ApiError;
use super::refused::{Internal, NotFound, Refused};

const PAGE: &str = include_str!("docs/page.html");

/// Script of the page. A separate file, because the content security policy forbids inline scripts.
const SCRIPT: &str = include_str!("docs/start.js");

/// Style of the page, beside that of Swagger UI.
const STYLE: &str = include_str!("docs/style.css");

/// Content security policy: allows the page's own files and requests to this service. The style
/// sheet contains its images as `data:` URLs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Caching of the files of Swagger UI, which change only with the version of the service.
const CACHED: &str = "public, max-age=3600";

/// Read the documentation page
#[utoipa::path(
    get, path = "/docs", operation_id = "docs", tag = "documentation",
    responses((
        status = 200, description = "The page", body = String, content_type = "text/html",
        headers(("Content-Security-Policy" = String)),
    )),
)]
pub(super) async fn page() -> impl Responder {
    reply().content_type("text/html; charset=utf-8").body(PAGE)
}

/// Read a file of the documentation page
#[utoipa::path(
    get, path = "/docs/{file}", operation_id = "docs_file", tag = "documentation",
    params(("file" = String, Path, description = "Name of the file", example = "start.js")),
    responses(
        (
            status = 200, description = "The file",
            content((String = "text/javascript"), (String = "text/css")),
            headers(("Content-Security-Policy" = String)),
        ),
        Refused<(NotFound, Internal)>,
    ),
)]
pub(super) async fn file(name: Path<String>) -> Result<impl Responder, ApiError> {
    match name.as_str() {
        "start.js" => Ok(reply().content_type("text/javascript; charset=utf-8").body(SCRIPT)),
        "style.css" => Ok(reply().content_type("text/css; charset=utf-8").body(STYLE)),
        name @ ("swagger-ui.css" | "swagger-ui-bundle.js") => swagger_ui_file(name),
        _ => Err(ApiError::NotFound),
    }
}

fn swagger_ui_file(name: &str) -> Result<HttpResponse, ApiError> {
    let file = utoipa_swagger_ui::serve(name, Arc::new(Config::from("")))
        .map_err(|error| ApiError::Internal(error.to_string().into()))?
        .ok_or(ApiError::NotFound)?;
    let mut reply = reply();
    reply.content_type(file.content_type).insert_header((CACHE_CONTROL, CACHED));
    if file.gzpipped {
        reply.insert_header((CONTENT_ENCODING, "gzip"));
    }
    Ok(reply.body(match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    }))
}

fn reply() -> HttpResponseBuilder {
    let mut reply = HttpResponse::Ok();
    reply.insert_header((CONTENT_SECURITY_POLICY, POLICY));
    reply
}
