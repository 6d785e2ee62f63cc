//! [`Mailbox`]: the only way to send a message to an actor, always with a deadline.

use std::time::Duration;

use actix::dev::{MessageResponse, ToEnvelope};
use actix::{Actor, Addr, Handler, MailboxError, Message};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Span;

use super::reply::Reply;
use super::{ActorError, AskError};

/// Address of an actor, with the longest time to wait for a reply.
pub struct Mailbox<A: Actor> {
    address: Addr<A>,
    timeout: Duration,
}

impl<A: Actor> Mailbox<A> {
    /// Creates a mailbox. Replies are awaited for at most `timeout`.
    #[must_use]
    pub fn new(address: Addr<A>, timeout: Duration) -> Self {
        Self { address, timeout }
    }

    /// Returns `true` while the actor runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.address.connected()
    }

    /// Sends a message and waits for the reply. The message is handled in the present span, so that
    /// what its handler logs has the ids of the request.
    ///
    /// # Errors
    /// Returns the error of the reply, or [`ActorError::Ask`] if there is no reply in time.
    pub async fn ask<M, T>(&self, message: M) -> Result<T, ActorError>
    where
        M: Message<Result = Result<T, ActorError>> + Send + 'static,
        T: Send + 'static,
        A: Handler<M, Result: Reply> + Handler<Delivery<A>>,
        A::Context: ToEnvelope<A, Delivery<A>>,
    {
        let (caller, reply) = oneshot::channel();
        let span = Span::current();
        let delivery = Delivery(Box::new(move |actor: &mut A, context: &mut A::Context| {
            let reply = span.in_scope(|| <A as Handler<M>>::handle(actor, message, context));
            reply.in_span(span).handle(context, Some(caller));
        }));
        #[expect(clippy::disallowed_methods, reason = "this is the one place that sends")]
        let reply = async {
            self.address.send(delivery).await?;
            reply.await.map_err(|_| MailboxError::Closed)
        };
        // The timeout wraps the send as well: actix does not poll a request's own timeout while the
        // mailbox is full.
        match timeout(self.timeout, reply).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(AskError::Stopped.into()),
            Err(_) => Err(AskError::Timeout(self.timeout).into()),
        }
    }
}

/// Message on its way to an actor, with its caller. actix drops it if the caller has left by the time
/// the actor is free.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Delivery<A: Actor>(
    #[expect(clippy::type_complexity, reason = "used once")]
    Box<dyn FnOnce(&mut A, &mut A::Context) + Send>,
);

impl<A: Actor> Delivery<A> {
    /// Lets the actor handle the message.
    pub(super) fn complete(self, actor: &mut A, context: &mut A::Context) {
        (self.0)(actor, context);
    }
}

/// Lets an actor have a mailbox.
macro_rules! accept_deliveries {
    ($actor:ty) => {
        impl actix::Handler<$crate::actors::mailbox::Delivery<Self>> for $actor {
            type Result = ();

            fn handle(
                &mut self,
                delivery: $crate::actors::mailbox::Delivery<Self>,
                context: &mut Self::Context,
            ) {
                delivery.complete(self, context);
            }
        }
    };
}

pub(super) use accept_deliveries;

impl<A: Actor> Clone for Mailbox<A> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), timeout: self.timeout }
    }
}
