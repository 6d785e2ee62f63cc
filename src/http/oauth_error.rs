//! Error bodies of the routes under `/oauth/` (RFC 6749 section 5.2).

use actix_web::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use serde::Serialize;

use super::error::{ApiError, ErrorBody};
use super::json::to_json;

/// Error body with the fields of RFC 6749 section 5.2.
#[derive(Serialize)]
struct OAuthErrorBody {
    #[serde(flatten)]
    body: ErrorBody,
    error: &'static str,
    error_description: String,
}

/// Adds `error` and `error_description` to the error bodies of a route.
///
/// # Errors
/// Returns the errors of the route.
pub(super) async fn add_oauth_fields(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let reply = next.call(request).await?;
    let error = reply.response().error().and_then(|error| error.as_error::<ApiError>());
    let Some(body) = error.map(|error| to_json(&OAuthErrorBody::from(error))) else {
        return Ok(reply.map_into_boxed_body());
    };
    let body = body?;
    Ok(reply.map_body(|_, _| BoxBody::new(body)))
}

impl From<&ApiError> for OAuthErrorBody {
    fn from(error: &ApiError) -> Self {
        Self {
            body: error.body(),
            error: error.oauth_code(),
            // RFC 6749 allows no quotation mark and no backslash.
            error_description: error.to_string().replace(['"', '\\'], "'"),
        }
    }
}
