//! Details of accounts in memory, for introspection.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use crate::domain::{ExternalId, Metadata, UserId};

/// Maximum number of accounts in the cache, each of at most 5 KiB.
const CAPACITY: u64 = 10_000;

/// Details of an account for the APIs behind the service.
#[derive(Clone, Debug)]
pub struct Details {
    pub external_id: Option<ExternalId>,
    pub metadata: Metadata,
}

/// Details of the accounts whose tokens were introspected last: an API introspects each token many
/// times.
#[derive(Clone)]
pub struct DetailsCache(Cache<UserId, Arc<Details>>);

impl DetailsCache {
    /// Creates a cache whose entries expire after `max_age`.
    pub(super) fn new(max_age: Duration) -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).time_to_live(max_age).build())
    }

    /// Returns the details of an account, at most one staleness bound old.
    #[must_use]
    pub fn find(&self, user_id: UserId) -> Option<Arc<Details>> {
        self.0.get(&user_id)
    }

    pub(super) fn insert(&self, user_id: UserId, details: Arc<Details>) {
        self.0.insert(user_id, details);
    }

    /// Forgets an account that has changed.
    pub(super) fn forget(&self, user_id: UserId) {
        self.0.invalidate(&user_id);
    }
}
