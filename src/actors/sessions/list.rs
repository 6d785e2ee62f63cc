//! Lists the open sessions of a user.

use std::sync::Arc;

use actix::{Handler, Message};

use super::SessionActor;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::{Session, SessionPosition};
use crate::store::SessionQuery;

/// Lists the open sessions of a user. Replies with one page, most recently used first.
#[derive(Message)]
#[rtype(result = "Result<SessionPage, ActorError>")]
pub struct ListSessions {
    pub query: SessionQuery,
}

/// Page of the list of sessions.
#[derive(Debug)]
pub struct SessionPage {
    pub sessions: Vec<Session>,
    /// Position after which the next page begins; `None` on the last page.
    pub next: Option<SessionPosition>,
}

impl Handler<ListSessions> for SessionActor {
    type Result = CancelOnDrop<Result<SessionPage, ActorError>>;

    fn handle(&mut self, message: ListSessions, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        let is_open = self.is_open();
        let now = self.clock.now();
        CancelOnDrop::new(async move {
            let query = message.query;
            let mut sessions = store.list_sessions(&query, now).await?;
            let is_full = sessions.len() >= query.limit as usize;
            // Before the idle sessions are removed: open ones may follow.
            let next = sessions.last().filter(|_| is_full).map(SessionPosition::from);
            sessions.retain(is_open);
            Ok(SessionPage { sessions, next })
        })
    }
}
