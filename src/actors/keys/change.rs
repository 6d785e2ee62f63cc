//! Lists, rotates and revokes the signing keys.

use actix::{Handler, Message, ResponseFuture};

use super::KeyActor;
use crate::actors::ActorError;
use crate::domain::{KeyId, KeySet, Requester};

/// Lists the keys in the order of their publication.
#[derive(Message)]
#[rtype(result = "Result<KeySet, ActorError>")]
pub struct ListKeys;

/// Activates the pending key and publishes a new one. Replies with the keys once they are
/// committed.
#[derive(Message)]
#[rtype(result = "Result<KeySet, ActorError>")]
pub struct RotateKeys {
    pub requester: Requester,
}

/// Revokes a key and every token that it signed. Replies with the keys once the revocation is
/// committed and this instance refuses the tokens.
#[derive(Message)]
#[rtype(result = "Result<KeySet, ActorError>")]
pub struct RevokeKeys {
    /// Key to revoke; `None` for all.
    pub id: Option<KeyId>,
    pub requester: Requester,
}

impl Handler<ListKeys> for KeyActor {
    type Result = ResponseFuture<Result<KeySet, ActorError>>;

    fn handle(&mut self, _: ListKeys, _: &mut Self::Context) -> Self::Result {
        let writer = self.writer.clone();
        Box::pin(async move { writer.read().await })
    }
}

impl Handler<RotateKeys> for KeyActor {
    type Result = ResponseFuture<Result<KeySet, ActorError>>;

    fn handle(&mut self, message: RotateKeys, _: &mut Self::Context) -> Self::Result {
        let writer = self.writer.clone();
        Box::pin(async move { writer.apply_and_read(writer.keys.rotate(message.requester)).await })
    }
}

impl Handler<RevokeKeys> for KeyActor {
    // Not `CancelOnDrop`: a revocation that was sent is carried out, even if the caller leaves.
    type Result = ResponseFuture<Result<KeySet, ActorError>>;

    fn handle(&mut self, message: RevokeKeys, _: &mut Self::Context) -> Self::Result {
        let RevokeKeys { id, requester } = message;
        let writer = self.writer.clone();
        Box::pin(async move { writer.apply_and_read(writer.keys.revoke(id, requester)).await })
    }
}
