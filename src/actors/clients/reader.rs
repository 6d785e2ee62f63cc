//! Reads the clients for many callers.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::batcher::{Batcher, Pending};
use crate::actors::deadline::with_deadline;
use crate::clients::ClientDirectory;
use crate::store::Store;

/// Maximum number of callers that one read answers.
const BATCH_LIMIT: usize = 10_000;

/// Queue of callers that wait for a read.
pub(super) type Reloads = Batcher<(), ()>;

/// Starts the task that reads, one batch of callers at a time. A read is given up after `timeout`.
pub(super) fn start(
    store: Arc<dyn Store>,
    directory: Arc<ClientDirectory>,
    timeout: Duration,
) -> Reloads {
    Batcher::start(BATCH_LIMIT, 1, async move |batch: Vec<Pending<(), ()>>| {
        let former = Arc::clone(&directory.load());
        let read = with_deadline(timeout, store.read_clients()).await;
        if let Ok(clients) = &read {
            directory.replace(&former, clients);
        }
        for pending in batch {
            pending.complete(read.as_ref().map(|_| ()).map_err(Clone::clone));
        }
    })
}
