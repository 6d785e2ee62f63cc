//! Logs a user in: checks the username and the password.

use actix::{Handler, Message};
use tokio::time::sleep;

use super::UserActor;
use crate::actors::hash_queue::REFUSAL_DELAY;
use crate::actors::{ActorError, CancelOnDrop, Share};
use crate::domain::{Password, RequestOrigin, Requester, User, Username};

/// Checks a username and a password. Replies with the account, with
/// [`ActorError::InvalidCredentials`] after the time of one hash, or with
/// [`ActorError::TooManyAttempts`].
#[derive(Message)]
#[rtype(result = "Result<User, ActorError>")]
pub struct Login {
    /// Parsed credentials; `None` for malformed ones, which are refused like wrong ones.
    pub credentials: Option<(Username, Password)>,
    pub origin: RequestOrigin,
}

impl Handler<Login> for UserActor {
    type Result = CancelOnDrop<Result<User, ActorError>>;

    fn handle(&mut self, message: Login, _: &mut Self::Context) -> Self::Result {
        let Login { credentials, origin } = message;
        let actor = self.clone();
        CancelOnDrop::new(async move {
            let requester = Requester::anonymous(origin);
            let Some((name, _)) = &credentials else {
                return actor.authenticate(None, &requester).await;
            };
            let (share, name) = (Share::from(&requester), name.clone());
            if let Err(error) = actor.require_pace(share, &name) {
                actor.refusals.report(None, &requester);
                sleep(REFUSAL_DELAY).await;
                return Err(error);
            }
            let checked = actor.authenticate(credentials, &requester).await;
            if let Err(ActorError::InvalidCredentials) = checked {
                let now = actor.clock.uptime();
                actor.network_pace.borrow_mut().record_failure(share, &name, now);
            }
            checked
        })
    }
}

impl UserActor {
    /// Checks the pace of the network.
    ///
    /// # Errors
    /// Returns [`ActorError::TooManyAttempts`].
    pub(super) fn require_pace(&self, share: Share, name: &Username) -> Result<(), ActorError> {
        self.network_pace.borrow_mut().admit(share, name, self.clock.uptime())
    }
}
