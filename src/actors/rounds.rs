//! Work that is done for many at once: what arrives while a round is under way goes into the next
//! one together.

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Unanswered;

/// Where to hand in something for the next round, and wait for how that went.
pub(super) struct Rounds<T, R> {
    waiting: mpsc::UnboundedSender<Waiting<T, R>>,
    task: JoinHandle<()>,
}

/// Somebody who waits for a round.
pub(super) struct Waiting<T, R> {
    pub(super) item: T,
    done: oneshot::Sender<R>,
}

impl<T: 'static, R: Clone + 'static> Rounds<T, R> {
    /// Starts working: `work` is done for at most `limit` at a time, and what it returns is told to
    /// each of them. It ends when everybody has left.
    pub(super) fn start(limit: usize, work: impl AsyncFn(&[Waiting<T, R>]) -> R + 'static) -> Self {
        let (waiting, mut arrivals) = mpsc::unbounded_channel();
        let task = actix::spawn(async move {
            let mut round = Vec::new();
            while arrivals.recv_many(&mut round, limit).await > 0 {
                let outcome = work(&round).await;
                for Waiting { done, .. } in round.drain(..) {
                    // Whoever has left does not miss the answer.
                    let _ = done.send(outcome.clone());
                }
            }
        });
        Self { waiting, task }
    }

    /// Tells whether the work has ended, which it should not have.
    pub(super) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Takes part in the next round. What is handed in stays in when nobody waits for it any more.
    pub(super) fn join(&self, item: T) -> impl Future<Output = Result<R, Unanswered>> + 'static {
        let (done, outcome) = oneshot::channel();
        let handed_in = self.waiting.send(Waiting { item, done });
        async move {
            handed_in.map_err(|_| Unanswered::Stopped)?;
            outcome.await.map_err(|_| Unanswered::Stopped)
        }
    }
}

impl<T, R> Waiting<T, R> {
    /// Tells whether nobody waits any more.
    pub(super) fn has_left(&self) -> bool {
        self.done.is_closed()
    }
}
