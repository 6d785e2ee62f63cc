//! Request ids, which connect a request, its reply and its log lines.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{Error, HttpMessage, HttpRequest};
use tracing::Span;
use tracing_actix_web::RootSpanBuilder;
use uuid::fmt::Hyphenated;

use super::trace_context::TraceContext;

/// Header of the request id, in requests and replies.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum length of an id, in bytes.
const MAX_LENGTH: usize = 128;

/// Returns the header with the id of a request.
pub(super) fn request_id_header(request: &HttpRequest) -> HeaderValue {
    let id = HeaderValue::from_str(request_id(request, &mut [0; Hyphenated::LENGTH]));
    id.unwrap_or(HeaderValue::from_static("-"))
}

/// Returns the id of a request: the one it came with, if well-formed, so that it can be traced
/// across services. Otherwise the generated one, which is written to `buffer`.
fn request_id<'a>(request: &'a HttpRequest, buffer: &'a mut [u8; Hyphenated::LENGTH]) -> &'a str {
    let given = request.headers().get(X_REQUEST_ID);
    if let Some(id) = given.and_then(|id| id.to_str().ok()).filter(|id| is_well_formed(id)) {
        return id;
    }
    let generated = request.extensions().get::<tracing_actix_web::RequestId>().map(|id| **id);
    generated.unwrap_or_default().as_hyphenated().encode_lower(buffer)
}

/// Returns `true` if the id is short and contains only characters that are safe in logs and
/// headers.
fn is_well_formed(id: &str) -> bool {
    let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_LENGTH).contains(&id.len()) && id.bytes().all(is_safe)
}

/// Builder of the span of a request, which contains only the request id, and the ids of a trace. The
/// default builder formats a dozen fields, which costs more than a whole token check.
pub(super) struct RootSpan;

impl RootSpanBuilder for RootSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let mut buffer = [0; Hyphenated::LENGTH];
        let id = request_id(request.request(), &mut buffer);
        let trace = TraceContext::from_headers(request.headers());
        let (trace_id, span_id) = trace.map(|trace| (trace.trace_id, trace.span_id)).unzip();
        // At error level, so that no log filter removes the ids.
        tracing::error_span!("request", request.id = id, trace_id, span_id)
    }

    fn on_request_end<B: MessageBody>(_: Span, _: &Result<ServiceResponse<B>, Error>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_id_is_short_and_safe() {
        for good in ["a", "4bf92f35-77b3.4da6_A3CE", &"x".repeat(128)] {
            assert!(is_well_formed(good), "{good}");
        }
        for bad in ["", "a b", "a\nb", "é", "{\"a\":1}", &"x".repeat(129)] {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }
}
