//! Reads every revocation from the database, for a complete reply to a receiver of the feed when the
//! replica is incomplete.

use actix::{Handler, Message};

use super::SessionActor;
use crate::actors::deadline::with_deadline;
use crate::actors::{ActorError, CancelOnDrop};
use crate::store::FeedBatch;

/// Reads every revocation from the database. Replies with them and the cursor after them.
#[derive(Message)]
#[rtype(result = "Result<FeedBatch, ActorError>")]
pub struct ReadRevocations;

impl Handler<ReadRevocations> for SessionActor {
    type Result = CancelOnDrop<Result<FeedBatch, ActorError>>;

    fn handle(&mut self, _: ReadRevocations, _: &mut Self::Context) -> Self::Result {
        let timeout = self.timeout;
        let mut feed = self.store.feed();
        CancelOnDrop::new(async move { with_deadline(timeout, feed.read(timeout)).await })
    }
}
