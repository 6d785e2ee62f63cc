//! Compression of large replies, for clients that accept gzip.
//!
//! Replies with tokens or other secrets are never compressed. Where a requester can influence a part
//! of such a reply, its compressed size reveals the rest (BREACH, <https://www.breachattack.com/>).

use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_http::encoding::Encoder;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Version;
use actix_web::http::header::{
    AcceptEncoding, CONTENT_ENCODING, ContentEncoding, Encoding, Header, HeaderValue, VARY,
};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpRequest};

/// Minimum size of a compressed reply, in bytes. A smaller one fits into one packet anyway.
const MIN_SIZE: u64 = 1_400;

/// Middleware that compresses the replies of a route, unless they are compressed already.
///
/// # Errors
/// Returns the errors of the route.
pub(super) async fn compress(
    AcceptsGzip(accepts_gzip): AcceptsGzip,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    // A client of HTTP/1.0 cannot read the chunks in which a compressed reply is sent.
    let reads_chunks = request.version() >= Version::HTTP_11;
    let mut reply = next.call(request).await?;
    let size = reply.response().body().size();
    let is_large = matches!(size, BodySize::Sized(size) if size >= MIN_SIZE);
    let is_compressed = reply.headers().contains_key(CONTENT_ENCODING);
    let encoding = if is_large && !is_compressed && accepts_gzip && reads_chunks {
        ContentEncoding::Gzip
    } else {
        // The encoder adds it to what it compresses.
        reply.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
        ContentEncoding::Identity
    };
    Ok(reply.map_body(|head, body| BoxBody::new(Encoder::response(encoding, head, body))))
}

/// Extractor: whether a client accepts gzip, and prefers it to no compression.
pub(super) struct AcceptsGzip(pub(super) bool);

impl FromRequest for AcceptsGzip {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let supported = [Encoding::gzip(), Encoding::identity()];
        let accepted = AcceptEncoding::parse(request);
        let is_accepted = accepted
            .is_ok_and(|accepted| accepted.negotiate(supported.iter()) == Some(Encoding::gzip()));
        ready(Ok(Self(is_accepted)))
    }
}
