//! Requires that a session has not ended, by the database.

use std::sync::Arc;

use actix::{Handler, Message};

use super::SessionActor;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::SessionId;

/// Requires that a session has not ended. Replies with [`ActorError::SessionNotFound`] if it has.
#[derive(Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct RequireOpen {
    pub session_id: SessionId,
}

impl Handler<RequireOpen> for SessionActor {
    type Result = CancelOnDrop<Result<(), ActorError>>;

    fn handle(&mut self, message: RequireOpen, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        CancelOnDrop::new(async move {
            let session = store.find_session(message.session_id).await?;
            session.map(|_| ()).ok_or(ActorError::SessionNotFound)
        })
    }
}
