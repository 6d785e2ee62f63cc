//! Lists, rotates and revokes the signing keys.

use std::sync::Arc;

use actix::{Handler, Message, ResponseFuture};

use super::KeyActor;
use crate::actors::ActorError;
use crate::actors::deadline::with_deadline;
use crate::domain::{KeyId, KeySet, Requester};
use crate::keys::KeysError;

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
        let keys = self.keys.clone();
        let timeout = self.timeout;
        Box::pin(async move { with_deadline(timeout, keys.read()).await })
    }
}

impl Handler<RotateKeys> for KeyActor {
    type Result = ResponseFuture<Result<KeySet, ActorError>>;

    fn handle(&mut self, message: RotateKeys, _: &mut Self::Context) -> Self::Result {
        let (keys, at) = (self.keys.clone(), self.clock.now());
        self.apply(async move { keys.rotate(at, message.requester).await })
    }
}

impl Handler<RevokeKeys> for KeyActor {
    type Result = ResponseFuture<Result<KeySet, ActorError>>;

    fn handle(&mut self, message: RevokeKeys, _: &mut Self::Context) -> Self::Result {
        let (keys, at) = (self.keys.clone(), self.clock.now());
        self.apply(async move { keys.revoke(message.id, at, message.requester).await })
    }
}

impl KeyActor {
    /// Carries a change out and signs with its result. Once sent, it is not given up: a revocation
    /// must hold.
    fn apply(
        &self,
        change: impl Future<Output = Result<Option<KeySet>, KeysError>> + 'static,
    ) -> ResponseFuture<Result<KeySet, ActorError>> {
        let tokens = Arc::clone(&self.tokens);
        let keys = self.keys.clone();
        let timeout = self.timeout;
        Box::pin(async move {
            match with_deadline(timeout, change).await? {
                Some(changed) => {
                    tokens.apply(&changed);
                    Ok(changed)
                }
                None => with_deadline(timeout, keys.read()).await,
            }
        })
    }
}
