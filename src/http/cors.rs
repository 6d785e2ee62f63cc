//! CORS (<https://fetch.spec.whatwg.org/#http-cors-protocol>): lets browser applications on other
//! origins call the API.

use actix_cors::{Cors, CorsError};
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{
    AUTHORIZATION, CONTENT_TYPE, IF_NONE_MATCH, RETRY_AFTER, WWW_AUTHENTICATE,
};
use actix_web::middleware::Next;

use super::error::ApiError;
use super::request_id::X_REQUEST_ID;
use super::trace_context::{TRACEPARENT, TRACESTATE};

/// Time for which a browser may keep the reply to a preflight, in seconds. Chromium keeps none for
/// longer than two hours.
const MAX_AGE: usize = 3600;

/// Returns the middleware that allows these origins. Cookies are not sent: there are none.
pub(super) fn cors(origins: &[String]) -> Cors {
    let cors = Cors::default()
        .allowed_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allowed_headers([AUTHORIZATION, CONTENT_TYPE, IF_NONE_MATCH, X_REQUEST_ID])
        .allowed_headers([TRACEPARENT, TRACESTATE])
        .expose_headers([X_REQUEST_ID, RETRY_AFTER, WWW_AUTHENTICATE])
        .max_age(MAX_AGE);
    origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}

/// Middleware around [`cors`]: replaces its error replies by [`ApiError`].
///
/// # Errors
/// Returns the errors of the application that it did not convert to replies.
pub(super) async fn convert_refusals(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let response = next.call(request).await?;
    let refusal = response.response().error().and_then(|error| error.as_error::<CorsError>());
    Ok(match refusal.cloned() {
        Some(refusal) => {
            response.error_response(ApiError::PreflightRefused(refusal)).map_into_right_body()
        }
        None => response.map_into_left_body(),
    })
}
