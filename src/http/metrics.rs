//! `/metrics`: what Prometheus scrapes.

use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};

use super::openapi::{Internal, Refused};
use super::{Api, ApiError};

/// Shows the metrics in the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses(
        (status = 200, description = "The metrics", body = String, content_type = "text/plain"),
        Refused<(Internal,)>,
    ),
)]
pub(super) async fn metrics(api: Data<Api>) -> Result<impl Responder, ApiError> {
    observe(&api);
    let format = "text/plain; version=0.0.4; charset=utf-8";
    Ok(HttpResponse::Ok().content_type(format).body(api.metrics.render()?))
}

/// Takes down what is only known by looking.
fn observe(api: &Api) {
    let held = i64::try_from(api.replica.held()).unwrap_or(i64::MAX);
    let (metrics, pool) = (&api.metrics, api.store.pool_status());
    metrics.revocations_held.set(held);
    // Before the first read there is no server that could be asked.
    let staleness = api.replica.staleness().unwrap_or_default();
    metrics.revocation_staleness.set(staleness.as_secs_f64());
    metrics.revocation_replica_complete.set(api.replica.is_complete().into());
    metrics.database_connections.with_label_values(&["idle"]).set(pool.idle.into());
    metrics.database_connections.with_label_values(&["in_use"]).set(pool.in_use.into());
    metrics.database_connections_max.set(pool.max.into());
}
