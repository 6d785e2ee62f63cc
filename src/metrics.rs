//! Prometheus metrics. One registry, passed in; names follow the Prometheus conventions.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Error, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};
use strum::{EnumIter, IntoEnumIterator, IntoStaticStr};

use crate::config::COMMIT;

/// Buckets from a check in memory to a request that nearly timed out, in seconds.
const LATENCY: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Buckets around the tenths of a second that a hash should take, in seconds.
const HASHING: &[f64] =
    &[0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0];

/// Buckets of batch sizes, which grow with the load.
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Declares an enum of label values.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$meta:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, IntoStaticStr)]
        #[strum(serialize_all = "snake_case")]
        pub enum $name { $($(#[$meta])* $variant),+ }
    };
}

label! {
    /// Limit that refused a connection.
    ConnectionLimit { Total, Address }
}
label! {
    /// Deadline that the client of a connection missed: for the next request, for the rest of one, or
    /// for taking a reply.
    MissedDeadline { KeepAlive, Request, Reply }
}
label! {
    /// Outcome of a login.
    LoginOutcome {
        Success, InvalidCredentials, TooManyAttempts, TooManyRevocations, Overloaded, Error,
    }
}
label! {
    /// Route that checks a password.
    Door { Login, PasswordChange, AccountDeletion }
}
label! {
    /// Reason to refuse a password: it is wrong, or was not checked since too many before it were.
    RefusalReason { WrongPassword, TooManyAttempts }
}
label! {
    /// Outcome of a registration.
    RegistrationOutcome { Success, Taken, Closed, TooManyRegistrations, Overloaded, Error }
}
label! {
    /// Outcome of a reset of a password with a code.
    ResetOutcome { Success, InvalidCode, PasswordRefused, TooManyAttempts, Overloaded, Error }
}
label! {
    /// Outcome of an exchange of a refresh token.
    RefreshOutcome { Success, Refused, Error }
}
label! {
    /// Outcome of a hashing job: done, refused by a full queue, not hashed in the end.
    HashJobOutcome { Completed, Shed, Abandoned }
}
label! {
    /// Result of a revocation check: from the replica, or from the database as the fallback.
    CheckResult { Clear, Revoked, FallbackClear, FallbackRevoked, FallbackFailed }
}
label! {
    /// Reply to a receiver of the revocation feed.
    ReceiverReply { Complete, Incremental, Empty, Refused }
}
label! {
    /// Cause of a read of the feed.
    FeedReadCause { Start, #[strum(serialize = "hint")] Notification, Poll, Retry }
}

/// Counter with one series for each value of a label. All series exist from the start: one that
/// appears with its first event hides this event from `rate()`.
#[derive(Clone)]
pub struct CounterBy<L> {
    counters: IntCounterVec,
    /// The series by label, since [`IntCounterVec`] takes a lock to find one.
    series: Vec<(L, IntCounter)>,
}

impl<L: Copy + PartialEq> CounterBy<L> {
    /// Increments the series of a label.
    pub fn inc(&self, label: L) {
        if let Some((_, counter)) = self.series.iter().find(|(known, _)| *known == label) {
            counter.inc();
        }
    }
}

impl<L: Send + Sync> Collector for CounterBy<L> {
    fn desc(&self) -> Vec<&Desc> {
        self.counters.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.counters.collect()
    }
}

/// Declares [`Metrics`]. The doc comment of a field is the help text of its metric; its name is followed
/// by its labels and buckets.
macro_rules! metrics {
    ($(
        #[doc = $help:literal]
        $field:ident: $kind:ty = $name:literal, [$($label:literal),*], $buckets:expr;
    )*) => {
        /// All metrics, and the registry that renders them.
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
    /// Requests, by method, matched route and status.
    http_requests: IntCounterVec = "http_requests_total", ["method", "route", "status"], &[];
    /// Time from the head of a request to the head of its reply, by method, matched route and status.
    http_duration: HistogramVec = "http_request_duration_seconds", ["method", "route", "status"], LATENCY;
    /// Open HTTP connections.
    http_connections: IntGauge = "portcullis_http_connections", [], &[];
    /// HTTP connections refused, by limit: all connections, or those from one address.
    http_connections_refused: CounterBy<ConnectionLimit> = "portcullis_http_connections_refused_total", ["limit"], &[];
    /// HTTP connections closed at a deadline: no next request, an incomplete one, or a reply not read.
    http_connections_timed_out: CounterBy<MissedDeadline> = "portcullis_http_connections_timed_out_total", ["deadline"], &[];
    /// Logins, by outcome.
    logins: CounterBy<LoginOutcome> = "portcullis_logins_total", ["outcome"], &[];
    /// Refused passwords, by route and reason.
    passwords_refused: IntCounterVec = "portcullis_passwords_refused_total", ["door", "reason"], &[];
    /// Registrations, by outcome.
    registrations: CounterBy<RegistrationOutcome> = "portcullis_registrations_total", ["outcome"], &[];
    /// Resets of passwords with a code, by outcome.
    password_resets: CounterBy<ResetOutcome> = "portcullis_password_resets_total", ["outcome"], &[];
    /// Exchanges of refresh tokens, by outcome.
    refreshes: CounterBy<RefreshOutcome> = "portcullis_refreshes_total", ["outcome"], &[];
    /// Replays of refresh tokens, each of which ended a session: a sign of theft.
    refresh_tokens_reused: IntCounter = "portcullis_refresh_tokens_reused_total", [], &[];
    /// Retries of exchanges of refresh tokens, after a lost reply or by several requests at once.
    refresh_tokens_retried: IntCounter = "portcullis_refresh_tokens_retried_total", [], &[];
    /// Hashing jobs waiting or running.
    hash_queue_depth: IntGauge = "portcullis_hash_queue_depth", [], &[];
    /// Maximum number of hashing jobs, computed from the duration of recent ones.
    hash_queue_limit: IntGauge = "portcullis_hash_queue_limit", [], &[];
    /// Hashing threads.
    hash_threads: IntGauge = "portcullis_hash_threads", [], &[];
    /// Time that hashing jobs waited for a thread.
    hash_wait: Histogram = "portcullis_hash_wait_seconds", [], HASHING;
    /// Time that hashing jobs ran.
    hash_duration: Histogram = "portcullis_hash_duration_seconds", [], HASHING;
    /// Hashing jobs, by outcome: completed, shed by a full queue, abandoned unhashed: the client left, or there were too many failures.
    hash_jobs: CounterBy<HashJobOutcome> = "portcullis_hash_jobs_total", ["outcome"], &[];
    /// Revocation checks, by result; those with fallback_ asked the database.
    revocation_checks: CounterBy<CheckResult> = "portcullis_revocation_checks_total", ["result"], &[];
    /// Revocations committed by this instance.
    revocations_committed: IntCounter = "portcullis_revocations_committed_total", [], &[];
    /// Revocations per commit.
    revocation_batch_size: Histogram = "portcullis_revocation_commit_batch_size", [], SIZES;
    /// Duration of the commits of revocations.
    revocation_commit_duration: Histogram = "portcullis_revocation_commit_duration_seconds", [], LATENCY;
    /// Expired revocations deleted by this instance.
    revocations_swept: IntCounter = "portcullis_revocations_swept_total", [], &[];
    /// Age of the latest complete read of the revocations.
    revocation_staleness: Gauge = "portcullis_revocation_staleness_seconds", [], &[];
    /// Staleness above which every check asks the database: REVOCATION_MAX_STALENESS.
    revocation_max_staleness: Gauge = "portcullis_revocation_max_staleness_seconds", [], &[];
    /// Reads of the revocation feed, by cause; a hint is a notification by the database.
    revocation_feed_reads: CounterBy<FeedReadCause> = "portcullis_revocation_feed_reads_total", ["cause"], &[];
    /// Failed reads of the revocation feed.
    revocation_feed_failures: IntCounter = "portcullis_revocation_feed_failures_total", [], &[];
    /// Full reloads of the replica: at the start, from another database, after an eviction.
    revocation_feed_loads: IntCounter = "portcullis_revocation_feed_loads_total", [], &[];
    /// Time from a revocation at another instance until this instance applied it.
    revocation_feed_lag: Histogram = "portcullis_revocation_feed_lag_seconds", [], LATENCY;
    /// 1 while notifications of revocations arrive, 0 while the feed is polled; absent without a listener.
    revocation_listener_connected: IntGaugeVec = "portcullis_revocation_listener_connected", [], &[];
    /// Revocations in the replica.
    revocations_held: IntGauge = "portcullis_revocations_held", [], &[];
    /// 1 while the replica holds every live revocation, 0 after an eviction.
    revocation_replica_complete: IntGauge = "portcullis_revocation_replica_complete", [], &[];
    /// Sessions that are to be ended since their role lost a permission.
    sessions_ending: IntGauge = "portcullis_sessions_ending", [], &[];
    /// Receivers of the revocation feed that wait for a revocation.
    receivers_waiting: IntGauge = "portcullis_receivers_waiting", [], &[];
    /// Replies to receivers of the revocation feed, by kind.
    receiver_replies: CounterBy<ReceiverReply> = "portcullis_receiver_replies_total", ["kind"], &[];
    /// Size of the replies to receivers of the revocation feed.
    receiver_reply_bytes: IntCounter = "portcullis_receiver_reply_bytes_total", [], &[];
    /// Age at the arrival of the request of what receivers of the revocation feed were told.
    receiver_age: Histogram = "portcullis_receiver_age_seconds", [], LATENCY;
    /// Access tokens refused, by reason and by the algorithm in their header.
    tokens_refused: IntCounterVec = "portcullis_tokens_refused_total", ["reason", "algorithm"], &[];
    /// Signing keys, by state.
    signing_keys: IntGaugeVec = "portcullis_signing_keys", ["state"], &[];
    /// Time since the active key began to sign.
    signing_key_age: Gauge = "portcullis_signing_key_age_seconds", [], &[];
    /// Time for which a key signs: JWT_KEY_ROTATION_INTERVAL; 0 for ever.
    key_rotation_interval: Gauge = "portcullis_key_rotation_interval_seconds", [], &[];
    /// Always 1; the issuer is a label.
    issuer_info: IntGaugeVec = "portcullis_issuer_info", ["issuer"], &[];
    /// Time of day of this host minus that of the database, at the latest read of the feed.
    clock_skew: Gauge = "portcullis_clock_skew_seconds", [], &[];
    /// Open connections to the database, by state.
    database_connections: IntGaugeVec = "portcullis_database_connections", ["state"], &[];
    /// Maximum number of connections to the database.
    database_connections_max: IntGauge = "portcullis_database_connections_max", [], &[];
    /// Log lines dropped because nothing read them.
    log_lines_dropped: IntCounter = "portcullis_log_lines_dropped_total", [], &[];
    /// Always 1; the version and the commit are labels.
    build_info: IntGaugeVec = "portcullis_build_info", ["version", "commit"], &[];
}

impl Metrics {
    /// Creates and registers all metrics.
    ///
    /// # Errors
    /// Returns an error if two metrics have the same name.
    pub fn new() -> Result<Self, Error> {
        let metrics = Self::register_all(Registry::new())?;
        #[cfg(target_os = "linux")]
        metrics
            .registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        for door in Door::iter() {
            for reason in RefusalReason::iter() {
                // A series exists from its first use.
                let _ = metrics.passwords_refused(door, reason);
            }
        }
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), COMMIT]).set(1);
        Ok(metrics)
    }

    /// Returns the counter of the passwords that a route refused for a reason.
    #[must_use]
    pub fn passwords_refused(&self, door: Door, reason: RefusalReason) -> IntCounter {
        let labels: [&str; 2] = [door.into(), reason.into()];
        self.passwords_refused.with_label_values(&labels)
    }

    /// Renders all metrics in the Prometheus text format.
    ///
    /// # Errors
    /// Returns an error if a metric cannot be encoded.
    pub fn render(&self) -> Result<String, Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Constructor of a kind of metric.
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

impl<L> Make for CounterBy<L>
where
    L: IntoEnumIterator + Into<&'static str> + Copy + Send + Sync,
{
    fn make(opts: Opts, labels: &[&str], _: &[f64]) -> Result<Self, Error> {
        let counters = IntCounterVec::new(opts, labels)?;
        let series = L::iter().map(|label| (label, counters.with_label_values(&[label.into()])));
        Ok(Self { series: series.collect(), counters })
    }
}

fn with_buckets(opts: Opts, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts { common_opts: opts, buckets: buckets.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doc_comment_of_a_metric_is_its_help_text() {
        let text = Metrics::new().unwrap().render().unwrap();

        assert!(text.contains("# HELP portcullis_hash_threads Hashing threads.\n"), "{text}");
    }

    #[test]
    fn outcomes_without_events_are_exported_as_zero() {
        let text = Metrics::new().unwrap().render().unwrap();

        assert!(text.contains("portcullis_logins_total{outcome=\"overloaded\"} 0\n"), "{text}");
        assert!(text.contains("portcullis_revocation_staleness_seconds 0\n"), "{text}");
    }
}
