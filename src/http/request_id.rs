//! The id that ties a request, its reply and its log lines together.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{Error, HttpMessage, HttpRequest};
use tracing::Span;
use tracing_actix_web::RootSpanBuilder;
use uuid::fmt::Hyphenated;

/// Where the id comes from, and goes to.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_BYTES: usize = 128;

/// Returns the id of a request as a header.
pub(super) fn header(request: &HttpRequest) -> HeaderValue {
    let id = HeaderValue::from_str(read(request, &mut [0; Hyphenated::LENGTH]));
    id.unwrap_or(HeaderValue::from_static("-"))
}

/// Reads the id of a request: the client's own where it is well-formed, so that it can be followed
/// from service to service; otherwise the one that was made for it, which is written out here.
fn read<'a>(request: &'a HttpRequest, made: &'a mut [u8; Hyphenated::LENGTH]) -> &'a str {
    let given = request.headers().get(X_REQUEST_ID);
    let given = given.filter(|id| is_well_formed(id.as_bytes())).and_then(|id| id.to_str().ok());
    given.unwrap_or_else(|| {
        let id = request.extensions().get::<tracing_actix_web::RequestId>().map(|id| **id);
        id.unwrap_or_default().as_hyphenated().encode_lower(made)
    })
}

/// Harmless in a log and in a header, and not too long.
fn is_well_formed(id: &[u8]) -> bool {
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    (1..=MAX_BYTES).contains(&id.len()) && id.iter().all(harmless)
}

/// The span of a request: its id and nothing else. The default one formats a dozen fields, which
/// costs more than everything that checking a token does.
pub struct RootSpan;

impl RootSpanBuilder for RootSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let mut made = [0; Hyphenated::LENGTH];
        let id = read(request.request(), &mut made);
        // At the level of errors, so that no filter takes the id off their lines.
        tracing::error_span!("request", request.id = id)
    }

    fn on_request_end<B: MessageBody>(_: Span, _: &Result<ServiceResponse<B>, Error>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_well_formed_when_it_is_short_and_harmless() {
        for good in ["a", "4bf92f35-77b3.4da6_A3CE", &"x".repeat(128)] {
            assert!(is_well_formed(good.as_bytes()), "{good}");
        }
        for bad in ["", "a b", "a\nb", "é", "{\"a\":1}", &"x".repeat(129)] {
            assert!(!is_well_formed(bad.as_bytes()), "{bad}");
        }
    }
}
