//! Logs a user in: checks the username and the password.

use actix::{Handler, Message};

use super::UserActor;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::{Password, RequestOrigin, Requester, User, Username};

/// Checks a username and a password. Replies with the account, or with
/// [`ActorError::InvalidCredentials`] after the time of one hash.
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
            actor.authenticate(credentials, &Requester::anonymous(origin)).await
        })
    }
}
