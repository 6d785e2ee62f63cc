//! Exchanges a refresh token for the grant of the next tokens, and detects its theft.

use std::sync::Arc;

use actix::{Handler, Message, ResponseFuture};

use super::exchange::Exchanged;
use super::{SessionActor, TokenGrant};
use crate::actors::{ActorError, RevocationTarget};
use crate::domain::{AuditAction, Generation, RequestOrigin, Requester, SessionId, TokenUse};
use crate::store::PresentedToken;

/// Exchanges a refresh token. Replies with the grant of its successor. A retry gets the same grant
/// again within the reuse grace period, and later the grant of a new successor, unless the former
/// one was exchanged. A replay ends the session. Replies with [`ActorError::SessionNotFound`] to a
/// replay and to a token of an ended session.
#[derive(Message)]
#[rtype(result = "Result<TokenGrant, ActorError>")]
pub struct Refresh {
    pub session_id: SessionId,
    /// Generation that the presented token is valid for.
    pub presented: Generation,
    pub origin: RequestOrigin,
}

impl Handler<Refresh> for SessionActor {
    // Not `CancelOnDrop`: a thief that disconnects at once is detected, too.
    type Result = ResponseFuture<Result<TokenGrant, ActorError>>;

    fn handle(&mut self, message: Refresh, _: &mut Self::Context) -> Self::Result {
        let Refresh { session_id, presented, origin } = message;
        let token = PresentedToken { generation: presented, origin: origin.clone() };
        let exchange = self.exchanges.submit((session_id, token));
        let revocations = Arc::clone(&self.revocations);
        let reports = self.reports.clone();
        Box::pin(async move {
            let exchanged = exchange.await?.ok_or(ActorError::SessionNotFound)?;
            let Exchanged { rotation, at, token_expires_at } = exchanged;
            let user_id = rotation.user.id;
            match rotation.token_use {
                TokenUse::Exchange => {}
                TokenUse::Retry => reports.retry(user_id, session_id, origin),
                TokenUse::Replay => {
                    reports.replay(user_id, session_id, &origin);
                    let target = RevocationTarget::Session(session_id);
                    let action = AuditAction::RefreshTokenReused;
                    let requester = Requester::anonymous(origin);
                    revocations.revoke(target, action, Some(user_id), requester).await?;
                    return Err(ActorError::SessionNotFound);
                }
                TokenUse::Unknown => return Err(ActorError::SessionNotFound),
            }
            Ok(TokenGrant {
                user: rotation.user,
                session_id,
                audience: rotation.audience,
                issued_at: at,
                token_expires_at,
                generation: rotation.generation,
            })
        })
    }
}
