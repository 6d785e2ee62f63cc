//! Reads the clients where memory may be outdated.

use actix::{Handler, Message};

use super::ClientActor;
use crate::actors::{ActorError, CancelOnDrop};

/// Reads the clients. Replies once this instance has every change that was committed before.
#[derive(Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct ReloadClients;

impl Handler<ReloadClients> for ClientActor {
    type Result = CancelOnDrop<Result<(), ActorError>>;

    fn handle(&mut self, _: ReloadClients, _: &mut Self::Context) -> Self::Result {
        CancelOnDrop::new(self.reloads.submit(()))
    }
}
