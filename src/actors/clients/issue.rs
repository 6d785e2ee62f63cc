//! Admits the tokens that clients request: within their rate, and known to the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Handler, Message};
use time::OffsetDateTime;

use super::ClientActor;
use crate::actors::deadline::with_deadline;
use crate::actors::limiter::{Limiter, Rate, UNLIMITED};
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::{ClientId, SessionId};

/// Rate of the tokens of one client, on each instance. A fleet that starts gets its tokens at once.
const RATE: Rate = Rate { burst: 1_000, interval: Duration::from_millis(100) };

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

/// State of the admission.
pub(super) struct Admission {
    limiter: Limiter<ClientId>,
    /// Latest expiry that the database knows, for the secrets of which this instance raised it.
    raised: HashMap<SessionId, OffsetDateTime>,
}

impl Admission {
    pub(super) fn new(now: Duration) -> Self {
        Self { limiter: Limiter::new(RATE, UNLIMITED, now), raised: HashMap::new() }
    }
}

impl Handler<AdmitClientToken> for ClientActor {
    type Result = CancelOnDrop<Result<(), ActorError>>;

    fn handle(&mut self, message: AdmitClientToken, context: &mut Self::Context) -> Self::Result {
        let AdmitClientToken { client_id, session_id, expires_at } = message;
        if self.admission.limiter.admit(client_id, self.clock.uptime()).is_none() {
            let retry_after = RATE.interval;
            return CancelOnDrop::new(
                async move { Err(ActorError::TooManyTokens { retry_after }) },
            );
        }
        let known = self.admission.raised.get(&session_id);
        if known.is_some_and(|known| *known >= expires_at) {
            return CancelOnDrop::new(async { Ok(()) });
        }
        // In steps, so that one write serves many tokens.
        let raised = expires_at + self.token_lifetime;
        let store = Arc::clone(&self.store);
        let timeout = self.timeout;
        let actor = actix::AsyncContext::address(context);
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
        let now = self.clock.now();
        self.admission.raised.retain(|_, expiry| *expiry > now);
        self.admission.raised.insert(message.session_id, message.raised);
    }
}
