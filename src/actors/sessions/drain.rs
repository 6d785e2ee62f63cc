//! Ends the work of the actor at shutdown.

use std::mem;

use actix::{Handler, Message, ResponseFuture};

use super::SessionActor;
use crate::actors::ActorError;

/// Ends the work of the actor. Replies once every revocation submitted before is settled and other
/// instances are no longer followed.
#[derive(Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct Drain;

impl Handler<Drain> for SessionActor {
    type Result = ResponseFuture<Result<(), ActorError>>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let flushed = self.revocations.flush();
        let followers = mem::take(&mut self.followers);
        Box::pin(async move {
            let outcome = flushed.await;
            for task in followers {
                task.abort();
                // Its connections are closed when the task has ended, not before.
                let _ = task.await;
            }
            outcome
        })
    }
}
