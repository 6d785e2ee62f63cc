//! The follower: reads the revocations of other instances from the feed into the replica, and the
//! signing keys and clients when they have changed, at every notification and at regular intervals.
//! `docs/revocation.md` shows that none is missed.

#[cfg(test)]
mod simulation;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::sleep;

use crate::actors::SharedState;
use crate::clock::{Clock, DatabaseClock};
use crate::config::RevocationSettings;
use crate::metrics::{FeedReadCause, Metrics};
use crate::revocation::{LogRead, LogRow, ReadStart};
use crate::store::{Feed, FeedBatch, FeedEntry, Listener, Store, StoreError};
use crate::telemetry::ErrorChain;

/// Minimum pause after a read. A pause is as long as the read took: in a storm of logouts each read
/// then returns many of them, and a busy database is read less often.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Maximum pause after a read.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Delay after a first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// Number of revocations applied before other tasks on this thread run.
const CHUNK: usize = 1_000;

/// Loads every live revocation into the replica, then starts the tasks that follow new ones. Returns
/// them with the version of the state that all instances share.
///
/// # Errors
/// Returns a [`StoreError`] if the revocations cannot be read.
pub(super) async fn start(
    store: &dyn Store,
    state: &SharedState,
    settings: RevocationSettings,
    clock: &Arc<DatabaseClock>,
    metrics: &Arc<Metrics>,
) -> Result<(Vec<JoinHandle<()>>, watch::Receiver<i64>), StoreError> {
    let notified = state.replica.log().read_requests();
    let mut follower = Follower {
        feed: store.feed(),
        state: state.clone(),
        notified: Arc::clone(&notified),
        settings,
        clock: Arc::clone(clock),
        metrics: Arc::clone(metrics),
        backoff: Backoff::new(fastrand::Rng::new()),
        versions: watch::Sender::default(),
    };
    follower.read(FeedReadCause::Start).await?;

    let versions = follower.versions.subscribe();
    let mut tasks = vec![actix::spawn(follower.follow())];
    if let Some(listener) = store.listener() {
        let backoff = Backoff::new(fastrand::Rng::new());
        let metrics = Arc::clone(metrics);
        tasks.push(actix::spawn(listen(listener, notified, settings, metrics, backoff)));
    }
    Ok((tasks, versions))
}

/// Reads the feed into the shared state.
pub(super) struct Follower {
    pub(super) feed: Box<dyn Feed>,
    pub(super) state: SharedState,
    pub(super) notified: Arc<Notify>,
    pub(super) settings: RevocationSettings,
    pub(super) clock: Arc<DatabaseClock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) backoff: Backoff,
    /// Version of the state that all instances share.
    pub(super) versions: watch::Sender<i64>,
}

