//! `/metrics`: metrics for Prometheus.

use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use strum::IntoEnumIterator;

use super::error::ApiError;
use super::refused::{Internal, Refused};
use super::state::Api;
use crate::domain::KeyState;

const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Read the metrics
///
/// In the Prometheus text format.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses(
        (status = 200, description = "The metrics", body = String, content_type = "text/plain"),
        Refused<(Internal,)>,
    ),
)]
pub(super) async fn metrics(api: Data<Api>) -> Result<impl Responder, ApiError> {
    update_gauges(&api);
    Ok(HttpResponse::Ok().content_type(TEXT_FORMAT).body(api.metrics.render()?))
}

/// Updates the gauges whose values are read only at a scrape.
fn update_gauges(api: &Api) {
    let metrics = &api.metrics;
    metrics.revocations_held.set(i64::try_from(api.replica.len()).unwrap_or(i64::MAX));
    // The service starts listening after the first read, so there is a staleness.
    let staleness = api.replica.staleness().unwrap_or_default();
    metrics.revocation_staleness.set(staleness.as_secs_f64());
    metrics.revocation_replica_complete.set(api.replica.is_complete().into());

    let ring = api.tokens.ring();
    for state in KeyState::iter() {
        let count = i64::try_from(ring.count(state)).unwrap_or(i64::MAX);
        metrics.signing_keys.with_label_values(&[state.into_str()]).set(count);
    }
    let active = ring.stored().find(KeyState::Active);
    let activated_at = active.and_then(|key| key.activated_at);
    let age = activated_at.map(|activated_at| api.clock.now() - activated_at).unwrap_or_default();
    metrics.signing_key_age.set(age.as_seconds_f64());

    let pool = api.store.pool_status();
    metrics.database_connections.with_label_values(&["idle"]).set(pool.idle.into());
    metrics.database_connections.with_label_values(&["in_use"]).set(pool.in_use.into());
    metrics.database_connections_max.set(pool.max.into());
}
