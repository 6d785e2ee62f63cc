//! Ends a session by its id: `DELETE` of a session, and `POST /oauth/revoke` of a refresh token.

use std::sync::Arc;

use actix::{Handler, Message, ResponseFuture};

use super::SessionActor;
use crate::actors::deadline::with_deadline;
use crate::actors::{ActorError, RevocationTarget};
use crate::domain::{AuditAction, Requester, SessionId, UserId};

/// Ends a session. Replies once the revocation is committed and this instance refuses the tokens of
/// the session, or with [`ActorError::SessionNotFound`] or [`ActorError::NotOwner`].
#[derive(Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct EndSession {
    pub session_id: SessionId,
    /// Account that the session must belong to; `None` accepts every account.
    pub owner: Option<UserId>,
    pub requester: Requester,
}

impl Handler<EndSession> for SessionActor {
    type Result = ResponseFuture<Result<(), ActorError>>;

    fn handle(&mut self, message: EndSession, _: &mut Self::Context) -> Self::Result {
        let EndSession { session_id, owner, requester } = message;
        let store = Arc::clone(&self.store);
        let revocations = Arc::clone(&self.revocations);
        let timeout = self.timeout;
        let is_open = self.is_open();
        Box::pin(async move {
            let found = with_deadline(timeout, store.find_session(session_id)).await?;
            let session = found.filter(is_open).ok_or(ActorError::SessionNotFound)?;
            if owner.is_some_and(|owner| owner != session.user_id) {
                return Err(ActorError::NotOwner);
            }
            let target = RevocationTarget::Session(session_id);
            revocations
                .revoke(target, AuditAction::SessionEnded, Some(session.user_id), requester)
                .await
        })
    }
}
