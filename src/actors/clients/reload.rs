//! Reads the clients where memory may be outdated.

use std::sync::Arc;
use std::time::Duration;

use actix::{Handler, Message};

use super::ClientActor;
use crate::actors::batcher::{Batcher, Pending};
use crate::actors::deadline::with_deadline;
use crate::actors::{ActorError, CancelOnDrop};
use crate::clients::ClientDirectory;
use crate::store::Store;

/// Maximum number of callers that one read answers.
const BATCH_LIMIT: usize = 10_000;

/// Queue of callers that wait for a read.
pub(super) type Reloads = Batcher<(), ()>;

/// Reads the clients. Replies once this instance has every change that was committed before.
#[derive(Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct ReloadClients;

impl Handler<ReloadClients> for ClientActor {
    type Result = CancelOnDrop<Result<(), ActorError>>;

    fn handle(&mut self, _: ReloadClients, _: &mut Self::Context) -> Self::Result {
        CancelOnDrop::new(self.reloads.submit(()))
    }
}

/// Starts the task that reads, one batch of callers at a time. A read is given up after `timeout`.
pub(super) fn start(
    store: Arc<dyn Store>,
    directory: Arc<ClientDirectory>,
    timeout: Duration,
) -> Reloads {
    Batcher::start(BATCH_LIMIT, async move |batch: Vec<Pending<(), ()>>| {
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
