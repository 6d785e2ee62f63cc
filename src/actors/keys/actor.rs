//! [`KeyActor`]: its fields and start.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::maintain::Maintenance;
use super::reader::{self, Reloads};
use super::writer::KeyWriter;
use crate::actors::SharedState;
use crate::actors::mailbox::accept_deliveries;
use crate::clock::Clock;
use crate::config::Config;
use crate::keys::Keys;

/// Interval of the maintenance of the keys. It reads memory alone unless there is something to do.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);

/// Actor that owns the signing keys. Its handlers return futures, so a slow query delays only its
/// own caller; the database arbitrates between instances.
pub struct KeyActor {
    pub(super) writer: KeyWriter,
    pub(super) reloads: Reloads,
    maintenance: Maintenance,
}

impl KeyActor {
    /// Creates the actor from its parts. `clock` is that of the database.
    #[must_use]
    pub fn new(config: &Config, keys: Keys, state: &SharedState, clock: Arc<dyn Clock>) -> Self {
        let tokens = Arc::clone(&state.tokens);
        let replica = Arc::clone(&state.replica);
        let timeout = config.http.request_timeout;
        let read_timeout = config.revocations.read_timeout();
        let reloads = reader::start(keys.clone(), Arc::clone(&tokens), read_timeout);
        let writer = KeyWriter { keys, tokens, replica, timeout, clock };
        let rotation_interval = config.keys.rotation_interval;
        let maintenance = Maintenance { writer: writer.clone(), rotation_interval };
        Self { writer, reloads, maintenance }
    }

    /// Maintains the keys, then waits for one interval and starts again.
    fn maintain_periodically(&mut self, context: &mut Context<Self>) {
        if self.reloads.has_stopped() {
            // The liveness probe reports a stopped actor, and a restart repairs it.
            tracing::error!("the task that reads the signing keys has ended");
            return context.stop();
        }
        let maintenance = self.maintenance.clone().run().into_actor(self);
        context.spawn(maintenance.map(|(), _, context| {
            context.run_later(MAINTENANCE_INTERVAL, Self::maintain_periodically);
        }));
    }
}

accept_deliveries!(KeyActor);

impl Actor for KeyActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if self.writer.are_used() {
            self.maintain_periodically(context);
        }
    }
}
