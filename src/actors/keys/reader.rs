//! Reads the signing keys for many callers, at most once a second.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::actors::batcher::{Batcher, Pending};
use crate::actors::deadline::with_deadline;
use crate::keys::Keys;
use crate::tokens::Tokens;

/// Least time between two reads: tokens with invented keys cost the database no more.
const INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of callers that one read answers.
const BATCH_LIMIT: usize = 10_000;

/// Queue of callers that wait for a read.
pub(super) type Reloads = Batcher<(), ()>;

/// Starts the task that reads. A read is given up after `timeout`.
pub(super) fn start(keys: Keys, tokens: Arc<Tokens>, timeout: Duration) -> Reloads {
    Batcher::start(BATCH_LIMIT, 1, async move |mut batch: Vec<Pending<(), ()>>| {
        batch.retain(|pending| !pending.is_cancelled());
        if batch.is_empty() {
            return;
        }
        let next = Instant::now() + INTERVAL;
        let former = Arc::clone(&tokens.ring());
        let read = with_deadline(timeout, keys.read()).await;
        if let Ok(keys) = &read {
            tokens.replace(&former, keys);
        }
        for pending in batch {
            pending.complete(read.as_ref().map(|_| ()).map_err(Clone::clone));
        }
        sleep_until(next).await;
    })
}
