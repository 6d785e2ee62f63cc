//! [`KeyActor`]: its fields and start.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::maintain::Maintenance;
use super::reader::{self, Reloads};
use crate::clock::Clock;
use crate::config::Config;
use crate::keys::Keys;
use crate::tokens::Tokens;

/// Interval of the maintenance of the keys. It reads memory alone unless there is something to do.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);

/// Actor that owns the signing keys. Its handlers return futures, so a slow query delays only its
/// own caller; the database arbitrates between instances.
pub struct KeyActor {
    pub(super) keys: Keys,
    pub(super) tokens: Arc<Tokens>,
    pub(super) reloads: Reloads,
    /// Maximum duration of a query.
    pub(super) timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
    maintenance: Maintenance,
}

impl KeyActor {
    /// Creates the actor from its parts.
    #[must_use]
    pub fn new(config: &Config, keys: Keys, tokens: Arc<Tokens>, clock: Arc<dyn Clock>) -> Self {
        let timeout = config.http.request_timeout;
        let maintenance = Maintenance {
            keys: keys.clone(),
            tokens: Arc::clone(&tokens),
            rotation_interval: config.keys.rotation_interval,
            publication: config.key_periods().publication,
            token_lifetime: config.tokens.lifetime,
            timeout,
            clock: Arc::clone(&clock),
        };
        let reloads =
            reader::start(keys.clone(), Arc::clone(&tokens), config.revocations.read_timeout());
        Self { keys, tokens, reloads, timeout, clock, maintenance }
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

impl Actor for KeyActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if self.tokens.ring().is_stored() {
            self.maintain_periodically(context);
        }
    }
}
