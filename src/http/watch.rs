//! What happens to every request: it is counted, timed, and its failure logged, once, here.

use std::time::Duration;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::middleware::Next;
use actix_web::web::Data;

use super::request_id::{self, X_REQUEST_ID};
use super::traffic::{Traffic, method_label};
use super::{Api, ApiError};
use crate::telemetry::Chain;

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

    let id = request_id::header(response.request());
    response.headers_mut().insert(X_REQUEST_ID, id);
    if api.lifecycle.is_draining() {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    record(&api, &response, took);
    Ok(response)
}

fn record<B>(api: &Api, response: &ServiceResponse<B>, took: Duration) {
    let request = response.request();
    let Some(traffic) = request.app_data::<Traffic>() else { return };
    let (method, route) = (method_label(request.method()), traffic.route());
    let status = response.status();

    traffic.count(&api.metrics, method, status, took);
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
