//! Revokes a session or a token that the requester has shown: the logout.

use actix::{Handler, Message, ResponseFuture};

use super::SessionActor;
use crate::actors::{ActorError, RevocationTarget};
use crate::domain::{AuditAction, Requester, UserId};

/// Revokes the session or the single token of a verified access token. Replies once the revocation is
/// committed and this instance refuses what was revoked.
#[derive(Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct Revoke {
    pub target: RevocationTarget,
    /// Account of the session or token.
    pub user_id: UserId,
    pub requester: Requester,
}

impl Handler<Revoke> for SessionActor {
    type Result = ResponseFuture<Result<(), ActorError>>;

    fn handle(&mut self, message: Revoke, _: &mut Self::Context) -> Self::Result {
        let Revoke { target, user_id, requester } = message;
        let action = match target {
            RevocationTarget::Session(_) => AuditAction::SessionEnded,
            RevocationTarget::Token(_) => AuditAction::TokenRevoked,
        };
        Box::pin(self.revocations.revoke(target, action, user_id, requester))
    }
}
