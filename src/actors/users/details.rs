//! Reads the external id and the metadata of an account, for introspection.

use std::sync::Arc;
use std::time::Duration;

use actix::{Handler, Message};
use moka::sync::Cache;

use super::UserActor;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::{ExternalId, Metadata, UserId};

/// Maximum number of accounts in the cache, each of at most 5 KiB.
const CAPACITY: u64 = 10_000;

/// Details of an account for the APIs behind the service.
#[derive(Clone, Debug)]
pub struct Details {
    pub external_id: Option<ExternalId>,
    pub metadata: Metadata,
}

/// Finds the details of an account. Replies with those of at most one staleness bound ago, or with
/// `None` if there is no such account.
#[derive(Message)]
#[rtype(result = "Result<Option<Arc<Details>>, ActorError>")]
pub struct FindDetails {
    pub user_id: UserId,
}

/// Details of the accounts whose tokens were introspected last: an API introspects each token many
/// times.
#[derive(Clone)]
pub(super) struct DetailsCache(Cache<UserId, Arc<Details>>);

impl DetailsCache {
    /// Creates a cache whose entries expire after `max_age`.
    pub(super) fn new(max_age: Duration) -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).time_to_live(max_age).build())
    }

    /// Forgets an account that has changed.
    pub(super) fn forget(&self, user_id: UserId) {
        self.0.invalidate(&user_id);
    }
}

impl Handler<FindDetails> for UserActor {
    type Result = CancelOnDrop<Result<Option<Arc<Details>>, ActorError>>;

    fn handle(&mut self, message: FindDetails, _: &mut Self::Context) -> Self::Result {
        let FindDetails { user_id } = message;
        let actor = self.clone();
        CancelOnDrop::new(async move {
            let DetailsCache(cache) = &actor.details;
            if let Some(details) = cache.get(&user_id) {
                return Ok(Some(details));
            }
            let Some(user) = actor.store.find_user(user_id).await? else { return Ok(None) };
            let details = Details { external_id: user.external_id, metadata: user.metadata };
            let details = Arc::new(details);
            cache.insert(user_id, Arc::clone(&details));
            Ok(Some(details))
        })
    }
}
