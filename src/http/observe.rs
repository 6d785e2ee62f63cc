//! Middleware around every request: counts and times it, also in the [`Activity`] of its connection,
//! sets the headers of every reply, and logs its failure.

use std::rc::Rc;
use std::time::Duration;

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::http::ConnectionType;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::web::Data;
use strum::IntoEnumIterator;

use super::authenticated::bearer_token;
use super::connection::Activity;
use super::error::{ApiError, refusal_code};
use super::pieces::Pieces;
use super::request_id::{X_REQUEST_ID, request_id_header};
use super::route_metrics::{RouteMetrics, method_label};
use super::state::Api;
use crate::metrics::Metrics;
use crate::telemetry::ErrorChain;
use crate::tokens::{ALGORITHM_LABELS, TokenRefusal, algorithm_label};

/// Counts, times and logs a request, and sets the headers of its reply, which `next` makes.
///
/// # Errors
/// Returns the errors of the application that it did not convert to replies.
pub(super) fn observe_requests<B: MessageBody + Unpin, S>(
    api: &Data<Api>,
    request: ServiceRequest,
    next: &S,
) -> impl Future<Output = Result<ServiceResponse<Pieces<B>>, Error>> + use<B, S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    let api = api.clone();
    let activity = request.conn_data::<Rc<Activity>>().cloned().unwrap_or_default();
    activity.begin_request();
    let started_at = api.clock.uptime();
    let reply = next.call(request);
    async move {
        let result = reply.await;
        activity.end_request();
        let duration = api.clock.uptime().saturating_sub(started_at);
        let mut response = result?;
        set_headers(&api, &mut response);
        record(&api, &response, duration);
        Ok(response.map_body(|_, body| Pieces::new(body)))
    }
}

/// Sets the headers that every reply has.
fn set_headers<B>(api: &Api, response: &mut ServiceResponse<B>) {
    let id = request_id_header(response.request());
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, id);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if api.connections.is_draining() {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
}

/// Creates the series of the refused tokens: one that appears with its first event hides this event
/// from `rate()`.
pub(super) fn register_refusals(metrics: &Metrics) {
    for refusal in TokenRefusal::iter() {
        for algorithm in ALGORITHM_LABELS {
            metrics.tokens_refused.with_label_values(&[refusal_code(refusal), algorithm]);
        }
    }
}

/// Records a request in the metrics and in the log.
fn record<B>(api: &Api, response: &ServiceResponse<B>, duration: Duration) {
    let request = response.request();
    let Some(route_metrics) = request.app_data::<RouteMetrics>() else { return };
    let method = method_label(request.method());
    let route = route_metrics.route();
    route_metrics.record(&api.metrics, method, response.status(), duration);

    let error = response.response().error().and_then(|error| error.as_error::<ApiError>());
    if let Some(ApiError::TokenRefused(refusal)) = error {
        let algorithm = bearer_token(request).map_or("other", algorithm_label);
        api.metrics.tokens_refused.with_label_values(&[refusal_code(*refusal), algorithm]).inc();
    }
    let status = response.status().as_u16();
    if let Some(cause) = error.and_then(ApiError::cause).map(ErrorChain) {
        api.failures.record(method, route, status, &cause.to_string());
    } else {
        tracing::debug!(method, route, status, elapsed = ?duration, "request answered");
    }
}
