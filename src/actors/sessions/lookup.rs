//! Looks up revocations in the database, in batches.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::batcher::{Batcher, Pending};
use crate::actors::deadline::with_deadline;
use crate::domain::RevocationId;
use crate::store::Store;

/// Maximum number of tokens in one lookup: SQLite takes at most 32,766 parameters, and a token has
/// three ids.
const BATCH_LIMIT: usize = 10_000;

/// Queue of tokens, each by its ids. The result is `true` for a revoked token.
pub(super) type Lookups = Batcher<[RevocationId; 3], bool>;

/// Starts the task that looks tokens up. A lookup is given up after `timeout`.
pub(super) fn start(store: Arc<dyn Store>, timeout: Duration) -> Lookups {
    Batcher::start(BATCH_LIMIT, 1, async move |batch| look_up(&*store, timeout, batch).await)
}

async fn look_up(
    store: &dyn Store,
    timeout: Duration,
    mut batch: Vec<Pending<[RevocationId; 3], bool>>,
) {
    batch.retain(|pending| !pending.is_cancelled());
    if batch.is_empty() {
        return;
    }
    let ids: Vec<_> = batch.iter().flat_map(|pending| pending.item).collect();
    let revoked = with_deadline(timeout, store.find_revoked(&ids)).await;
    for pending in batch {
        let result = match &revoked {
            Ok(revoked) => Ok(pending.item.iter().any(|id| revoked.contains(id))),
            Err(error) => Err(error.clone()),
        };
        pending.complete(result);
    }
}
