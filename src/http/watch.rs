//! What happens to every request: it is counted, timed, and its failure logged, once, here.

use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{ConnectionType, Method};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage};

use super::request_id::{RequestId, X_REQUEST_ID};
use super::{Api, ApiError};
use crate::telemetry::Chain;

/// The label of every path that no route has: paths are chosen by strangers, and each label is a
/// series that is kept for good.
const UNMATCHED: &str = "unmatched";

/// Wraps the whole application.
///
/// # Errors
/// Those that the rest of the application did not turn into replies.
pub async fn watch(
    api: Data<Api>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started_at = api.clock.uptime();
    let mut response = next.call(request).await?;
    let took = api.clock.uptime().saturating_sub(started_at);

    let id = response.request().extensions().get().map(|RequestId(id)| id.clone());
    if let Some(id) = id {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    if api.lifecycle.is_draining() {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    record(&api, &response, took);
    Ok(response)
}

fn record<B>(api: &Api, response: &ServiceResponse<B>, took: Duration) {
    let request = response.request();
    let (method, status) = (method_label(request.method()), response.status());
    let route = request.match_pattern().unwrap_or_else(|| UNMATCHED.to_owned());

    let labels = &[method, &route, status.as_str()];
    api.metrics.http_requests.with_label_values(labels).inc();
    api.metrics.http_duration.with_label_values(labels).observe(took.as_secs_f64());
    if let Some(failure) = failure(response) {
        tracing::error!(method, route, status = status.as_u16(), error = %failure, "request failed");
    } else {
        tracing::debug!(method, route, status = status.as_u16(), ?took, "request answered");
    }
}

/// Returns the cause of a reply that is the service's fault.
fn failure<B>(response: &ServiceResponse<B>) -> Option<Chain<'_>> {
    response.response().error()?.as_error::<ApiError>()?.cause().map(Chain)
}

/// Strangers may make up methods, too.
fn method_label(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS => method.as_str(),
        _ => "other",
    }
}
