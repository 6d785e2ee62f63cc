//! Revokes a single token of a client: `POST /oauth/revoke`.

use std::sync::Arc;

use actix::{Handler, Message, ResponseFuture};
use time::OffsetDateTime;

use super::ClientActor;
use crate::actors::deadline::with_deadline;
use crate::actors::{ActorError, RevocationTarget};
use crate::domain::{
    AuditAction, ClientEdit, ClientId, REVOCATIONS_PER_SESSION, Requester, SessionId, TokenId,
};

/// Revokes a single token of a client or, once too many of its secret were revoked, all that were
/// issued for the secret: a client gets new ones without limit, and each revocation takes memory on
/// every instance. Replies once the revocation is committed and this instance refuses the token.
#[derive(Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct RevokeClientToken {
    pub client_id: ClientId,
    pub token_id: TokenId,
    /// `exp` of the token.
    pub expires_at: OffsetDateTime,
    /// The `sid` claim of the tokens for the secret.
    pub session_id: SessionId,
    pub requester: Requester,
}

impl Handler<RevokeClientToken> for ClientActor {
    type Result = ResponseFuture<Result<(), ActorError>>;

    fn handle(&mut self, message: RevokeClientToken, _: &mut Self::Context) -> Self::Result {
        let RevokeClientToken { client_id, token_id, expires_at, session_id, requester } = message;
        let writer = self.writer.clone();
        let revocations = Arc::clone(&self.revocations);
        Box::pin(async move {
            let count = writer.store.count_token_revocation(session_id);
            let count = with_deadline(writer.timeout, count).await?;
            if count.is_some_and(|count| count > REVOCATIONS_PER_SESSION) {
                let edit = ClientEdit::EndTokens(session_id);
                return writer.change(client_id, edit, requester).await.map(|_| ());
            }
            let target = RevocationTarget::Token(token_id, expires_at);
            revocations.revoke(target, AuditAction::TokenRevoked, None, requester).await
        })
    }
}
