//! Asks the database whether a token is revoked: the fallback of the replica.

use actix::{Handler, Message};

use super::SessionActor;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::RevocationId;

/// Asks the database whether a token is revoked. Replies with `true` if any of the ids is.
#[derive(Message)]
#[rtype(result = "Result<bool, ActorError>")]
pub struct IsRevoked {
    /// Ids of the token, of its session and of its key.
    pub ids: [RevocationId; 3],
}

impl Handler<IsRevoked> for SessionActor {
    type Result = CancelOnDrop<Result<bool, ActorError>>;

    fn handle(&mut self, message: IsRevoked, _: &mut Self::Context) -> Self::Result {
        CancelOnDrop::new(self.lookups.submit(message.ids))
    }
}