impl Follower {
    /// Follows until dropped.
    pub(super) async fn follow(mut self) {
        // The first load may have taken so long that it is stale.
        let mut delay = Duration::ZERO;
        loop {
            let cause = self.next_cause(delay).await;
            let started_at = self.clock.uptime();
            let outcome = self.read(cause).await;
            let duration = self.clock.uptime().saturating_sub(started_at);
            delay = match outcome {
                Ok(()) => self.delay_after_success(duration),
                Err(error) => self.delay_after_failure(&error),
            };
            sleep(duration.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
        }
    }

    /// Waits for a cause to read. While reads fail, notifications are ignored.
    async fn next_cause(&self, delay: Duration) -> FeedReadCause {
        if self.backoff.is_active() {
            sleep(delay).await;
            return FeedReadCause::Retry;
        }
        select! {
            // A read answers a notification, even if it is due anyway.
            biased;
            () = self.notified.notified() => FeedReadCause::Notification,
            () = sleep(delay) => FeedReadCause::Poll,
        }
    }

    /// The poll interval is counted between the starts of reads, as staleness is.
    fn delay_after_success(&mut self, duration: Duration) -> Duration {
        if self.backoff.reset() {
            tracing::info!("following the revocation feed again");
        }
        self.settings.poll_interval.saturating_sub(duration)
    }

    fn delay_after_failure(&mut self, error: &StoreError) -> Duration {
        self.metrics.revocation_feed_failures.inc();
        if !self.backoff.is_active() {
            let error = ErrorChain(error);
            tracing::warn!(%error, "failed to read the revocation feed; retrying");
        }
        self.backoff.next(self.settings.poll_interval)
    }

    /// Reads the feed once, sets the clock and applies the batch.
    ///
    /// # Errors
    /// Returns a [`StoreError`] if the database does not answer. The replica's freshness is
    /// unchanged then.
    pub(super) async fn read(&mut self, cause: FeedReadCause) -> Result<(), StoreError> {
        self.metrics.revocation_feed_reads.inc(cause);
        if self.state.replica.has_room_for_reload() {
            self.feed.request_full_reload();
        }
        let read = self.state.replica.begin_read();
        let started_at = self.clock.uptime();
        let batch = self.feed.read(self.settings.read_timeout()).await?;
        // The time after the read, so that this clock is never ahead: a token would not be valid yet.
        self.clock.synchronize(batch.read_at, self.clock.uptime());
        self.metrics.clock_skew.set(self.clock.skew_of_host());
        self.apply(&batch, started_at).await;
        // Before the read counts: what it vouches for includes the keys and the clients.
        if let Err(error) = self.follow_others(&batch).await {
            // The batch is not published: without a full reload, its revocations never would be.
            self.feed.request_full_reload();
            return Err(error);
        }
        self.versions
            .send_if_modified(|version| mem::replace(version, batch.version) != batch.version);
        self.state.replica.finish_read(read, batch.is_full_reload);
        self.publish(read, batch);
        Ok(())
    }

    /// Publishes a read for the receivers of the feed, once the replica has its revocations.
    fn publish(&self, read: ReadStart, batch: FeedBatch) {
        let row = |entry: FeedEntry| LogRow {
            id: entry.revocation.id,
            expires_at: entry.revocation.expires_at.unix_timestamp(),
            xid: entry.xid,
        };
        self.state.replica.log().publish(LogRead {
            rows: batch.entries.into_iter().map(row).collect(),
            cursor: batch.cursor,
            is_full_reload: batch.is_full_reload,
            began_at: read.started_at,
        });
    }

    /// Reads the signing keys and the clients if the batch shows that they may have changed.
    async fn follow_others(&mut self, batch: &FeedBatch) -> Result<(), StoreError> {
        self.follow_keys(batch).await?;
        self.follow_clients(batch).await
    }

    async fn follow_keys(&mut self, batch: &FeedBatch) -> Result<(), StoreError> {
        let ring = Arc::clone(&self.state.tokens.ring());
        let has_changed = batch.version != ring.stored().version;
        if !ring.is_stored() || !(has_changed || batch.is_full_reload) {
            return Ok(());
        }
        let keys = self.feed.read_keys(self.settings.read_timeout()).await?;
        self.state.tokens.replace(&ring, &keys);
        Ok(())
    }

    async fn follow_clients(&mut self, batch: &FeedBatch) -> Result<(), StoreError> {
        let former = Arc::clone(&self.state.clients.load());
        if batch.version == former.version() && !batch.is_full_reload {
            return Ok(());
        }
        let clients = self.feed.read_clients(self.settings.read_timeout()).await?;
        self.state.clients.replace(&former, &clients);
        Ok(())
    }

    async fn apply(&self, batch: &FeedBatch, started_at: Duration) {
        if batch.is_full_reload {
            self.metrics.revocation_feed_loads.inc();
        }
        let mut entries: Vec<_> = batch.entries.iter().collect();
        // In the order of the replica's memory: a million take half the time, the sort included.
        entries.sort_unstable_by_key(|entry| self.state.replica.bucket_of(entry.revocation.id));
        for chunk in entries.chunks(CHUNK) {
            for entry in chunk {
                let is_new = self.state.replica.apply(&entry.revocation, batch.read_at);
                if is_new && !batch.is_full_reload {
                    let age = Duration::try_from(batch.read_at - entry.revoked_at);
                    let since_read = self.clock.uptime().saturating_sub(started_at);
                    let lag = age.unwrap_or_default() + since_read;
                    self.metrics.revocation_feed_lag.observe(lag.as_secs_f64());
                }
            }
            yield_now().await;
        }
    }
}

/// Forwards the notifications of the database to the follower, until dropped.
async fn listen(
    mut listener: Box<dyn Listener>,
    notified: Arc<Notify>,
    settings: RevocationSettings,
    metrics: Arc<Metrics>,
    mut backoff: Backoff,
) {
    let connected = metrics.revocation_listener_connected.with_label_values::<&str>(&[]);
    loop {
        let error = match listener.connect(settings.read_timeout()).await {
            Ok(()) => {
                if backoff.reset() {
                    tracing::info!("listening for notifications of revocations again");
                }
                connected.set(1);
                forward(listener.as_mut(), &notified, settings.read_timeout()).await
            }
            Err(error) => error,
        };
        connected.set(0);
        if !backoff.is_active() {
            let error = ErrorChain(&error);
            tracing::warn!(%error, "failed to listen for notifications of revocations; polling");
        }
        sleep(backoff.next(settings.poll_interval)).await;
    }
}

/// Forwards notifications until the listener fails. Returns the failure.
async fn forward(listener: &mut dyn Listener, notified: &Notify, timeout: Duration) -> StoreError {
    loop {
        // The first time without a notification: some may have been lost before the connection.
        notified.notify_one();
        if let Err(error) = listener.wait_for_notification(timeout).await {
            return error;
        }
    }
}

/// Exponential backoff with jitter, so that instances that failed together do not retry together.
pub(super) struct Backoff {
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    pub(super) fn new(random: fastrand::Rng) -> Self {
        Self { failures: 0, random }
    }

    /// Returns `true` after a failure.
    fn is_active(&self) -> bool {
        self.failures > 0
    }

    /// Records a success. Returns `true` if failures preceded it.
    fn reset(&mut self) -> bool {
        mem::take(&mut self.failures) > 0
    }

    /// Records a failure. Returns the delay before the next try, at most 1.5 times `limit`.
    fn next(&mut self, limit: Duration) -> Duration {
        let doubled = FIRST_RETRY * 2_u32.pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        doubled.min(limit).mul_f64(0.5 + self.random.f64())
    }
}
