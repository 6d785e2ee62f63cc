//! [`CancelOnDrop`]: a reply that is cancelled when its caller is gone.

use std::pin::Pin;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Message};
use tokio::select;

/// Future reply of a handler. When the client disconnects or the deadline passes, the future is
/// dropped, and with it a hash that waits in the queue.
pub struct CancelOnDrop<T>(Pin<Box<dyn Future<Output = T>>>);

impl<T> CancelOnDrop<T> {
    pub(super) fn new(work: impl Future<Output = T> + 'static) -> Self {
        Self(Box::pin(work))
    }
}

impl<A, M> MessageResponse<A, M> for CancelOnDrop<M::Result>
where
    A: Actor,
    M: Message,
{
    fn handle(self, _: &mut A::Context, caller: Option<OneshotSender<M::Result>>) {
        actix::spawn(async move {
            let Some(mut caller) = caller else { return };
            let reply = select! {
                reply = self.0 => reply,
                () = caller.closed() => return,
            };
            // Fails if the caller left in the meantime.
            let _ = caller.send(reply);
        });
    }
}
