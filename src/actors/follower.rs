//! Following the revocations of everybody: reads the feed into the replica, at every hint and
//! regularly without one. `docs/revocation.md` says why nothing is missed.

#[cfg(test)]
mod simulation;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::config::RevocationSettings;
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::{Feed, Listener, News, StoreError};
use crate::telemetry::Chain;

/// Pauses after a read: as long as it took, within these limits. In a storm of logouts each read then
/// brings many, and the more work the database has, the less often it is asked.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Wait after a first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// Revocations taken in before others have their turn on this thread.
const CHUNK: usize = 1_000;

/// Reads the feed into the replica.
pub(super) struct Follower {
    pub(super) feed: Box<dyn Feed>,
    pub(super) replica: Arc<Replica>,
    pub(super) hint: Arc<Notify>,
    pub(super) settings: RevocationSettings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) backoff: Backoff,
}

impl Follower {
    /// Follows for as long as it is awaited.
    pub(super) async fn follow(mut self) {
        // The first load may have taken long enough to be stale by now.
        let mut wait = Duration::ZERO;
        loop {
            let cause = self.next_cause(wait).await;
            let began_at = self.clock.uptime();
            let outcome = self.read(cause).await;
            let took = self.clock.uptime().saturating_sub(began_at);
            wait = match outcome {
                Ok(()) => self.wait_after_success(took),
                Err(error) => self.wait_after_failure(&error),
            };
            sleep(took.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
        }
    }

    /// Waits for a reason to read. While reading fails, a hint is none.
    async fn next_cause(&self, wait: Duration) -> &'static str {
        if self.backoff.is_on() {
            sleep(wait).await;
            return "retry";
        }
        select! {
            () = self.hint.notified() => "hint",
            () = sleep(wait) => "poll",
        }
    }

    /// The interval is one between beginnings, from which staleness is counted.
    fn wait_after_success(&mut self, took: Duration) -> Duration {
        if self.backoff.reset() {
            tracing::info!("the revocations are followed again");
        }
        self.settings.poll_interval.saturating_sub(took)
    }

    fn wait_after_failure(&mut self, error: &StoreError) -> Duration {
        self.metrics.revocation_feed_failures.inc();
        if !self.backoff.is_on() {
            tracing::warn!(error = %Chain(error), "cannot read what others have revoked, trying on");
        }
        self.backoff.next(self.settings.poll_interval)
    }

    /// Reads once, and takes in what that brings.
    ///
    /// # Errors
    /// When the database does not answer: then the replica knows no more than before.
    pub(super) async fn read(&mut self, cause: &'static str) -> Result<(), StoreError> {
        self.metrics.revocation_feed_reads.with_label_values(&[cause]).inc();
        if self.replica.may_be_completed() {
            self.feed.rewind();
        }
        let reading = self.replica.begin_reading();
        let began_at = self.clock.uptime();
        let news = self.feed.read(self.settings.patience()).await?;
        self.apply(&news, began_at).await;
        self.replica.end_reading(reading, news.is_whole);
        Ok(())
    }

    async fn apply(&self, news: &News, began_at: Duration) {
        if news.is_whole {
            self.metrics.revocation_feed_loads.inc();
        }
        for chunk in news.entries.chunks(CHUNK) {
            for entry in chunk {
                let is_new = self.replica.apply(&entry.revocation, news.read_at);
                if is_new && !news.is_whole {
                    let before = Duration::try_from(news.read_at - entry.revoked_at);
                    let since = self.clock.uptime().saturating_sub(began_at);
                    let lag = before.unwrap_or_default() + since;
                    self.metrics.revocation_feed_lag.observe(lag.as_secs_f64());
                }
            }
            yield_now().await;
        }
    }
}

/// Passes on the hints of the database, for as long as it is awaited.
pub(super) async fn listen(
    mut listener: Box<dyn Listener>,
    hint: Arc<Notify>,
    settings: RevocationSettings,
    metrics: Arc<Metrics>,
    mut backoff: Backoff,
) {
    let connected = metrics.revocation_listener_connected.with_label_values::<&str>(&[]);
    loop {
        let lost = match listener.connect(settings.patience()).await {
            Ok(()) => {
                if backoff.reset() {
                    tracing::info!("hearing of revocations at once again");
                }
                connected.set(1);
                pass_on_hints(listener.as_mut(), &hint, settings.patience()).await
            }
            Err(error) => error,
        };
        connected.set(0);
        if !backoff.is_on() {
            tracing::warn!(error = %Chain(&lost), "not told of revocations, polling for them");
        }
        sleep(backoff.next(settings.poll_interval)).await;
    }
}

/// Returns why it ended.
async fn pass_on_hints(
    listener: &mut dyn Listener,
    hint: &Notify,
    patience: Duration,
) -> StoreError {
    loop {
        // Once without having heard anything: hints were lost while nobody listened.
        hint.notify_one();
        if let Err(error) = listener.hear(patience).await {
            return error;
        }
    }
}

/// How long to wait before another try. Instances that failed together do not come back together.
pub(super) struct Backoff {
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    pub(super) fn new(random: fastrand::Rng) -> Self {
        Self { failures: 0, random }
    }

    /// Tells whether the last try failed.
    fn is_on(&self) -> bool {
        self.failures > 0
    }

    /// Notes a success; tells whether failures went before.
    fn reset(&mut self) -> bool {
        mem::take(&mut self.failures) > 0
    }

    /// Notes a failure; returns the wait, about as long as `most` in the end.
    fn next(&mut self, most: Duration) -> Duration {
        let doubled = FIRST_RETRY * 2_u32.pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        doubled.min(most).mul_f64(0.5 + self.random.f64())
    }
}
