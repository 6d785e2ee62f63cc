//! Lists the open sessions of a user.

use std::sync::Arc;

use actix::{Handler, Message};

use super::SessionActor;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::Session;
use crate::store::SessionQuery;

/// Lists the open sessions of a user. Replies with one page, most recently used first.
#[derive(Message)]
#[rtype(result = "Result<Vec<Session>, ActorError>")]
pub struct ListSessions {
    pub query: SessionQuery,
}

impl Handler<ListSessions> for SessionActor {
    type Result = CancelOnDrop<Result<Vec<Session>, ActorError>>;

    fn handle(&mut self, message: ListSessions, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        let is_open = self.is_open();
        let now = self.clock.now();
        CancelOnDrop::new(async move {
            let mut sessions = store.list_sessions(&message.query, now).await?;
            sessions.retain(is_open);
            Ok(sessions)
        })
    }
}
