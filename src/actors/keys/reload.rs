//! Reads the signing keys for a token whose key is unknown.

use actix::{Handler, Message};

use super::KeyActor;
use crate::actors::{ActorError, CancelOnDrop};

/// Reads the signing keys. Replies once this instance has every key that was committed before.
#[derive(Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct ReloadKeys;

impl Handler<ReloadKeys> for KeyActor {
    type Result = CancelOnDrop<Result<(), ActorError>>;

    fn handle(&mut self, _: ReloadKeys, _: &mut Self::Context) -> Self::Result {
        CancelOnDrop::new(self.reloads.submit(()))
    }
}
