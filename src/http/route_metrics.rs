//! Request metrics of one route.

use std::cell::RefCell;
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use prometheus::{Histogram, IntCounter};

use crate::metrics::Metrics;

/// Route label of requests that match no route. Their paths are not used as labels: anyone could
/// create series without bound.
const UNMATCHED: &str = "unmatched";

/// Metrics of one route on one thread. Caches each series after its first request: Prometheus finds
/// a series by hashing its labels under a lock that all threads share.
pub(super) struct RouteMetrics {
    route: &'static str,
    series: RefCell<Vec<Series>>,
}

struct Series {
    method: &'static str,
    status: StatusCode,
    requests: IntCounter,
    duration: Histogram,
}

impl RouteMetrics {
    /// Creates the metrics of a route, which is labelled by its path pattern.
    pub(super) fn new(route: &'static str) -> Self {
        Self { route, series: RefCell::default() }
    }

    /// Creates the metrics of requests that match no route.
    pub(super) fn unmatched() -> Self {
        Self::new(UNMATCHED)
    }

    /// Returns the label of the route.
    pub(super) fn route(&self) -> &'static str {
        self.route
    }

    /// Records one request.
    pub(super) fn record(
        &self,
        metrics: &Metrics,
        method: &'static str,
        status: StatusCode,
        duration: Duration,
    ) {
        let mut all = self.series.borrow_mut();
        let is_same = |series: &Series| series.status == status && series.method == method;
        if let Some(series) = all.iter().find(|series| is_same(series)) {
            series.record(duration);
        } else {
            let series = Series::new(metrics, method, self.route, status);
            series.record(duration);
            all.push(series);
        }
    }
}

impl Series {
    fn new(metrics: &Metrics, method: &'static str, route: &str, status: StatusCode) -> Self {
        let labels = &[method, route, status.as_str()];
        Self {
            method,
            status,
            requests: metrics.http_requests.with_label_values(labels),
            duration: metrics.http_duration.with_label_values(labels),
        }
    }

    fn record(&self, duration: Duration) {
        self.requests.inc();
        self.duration.observe(duration.as_secs_f64());
    }
}

/// Returns the label of a method. Unknown methods share one: anyone could invent more.
pub(super) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
