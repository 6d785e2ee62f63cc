//! `/metrics`: what Prometheus scrapes.

use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};

use super::{Api, ApiError};

/// `GET /metrics`, in the text format of Prometheus.
pub(super) async fn metrics(api: Data<Api>) -> Result<impl Responder, ApiError> {
    let format = "text/plain; version=0.0.4; charset=utf-8";
    Ok(HttpResponse::Ok().content_type(format).body(api.metrics.render()?))
}
