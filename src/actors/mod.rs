//! The actors: who owns what changes. A message's doc says what its reply means; a business failure
//! is part of the reply and ends nobody.

mod follower;
mod hasher;
mod rounds;
mod sessions;
mod users;

use std::pin::Pin;
use std::time::Duration;

use actix::dev::{MessageResponse, OneshotSender, ToEnvelope};
use actix::{Actor, Addr, Handler, Message};
use thiserror::Error;
use tokio::select;
use tokio::time::timeout;

pub use hasher::{HashError, HashQueue};
pub use sessions::{
    ChangeUser, Drain, EndSession, IsRevoked, ListSessions, OpenSession, Refresh, Refreshed,
    Revoke, Revoked, SessionActor, SessionError,
};
pub use users::{
    FindUser, HashPassword, ListUsers, Login, Ping, ProvePassword, ReadAudit, Register, UserActor,
    UserError,
};

/// The address of an actor, and how long to wait for its answers.
pub struct Mailbox<A: Actor> {
    address: Addr<A>,
    deadline: Duration,
}

/// Why an actor did not answer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Unanswered {
    /// The deadline passed.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// The actor has stopped.
    #[error("the actor has stopped")]
    Stopped,
}

impl<A: Actor> Mailbox<A> {
    /// Pairs an address with a deadline.
    #[must_use]
    pub fn new(address: Addr<A>, deadline: Duration) -> Self {
        Self { address, deadline }
    }

    /// Tells whether the actor is there to answer.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.address.connected()
    }

    /// Asks the actor and waits for its answer.
    ///
    /// # Errors
    /// The failure that the actor answered with, or [`Unanswered`] turned into one.
    pub async fn ask<M, T, E>(&self, message: M) -> Result<T, E>
    where
        M: Message<Result = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<Unanswered> + Send + 'static,
        A: Handler<M>,
        A::Context: ToEnvelope<A, M>,
    {
        // The deadline is around the whole of it: one set on the request itself would not run
        // while the mailbox is full.
        #[expect(clippy::disallowed_methods, reason = "this is the one place that sends")]
        match timeout(self.deadline, self.address.send(message)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Unanswered::Stopped.into()),
            Err(_) => Err(Unanswered::Late(self.deadline).into()),
        }
    }
}

impl<A: Actor> Clone for Mailbox<A> {
    fn clone(&self) -> Self {
        Self { address: self.address.clone(), deadline: self.deadline }
    }
}

/// An answer that is worked on only as long as somebody waits for it: when the client is gone or
/// the deadline has passed, the work is dropped, down to the hash that has not begun.
pub struct WhileAwaited<T>(Pin<Box<dyn Future<Output = T>>>);

impl<T> WhileAwaited<T> {
    fn new(work: impl Future<Output = T> + 'static) -> Self {
        Self(Box::pin(work))
    }
}

impl<A, M> MessageResponse<A, M> for WhileAwaited<M::Result>
where
    A: Actor,
    M: Message,
{
    fn handle(self, _: &mut A::Context, asker: Option<OneshotSender<M::Result>>) {
        actix::spawn(async move {
            let Some(mut asker) = asker else { return };
            let answer = select! {
                answer = self.0 => answer,
                () = asker.closed() => return,
            };
            // The asker may leave at the very last moment: then nobody misses the answer.
            let _ = asker.send(answer);
        });
    }
}
