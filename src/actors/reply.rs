//! Replies of handlers: [`CancelOnDrop`] is cancelled when its caller is gone.

use std::pin::Pin;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Message, ResponseFuture};
use tokio::select;
use tracing::{Instrument, Span};

use super::ActorError;

/// Future reply of a handler. When the client disconnects or the deadline passes, the future is
/// dropped, and with it a hash that waits in the queue.
pub struct CancelOnDrop<T>(Pin<Box<dyn Future<Output = T>>>);

impl<T> CancelOnDrop<T> {
    pub(super) fn new(work: impl Future<Output = T> + 'static) -> Self {
        Self(Box::pin(work))
    }
}

/// Reply of a handler whose work can be done in a span.
pub trait Reply {
    /// Returns the reply, whose work is done in the span.
    fn in_span(self, span: Span) -> Self;
}

impl<T: 'static> Reply for CancelOnDrop<T> {
    fn in_span(self, span: Span) -> Self {
        Self::new(self.0.instrument(span))
    }
}

impl<T: 'static> Reply for ResponseFuture<T> {
    fn in_span(self, span: Span) -> Self {
        Box::pin(self.instrument(span))
    }
}

/// The work is done already.
impl<T> Reply for Result<T, ActorError> {
    fn in_span(self, _: Span) -> Self {
        self
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
