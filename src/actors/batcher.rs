//! [`Batcher`]: processes the items of many callers together, one batch at a time.

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::Span;

use super::{ActorError, AskError};
use crate::telemetry::ErrorChain;

/// Queue of items for a task that processes them in batches. Items submitted while a batch is
/// processed form the next one. The queue is unbounded: the callers bound it, since each waits for
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
    /// Starts the task. `process` gets at most `limit` items, at least one, and completes each.
    pub(super) fn start(limit: usize, process: impl AsyncFn(Vec<Pending<T, V>>) + 'static) -> Self {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let task = actix::spawn(async move {
            let mut requests = Vec::new();
            while receiver.recv_many(&mut requests, limit).await > 0 {
                let mut batch = Vec::new();
                let mut flushes = Vec::new();
                for request in requests.drain(..) {
                    match request {
                        Request::Item(pending) => batch.push(pending),
                        Request::Flush(caller) => flushes.push(caller),
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
