//! What is counted about the requests to one route.

use std::cell::RefCell;
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use prometheus::{Histogram, IntCounter};

use crate::metrics::Metrics;

/// The label of every path that no route has: paths are chosen by strangers, and each label is a
/// series that is kept for good.
const UNMATCHED: &str = "unmatched";

/// The counters of one route, on one thread. They are looked up with the first request of their kind:
/// to look them up with each, by their labels, costs a hash and a lock that all threads share.
pub(super) struct Traffic {
    route: &'static str,
    series: RefCell<Vec<Series>>,
}

struct Series {
    method: &'static str,
    status: StatusCode,
    requests: IntCounter,
    duration: Histogram,
}

impl Traffic {
    /// Counts the requests to a route, by its pattern.
    pub(super) fn of(route: &'static str) -> Self {
        Self { route, series: RefCell::default() }
    }

    /// Counts the requests to no route.
    pub(super) fn unmatched() -> Self {
        Self::of(UNMATCHED)
    }

    /// Returns the label of the route.
    pub(super) fn route(&self) -> &'static str {
        self.route
    }

    /// Counts a request and the time that it took.
    pub(super) fn count(
        &self,
        metrics: &Metrics,
        method: &'static str,
        status: StatusCode,
        took: Duration,
    ) {
        let mut series = self.series.borrow_mut();
        let is_meant = |one: &Series| one.status == status && one.method == method;
        let index = series.iter().position(is_meant).unwrap_or_else(|| {
            series.push(Series::of(metrics, method, self.route, status));
            series.len() - 1
        });
        if let Some(Series { requests, duration, .. }) = series.get(index) {
            requests.inc();
            duration.observe(took.as_secs_f64());
        }
    }
}

impl Series {
    fn of(metrics: &Metrics, method: &'static str, route: &str, status: StatusCode) -> Self {
        let labels = &[method, route, status.as_str()];
        Self {
            method,
            status,
            requests: metrics.http_requests.with_label_values(labels),
            duration: metrics.http_duration.with_label_values(labels),
        }
    }
}

/// Returns the label of a method. Strangers may make up methods, too.
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
