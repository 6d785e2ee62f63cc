//! Admits the tokens that clients request: within their rate, and known to the database.

use std::sync::Arc;

use actix::{AsyncContext, Handler, Message};
use time::OffsetDateTime;

use super::ClientActor;
use crate::actors::deadline::with_deadline;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::{ClientId, SessionId};

/// Admits a token of a client. Replies once a revocation of the secret would outlive it, with
/// [`ActorError::TooManyTokens`], or with [`ActorError::InvalidCredentials`] if the secret has been
/// removed.
#[derive(Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct AdmitClientToken {
    pub client_id: ClientId,
    /// The `sid` claim of the tokens for the secret.
    pub session_id: SessionId,
    /// Expiry of the token.
    pub expires_at: OffsetDateTime,
}

impl Handler<AdmitClientToken> for ClientActor {
    type Result = CancelOnDrop<Result<(), ActorError>>;

    fn handle(&mut self, message: AdmitClientToken, context: &mut Self::Context) -> Self::Result {
        let AdmitClientToken { client_id, session_id, expires_at } = message;
        let admitted = self.admission.admit(client_id, self.clock.uptime());
        if admitted.is_err() || self.admission.is_known(session_id, expires_at) {
            return CancelOnDrop::new(async { admitted });
        }
        // In steps, so that one write serves many tokens.
        let raised = expires_at + self.token_lifetime;
        let store = Arc::clone(&self.store);
        let timeout = self.timeout;
        let actor = context.address();
        CancelOnDrop::new(async move {
            if !with_deadline(timeout, store.raise_token_expiry(session_id, raised)).await? {
                return Err(ActorError::InvalidCredentials);
            }
            // Fails only while the service stops.
            let _ = actor.try_send(Raised { session_id, raised });
            Ok(())
        })
    }
}

/// Remembers the latest expiry that the database knows.
#[derive(Message)]
#[rtype(result = "()")]
struct Raised {
    session_id: SessionId,
    raised: OffsetDateTime,
}

impl Handler<Raised> for ClientActor {
    type Result = ();

    fn handle(&mut self, message: Raised, _: &mut Self::Context) {
        let Raised { session_id, raised } = message;
        self.admission.remember(session_id, raised, self.clock.now());
    }
}
