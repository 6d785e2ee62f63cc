//! Reads the external id and the metadata of an account, for introspection.

use std::sync::Arc;

use actix::{Handler, Message};

use super::UserActor;
use super::details_cache::Details;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::UserId;

/// Reads the details of an account from the database, and caches them. Replies with them, or with
/// `None` if there is no such account.
#[derive(Message)]
#[rtype(result = "Result<Option<Arc<Details>>, ActorError>")]
pub struct ReadDetails {
    pub user_id: UserId,
}

impl Handler<ReadDetails> for UserActor {
    type Result = CancelOnDrop<Result<Option<Arc<Details>>, ActorError>>;

    fn handle(&mut self, message: ReadDetails, _: &mut Self::Context) -> Self::Result {
        let ReadDetails { user_id } = message;
        let actor = self.clone();
        CancelOnDrop::new(async move {
            let Some(user) = actor.store.find_user(user_id).await? else { return Ok(None) };
            let details = Details { external_id: user.external_id, metadata: user.metadata };
            let details = Arc::new(details);
            actor.details.insert(user_id, Arc::clone(&details));
            Ok(Some(details))
        })
    }
}
