//! What Prometheus is told. One registry, passed in; names follow the Prometheus conventions.

use prometheus::core::Collector;
use prometheus::{
    Error, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// From a check in memory to a request that nearly timed out, in seconds.
const LATENCY: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Around the tenths of a second that a hash is meant to take.
const HASHING: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0];

/// Powers of two: a batch grows with the load.
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// The results of looking a token up among the revocations.
const CHECKS: &[&str] =
    &["clear", "revoked", "fallback_clear", "fallback_revoked", "fallback_failed"];

/// Declares `Metrics`. The doc comment of a field is the help text of its metric; after the name
/// stand its labels and its buckets.
macro_rules! metrics {
    ($(
        #[doc = $help:literal]
        $field:ident: $kind:ty = $name:literal, [$($label:literal),*], $buckets:expr;
    )*) => {
        /// Every metric that code counts into, and the registry that renders them.
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: $kind,)*
        }

        impl Metrics {
            fn register_all(registry: Registry) -> Result<Self, Error> {
                $(
                    let opts = Opts::new($name, $help.trim());
                    let $field = <$kind>::make(opts, &[$($label),*], $buckets)?;
                    registry.register(Box::new($field.clone()))?;
                )*
                Ok(Self { registry, $($field),* })
            }
        }
    };
}

metrics! {
    /// Requests answered, by method, matched route and status.
    http_requests: IntCounterVec = "http_requests_total", ["method", "route", "status"], &[];
    /// Time from the head of a request to that of its reply, by method, matched route and status.
    http_duration: HistogramVec = "http_request_duration_seconds", ["method", "route", "status"], LATENCY;
    /// Logins, by outcome.
    logins: IntCounterVec = "portcullis_logins_total", ["outcome"], &[];
    /// Registrations, by outcome.
    registrations: IntCounterVec = "portcullis_registrations_total", ["outcome"], &[];
    /// Exchanges of refresh tokens, by outcome.
    refreshes: IntCounterVec = "portcullis_refreshes_total", ["outcome"], &[];
    /// Refresh tokens used again after they were exchanged, which ends the session: stolen, it seems.
    refresh_tokens_reused: IntCounter = "portcullis_refresh_tokens_reused_total", [], &[];
    /// Hashing jobs waiting or at work.
    hash_queue_depth: IntGauge = "portcullis_hash_queue_depth", [], &[];
    /// Most hashing jobs admitted, as things stand.
    hash_queue_limit: IntGauge = "portcullis_hash_queue_limit", [], &[];
    /// Hashing threads.
    hash_threads: IntGauge = "portcullis_hash_threads", [], &[];
    /// Time that hashing jobs waited for a thread.
    hash_wait: Histogram = "portcullis_hash_wait_seconds", [], HASHING;
    /// Time that hashing jobs took once they had a thread.
    hash_duration: Histogram = "portcullis_hash_duration_seconds", [], HASHING;
    /// Hashing jobs, by outcome: completed, shed by a full queue, abandoned before their turn.
    hash_jobs: IntCounterVec = "portcullis_hash_jobs_total", ["outcome"], &[];
    /// Tokens looked up among the revocations, by result; fallback_… asked the database, fallback_failed in vain.
    revocation_checks: IntCounterVec = "portcullis_revocation_checks_total", ["result"], &[];
    /// Revocations committed by this instance.
    revocations_committed: IntCounter = "portcullis_revocations_committed_total", [], &[];
    /// Revocations that went into one commit.
    revocation_batch_size: Histogram = "portcullis_revocation_commit_batch_size", [], SIZES;
    /// Time that commits of revocations took.
    revocation_commit_duration: Histogram = "portcullis_revocation_commit_duration_seconds", [], LATENCY;
    /// Expired revocations deleted by this instance.
    revocations_swept: IntCounter = "portcullis_revocations_swept_total", [], &[];
    /// Age of what this instance knows of the revocations.
    revocation_staleness: Gauge = "portcullis_revocation_staleness_seconds", [], &[];
    /// Age from which on it asks the database about every token: REVOCATION_MAX_STALENESS.
    revocation_max_staleness: Gauge = "portcullis_revocation_max_staleness_seconds", [], &[];
    /// Reads of the feed of revocations, by cause: start, hint, poll, retry.
    revocation_feed_reads: IntCounterVec = "portcullis_revocation_feed_reads_total", ["cause"], &[];
    /// Reads of the feed that failed.
    revocation_feed_failures: IntCounter = "portcullis_revocation_feed_failures_total", [], &[];
    /// Reads of the feed that brought the whole table: at the start, from another database, after an overflow.
    revocation_feed_loads: IntCounter = "portcullis_revocation_feed_loads_total", [], &[];
    /// Time from the making of a revocation elsewhere to its being refused here.
    revocation_feed_lag: Histogram = "portcullis_revocation_feed_lag_seconds", [], LATENCY;
    /// 1 while the database tells of revocations at once, 0 while they are polled for; absent where nobody listens.
    revocation_listener_connected: IntGaugeVec = "portcullis_revocation_listener_connected", [], &[];
    /// Revocations held in memory.
    revocations_held: IntGauge = "portcullis_revocations_held", [], &[];
    /// 1 while every live revocation is held in memory, 0 once one had to be pushed out.
    revocation_replica_complete: IntGauge = "portcullis_revocation_replica_complete", [], &[];
    /// Open connections to the database, by state.
    database_connections: IntGaugeVec = "portcullis_database_connections", ["state"], &[];
    /// Most connections to the database.
    database_connections_max: IntGauge = "portcullis_database_connections_max", [], &[];
    /// 1, with the version as a label.
    build_info: IntGaugeVec = "portcullis_build_info", ["version"], &[];
}

