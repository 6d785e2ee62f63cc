//! [`RoleActor`]: its fields and start.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, WrapFuture};
use tokio::sync::{Notify, watch};

use super::ending::Ending;
use crate::actors::mailbox::accept_deliveries;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::Store;

/// Actor that owns the roles. Its handlers return futures, so a slow query delays only its own
/// caller; the database arbitrates between simultaneous changes.
pub struct RoleActor {
    pub(super) store: Arc<dyn Store>,
    /// Notified after a change of a role.
    pub(super) changed: Arc<Notify>,
    /// Maximum duration of a query.
    pub(super) timeout: Duration,
    ending: Ending,
}

impl RoleActor {
    /// Creates the actor from its parts. `versions` changes with the state that all instances
    /// share.
    #[must_use]
    pub fn new(
        config: &Config,
        store: Arc<dyn Store>,
        replica: Arc<Replica>,
        versions: watch::Receiver<i64>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let timeout = config.http.request_timeout;
        let changed = Arc::new(Notify::new());
        let ending = Ending {
            store: Arc::clone(&store),
            replica,
            changed: Arc::clone(&changed),
            versions,
            interval: config.revocations.sweep_interval,
            timeout,
            metrics,
        };
        Self { store, changed, timeout, ending }
    }
}

accept_deliveries!(RoleActor);

impl Actor for RoleActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.spawn(self.ending.clone().run().into_actor(self));
    }
}
