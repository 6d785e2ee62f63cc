//! Admits the tokens that clients request: within their rate, and known to the database.

use std::rc::Rc;
use std::sync::Arc;

use actix::{Handler, Message};
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

    fn handle(&mut self, message: AdmitClientToken, _: &mut Self::Context) -> Self::Result {
        let AdmitClientToken { client_id, session_id, expires_at } = message;
        let admitted = self.admission.borrow_mut().admit(client_id, self.writer.clock.uptime());
        if admitted.is_err() || self.admission.borrow().is_known(session_id, expires_at) {
            return CancelOnDrop::new(async { admitted });
        }
        // In steps, so that one write serves many tokens.
        let raised = expires_at + self.writer.token_lifetime;
        let store = Arc::clone(&self.writer.store);
        let timeout = self.writer.timeout;
        let admission = Rc::clone(&self.admission);
        let now = self.writer.clock.now();
        CancelOnDrop::new(async move {
            if !with_deadline(timeout, store.raise_token_expiry(session_id, raised)).await? {
                return Err(ActorError::InvalidCredentials);
            }
            admission.borrow_mut().remember(session_id, raised, now);
            Ok(())
        })
    }
}