impl Metrics {
    /// Registers everything, the outcomes that have not happened yet included: a series that
    /// appears only with its first event hides that event from `rate()`.
    ///
    /// # Errors
    /// When two metrics bear one name.
    pub fn new() -> Result<Self, Error> {
        let metrics = Self::register_all(Registry::new())?;
        #[cfg(target_os = "linux")]
        metrics
            .registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for (counters, labels) in [
            (&metrics.logins, ["success", "invalid_credentials", "overloaded", "error"].as_slice()),
            (&metrics.registrations, &["success", "taken", "overloaded", "error"]),
            (&metrics.refreshes, &["success", "refused", "error"]),
            (&metrics.hash_jobs, &["completed", "shed", "abandoned"]),
            (&metrics.revocation_checks, CHECKS),
            (&metrics.revocation_feed_reads, &["start", "hint", "poll", "retry"]),
        ] {
            for label in labels {
                counters.with_label_values(&[label]);
            }
        }
        Ok(metrics)
    }

    /// Renders everything in the Prometheus text format.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn render(&self) -> Result<String, Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// A kind of metric, for the table above.
trait Make: Collector + Clone + Sized {
    fn make(opts: Opts, labels: &[&str], buckets: &[f64]) -> Result<Self, Error>;
}

macro_rules! make {
    ($($kind:ty: |$opts:ident, $labels:ident, $buckets:ident| $made:expr;)*) => {
        $(impl Make for $kind {
            fn make($opts: Opts, $labels: &[&str], $buckets: &[f64]) -> Result<Self, Error> {
                $made
            }
        })*
    };
}

make! {
    IntCounter: |opts, _labels, _buckets| Self::with_opts(opts);
    IntCounterVec: |opts, labels, _buckets| Self::new(opts, labels);
    Gauge: |opts, _labels, _buckets| Self::with_opts(opts);
    IntGauge: |opts, _labels, _buckets| Self::with_opts(opts);
    IntGaugeVec: |opts, labels, _buckets| Self::new(opts, labels);
    Histogram: |opts, _labels, buckets| Self::with_opts(with_buckets(opts, buckets));
    HistogramVec: |opts, labels, buckets| Self::new(with_buckets(opts, buckets), labels);
}

fn with_buckets(opts: Opts, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts { common_opts: opts, buckets: buckets.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doc_comment_of_a_metric_is_its_help_text() {
        let text = Metrics::new().unwrap().render().unwrap();

        assert!(text.contains("# HELP portcullis_hash_threads Hashing threads.\n"), "{text}");
    }

    #[test]
    fn outcomes_that_have_not_happened_are_there_as_zero() {
        let text = Metrics::new().unwrap().render().unwrap();

        assert!(text.contains("portcullis_logins_total{outcome=\"overloaded\"} 0\n"), "{text}");
        assert!(text.contains("portcullis_revocation_staleness_seconds 0\n"), "{text}");
    }
}
