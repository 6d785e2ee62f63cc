//! [`Batcher`]: processes the items of many callers together, one batch at a time.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{ActorError, AskError};
use crate::store::StoreError;

/// Queue of items for a task that processes them in batches. Items submitted while a batch is
/// processed form the next one.
pub(super) struct Batcher<T, V> {
    entries: mpsc::UnboundedSender<Entry<T, V>>,
    task: JoinHandle<()>,
}

enum Entry<T, V> {
    Item(Pending<T, V>),
    Flush(oneshot::Sender<()>),
}

/// Submitted item, and the caller that waits for its result.
pub(super) struct Pending<T, V> {
    pub(super) item: T,
    caller: oneshot::Sender<Result<V, ActorError>>,
}

impl<T: 'static, V: 'static> Batcher<T, V> {
    /// Starts the task. `process` gets at most `limit` items and completes each of them.
    pub(super) fn start(limit: usize, process: impl AsyncFn(Vec<Pending<T, V>>) + 'static) -> Self {
        let (entries, mut arrivals) = mpsc::unbounded_channel();
        let task = actix::spawn(async move {
            let mut entries = Vec::new();
            while arrivals.recv_many(&mut entries, limit).await > 0 {
                let mut batch = Vec::new();
                let mut flushes = Vec::new();
                for entry in entries.drain(..) {
                    match entry {
                        Entry::Item(pending) => batch.push(pending),
                        Entry::Flush(caller) => flushes.push(caller),
                    }
                }
                if !batch.is_empty() {
                    process(batch).await;
                }
                for caller in flushes {
                    // Fails if the caller has left.
                    let _ = caller.send(());
                }
            }
        });
        Self { entries, task }
    }

    /// Queues an item for the next batch. Dropping the future does not cancel it.
    pub(super) fn submit(
        &self,
        item: T,
    ) -> impl Future<Output = Result<V, ActorError>> + use<T, V> {
        let (caller, result) = oneshot::channel();
        // If the task has ended, the caller is dropped with the item, which the result tells.
        let _ = self.entries.send(Entry::Item(Pending { item, caller }));
        async move { result.await.unwrap_or(Err(AskError::Stopped.into())) }
    }

    /// Waits until every item submitted before has been processed.
    pub(super) fn flush(&self) -> impl Future<Output = Result<(), ActorError>> + use<T, V> {
        let (caller, flushed) = oneshot::channel();
        let _ = self.entries.send(Entry::Flush(caller));
        async move { flushed.await.map_err(|_| AskError::Stopped.into()) }
    }

    /// Returns `true` if the task has ended, which only a panic causes.
    pub(super) fn has_stopped(&self) -> bool {
        self.task.is_finished()
    }
}

impl<T, V> Pending<T, V> {
    /// Returns `true` if the caller has left.
    pub(super) fn is_cancelled(&self) -> bool {
        self.caller.is_closed()
    }

    /// Sends the result to the caller.
    pub(super) fn complete(self, result: Result<V, ActorError>) {
        // Fails if the caller has left.
        let _ = self.caller.send(result);
    }
}

/// Waits for the database, but no longer than `limit`.
///
/// # Errors
/// Returns the error of `work`, or [`AskError::Timeout`].
pub(super) async fn with_timeout<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, ActorError> {
    match timeout(limit, work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(AskError::Timeout(limit).into()),
    }
}
