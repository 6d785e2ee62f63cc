//! Revokes the session or the single token of an access token: `POST /auth/logout` and
//! `POST /oauth/revoke`.

use std::sync::Arc;

use actix::{Handler, Message, ResponseFuture};
use time::OffsetDateTime;

use super::SessionActor;
use crate::actors::deadline::with_deadline;
use crate::actors::{ActorError, RevocationTarget};
use crate::domain::{AuditAction, REVOCATIONS_PER_SESSION, Requester, SessionId, TokenId, UserId};

/// Ends the session of a verified access token. Replies once the revocation is committed and this
/// instance refuses the tokens of the session. After an error the outcome is open: the revocation
/// may still be committed, and the client should try again.
#[derive(Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct LogOut {
    pub session_id: SessionId,
    /// Account of the session, about which the audit record is.
    pub user_id: UserId,
    pub requester: Requester,
}

impl Handler<LogOut> for SessionActor {
    // Not `CancelOnDrop`: a logout holds even if its client disconnects.
    type Result = ResponseFuture<Result<(), ActorError>>;

    fn handle(&mut self, message: LogOut, _: &mut Self::Context) -> Self::Result {
        let LogOut { session_id, user_id, requester } = message;
        let target = RevocationTarget::Session(session_id);
        Box::pin(self.revocations.revoke(
            target,
            AuditAction::SessionEnded,
            Some(user_id),
            requester,
        ))
    }
}

/// Revokes a single verified access token, or its session once too many of its tokens are revoked.
/// Replies like [`LogOut`].
#[derive(Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct RevokeToken {
    pub token_id: TokenId,
    /// `exp` of the token.
    pub expires_at: OffsetDateTime,
    pub session_id: SessionId,
    /// Account of the token, about which the audit record is.
    pub user_id: UserId,
    pub requester: Requester,
}

impl Handler<RevokeToken> for SessionActor {
    type Result = ResponseFuture<Result<(), ActorError>>;

    fn handle(&mut self, message: RevokeToken, _: &mut Self::Context) -> Self::Result {
        let RevokeToken { token_id, expires_at, session_id, user_id, requester } = message;
        let store = Arc::clone(&self.store);
        let revocations = Arc::clone(&self.revocations);
        let timeout = self.timeout;
        Box::pin(async move {
            let count = with_deadline(timeout, store.count_token_revocation(session_id)).await?;
            let (target, action) = if count.is_some_and(|count| count > REVOCATIONS_PER_SESSION) {
                (RevocationTarget::Session(session_id), AuditAction::SessionEnded)
            } else {
                (RevocationTarget::Token(token_id, expires_at), AuditAction::TokenRevoked)
            };
            revocations.revoke(target, action, Some(user_id), requester).await
        })
    }
}
