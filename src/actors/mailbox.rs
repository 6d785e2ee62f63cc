//! [`Mailbox`]: the only way to send a message to an actor, always with a deadline.

use std::time::Duration;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message};
use tokio::time::timeout;

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

    /// Sends a message and waits for the reply.
    ///
    /// # Errors
    /// Returns the error of the reply, or [`ActorError::Ask`] if there is no reply in time.
    pub async fn ask<M, T>(&self, message: M) -> Result<T, ActorError>
    where
        M: Message<Result = Result<T, ActorError>> + Send + 'static,
        T: Send + 'static,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        // The timeout wraps the send as well: actix does not poll a request's own timeout while the
        // mailbox is full.
        #[expect(clippy::disallowed_methods, reason = "this is the one place that sends")]
        match timeout(self.timeout, self.address.send(message)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(AskError::Stopped.into()),
            Err(_) => Err(AskError::Timeout(self.timeout).into()),
        }
    }
}

impl<A: Actor> Clone for Mailbox<A> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), timeout: self.timeout }
    }
}
