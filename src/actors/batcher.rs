//! [`Batcher`]: processes the items of many callers together, in batches.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::select;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::sleep;
use tracing::Span;

use super::{ActorError, AskError};
use crate::telemetry::ErrorChain;

/// Time after which a further batch starts beside the latest one. A cheap commit takes less, and a
/// batch that is started meanwhile would only be smaller.
const OVERLAP_AFTER: Duration = Duration::from_millis(1);

/// Queue of items for a task that processes them in batches. Items submitted before a further batch
/// may start form the next one. The queue is unbounded: the callers bound it, since each waits for
/// its result.
pub(super) struct Batcher<T, V> {
    sender: mpsc::UnboundedSender<Request<T, V>>,
    task: JoinHandle<()>,
}

enum Request<T, V> {
    Item(Pending<T, V>),
    Flush(oneshot::Sender<()>),
}

/// Submitted item, and the caller that waits for its result.
pub(super) struct Pending<T, V> {
    pub(super) item: T,
    caller: oneshot::Sender<Result<V, ActorError>>,
    /// Span of the caller's request.
    span: Span,
}

impl<T: 'static, V: 'static> Batcher<T, V> {
    /// Starts the task. `process` gets at most `limit` items, at least one, and completes each. At
    /// most `concurrent` batches are processed at the same time.
    pub(super) fn start(
        limit: usize,
        concurrent: usize,
        process: impl AsyncFn(Vec<Pending<T, V>>) + 'static,
    ) -> Self {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let process = Rc::new(process);
        let task = actix::spawn(async move {
            let mut requests = Vec::new();
            let mut batches = JoinSet::new();
            while wait_for_place(&mut batches, concurrent).await.is_ok()
                && receiver.recv_many(&mut requests, limit).await > 0
            {
                let mut batch = Vec::new();
                let mut flushes = Vec::new();
                for request in requests.drain(..) {
                    match request {
                        Request::Item(pending) => batch.push(pending),
                        Request::Flush(caller) => flushes.push(caller),
                    }
                }
                if !batch.is_empty() {
                    let process = Rc::clone(&process);
                    batches.spawn_local(async move { process(batch).await });
                }
                if !flushes.is_empty() && wait_for_place(&mut batches, 1).await.is_err() {
                    break;
                }
                for caller in flushes {
                    // Fails if the caller has left.
                    let _ = caller.send(());
                }
            }
        });
        Self { sender, task }
    }

    /// Queues an item for the next batch. Dropping the future does not cancel it: a logout that was
    /// sent must hold.
    pub(super) fn submit(
        &self,
        item: T,
    ) -> impl Future<Output = Result<V, ActorError>> + use<T, V> {
        let (caller, result) = oneshot::channel();
        self.pass_on(Pending { item, caller, span: Span::current() });
        async move { result.await.unwrap_or(Err(AskError::Stopped.into())) }
    }

    /// Queues an item from a batch of another queue, with the caller that waits for it.
    pub(super) fn pass_on(&self, pending: Pending<T, V>) {
        // If the task has ended, the caller is dropped with the item, which the result tells.
        let _ = self.sender.send(Request::Item(pending));
    }

    /// Waits until every item submitted before has been processed.
    pub(super) fn flush(&self) -> impl Future<Output = Result<(), ActorError>> + use<T, V> {
        let (caller, flushed) = oneshot::channel();
        let _ = self.sender.send(Request::Flush(caller));
        async move { flushed.await.map_err(|_| AskError::Stopped.into()) }
    }

    /// Returns `true` if the task has ended, which only a panic causes.
    pub(super) fn has_stopped(&self) -> bool {
        self.task.is_finished()
    }
}

/// Waits until a batch may start: until none is processed, or fewer than `concurrent` and the latest
/// one for [`OVERLAP_AFTER`].
async fn wait_for_place(batches: &mut JoinSet<()>, concurrent: usize) -> Result<(), JoinError> {
    let mut overlap = pin!(sleep(OVERLAP_AFTER));
    let mut is_slow = false;
    while !batches.is_empty() && (!is_slow || batches.len() >= concurrent) {
        select! {
            Some(ended) = batches.join_next() => ended?,
            () = &mut overlap, if !is_slow => is_slow = true,
        }
    }
    Ok(())
}

impl<T, V> Pending<T, V> {
    /// Returns `true` if the caller has left.
    pub(super) fn is_cancelled(&self) -> bool {
        self.caller.is_closed()
    }

    /// Sends the result to the caller. A failure is logged if the caller has left.
    pub(super) fn complete(self, result: Result<V, ActorError>) {
        if let Err(Err(error)) = self.caller.send(result) {
            let _entered = self.span.enter();
            let error = ErrorChain(&error);
            tracing::warn!(%error, "failed to process an item whose caller has left");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::task::LocalSet;

    use super::*;

    /// Submits items, two milliseconds apart, to batches that take `duration` each. Returns how many
    /// batches were processed at once, at most, and how many items when a flush ends.
    async fn process(concurrent: usize, duration: Duration) -> (usize, usize) {
        let now = Rc::new(Cell::new(0));
        let most = Rc::new(Cell::new(0));
        let done = Rc::new(Cell::new(0));
        let (counted, highest, processed) = (now.clone(), most.clone(), done.clone());
        let batcher = Batcher::start(10, concurrent, async move |batch: Vec<Pending<(), ()>>| {
            counted.set(counted.get() + 1);
            highest.set(highest.get().max(counted.get()));
            sleep(duration).await;
            counted.set(counted.get() - 1);
            processed.set(processed.get() + batch.len());
        });
        for _ in 0..20 {
            drop(batcher.submit(()));
            sleep(Duration::from_millis(2)).await;
        }
        batcher.flush().await.unwrap();
        (most.get(), done.get())
    }

    #[tokio::test(start_paused = true)]
    async fn slow_batches_overlap_and_quick_ones_do_not() {
        let test = LocalSet::new();
        let slow = Duration::from_millis(10);
        let quick = Duration::from_micros(500);
        assert_eq!(test.run_until(process(1, slow)).await, (1, 20));
        assert_eq!(test.run_until(process(3, slow)).await, (3, 20));
        assert_eq!(test.run_until(process(3, quick)).await, (1, 20));
    }
}
