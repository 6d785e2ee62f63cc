//! Exchanges a refresh token for the grant of the next tokens, and detects its theft.

use std::sync::Arc;

use actix::{Handler, Message, ResponseFuture};
use time::OffsetDateTime;
use tracing::{Instrument, Span};

use super::SessionActor;
use crate::actors::{ActorError, RevocationTarget};
use crate::domain::{AuditAction, Generation, RequestOrigin, Requester, SessionId, TokenUse, User};
use crate::store::Rotation;

/// Exchanges a refresh token. Replies with the grant of its successor; a retry within the reuse grace
/// period gets the same grant again. A replay ends the session. Replies with
/// [`ActorError::SessionNotFound`] to a replay and to a token of an ended session.
#[derive(Message)]
#[rtype(result = "Result<TokenGrant, ActorError>")]
pub struct Refresh {
    pub session_id: SessionId,
    /// Generation that the presented token is valid for.
    pub presented: Generation,
    pub origin: RequestOrigin,
    /// Span of the request: a replay is logged even if the client has disconnected.
    pub span: Span,
}

/// Grant from which the next pair of tokens is issued.
#[derive(Clone, Debug)]
pub struct TokenGrant {
    /// Current state of the account.
    pub user: User,
    pub session_id: SessionId,
    /// Expiry of the session.
    pub expires_at: OffsetDateTime,
    /// Generation of the refresh token.
    pub generation: Generation,
}

impl Handler<Refresh> for SessionActor {
    // Not `CancelOnDrop`: a thief that disconnects at once is detected, too.
    type Result = ResponseFuture<Result<TokenGrant, ActorError>>;

    fn handle(&mut self, message: Refresh, _: &mut Self::Context) -> Self::Result {
        let Refresh { session_id, presented, origin, span } = message;
        let presented_at = self.clock.uptime();
        let exchange = self.exchanges.submit((session_id, presented));
        let revocations = Arc::clone(&self.revocations);
        let clock = Arc::clone(&self.clock);
        let replays = self.metrics.refresh_tokens_reused.clone();
        let refresh = async move {
            let rotation = exchange.await?.ok_or(ActorError::SessionNotFound)?;
            let Rotation { user, expires_at, generation, age } = rotation;
            // The grace period is for the client: the wait for the batch, about as long as this, does
            // not count.
            let waited = clock.uptime().saturating_sub(presented_at);
            match presented.token_use(generation, age.saturating_sub(waited)) {
                TokenUse::Valid => Ok(TokenGrant { user, session_id, expires_at, generation }),
                TokenUse::Unknown => Err(ActorError::SessionNotFound),
                TokenUse::Replay => {
                    replays.inc();
                    tracing::warn!(
                        user.id = %user.id, session.id = %session_id, client.address = %origin.address,
                        "refresh token replayed; ending its session"
                    );
                    let target = RevocationTarget::Session(session_id);
                    let action = AuditAction::RefreshTokenReused;
                    let requester = Requester::anonymous(origin);
                    revocations.revoke(target, action, user.id, requester).await?;
                    Err(ActorError::SessionNotFound)
                }
            }
        };
        Box::pin(refresh.instrument(span))
    }
}
