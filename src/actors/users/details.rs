//! Reads the external id and the metadata of an account, for introspection.

use std::sync::Arc;

use actix::{Handler, Message};

use super::UserActor;
use super::details_cache::Details;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::UserId;

/// Finds the details of an account. Replies with those of at most one staleness bound ago, or with
/// `None` if there is no such account.
#[derive(Message)]
#[rtype(result = "Result<Option<Arc<Details>>, ActorError>")]
pub struct FindDetails {
    pub user_id: UserId,
}

impl Handler<FindDetails> for UserActor {
    type Result = CancelOnDrop<Result<Option<Arc<Details>>, ActorError>>;

    fn handle(&mut self, message: FindDetails, _: &mut Self::Context) -> Self::Result {
        let FindDetails { user_id } = message;
        let actor = self.clone();
        CancelOnDrop::new(async move {
            if let Some(details) = actor.details.find(user_id) {
                return Ok(Some(details));
            }
            let Some(user) = actor.store.find_user(user_id).await? else { return Ok(None) };
            let details = Details { external_id: user.external_id, metadata: user.metadata };
            let details = Arc::new(details);
            actor.details.insert(user_id, Arc::clone(&details));
            Ok(Some(details))
        })
    }
}
