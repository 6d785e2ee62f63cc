//! [`SessionActor`]: its fields, start and periodic cleanup.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, WrapFuture};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::cleanup::Cleanup;
use super::exchange::{self, Exchanges};
use super::lookup::{self, Lookups};
use super::reports::Reports;
use crate::actors::mailbox::accept_deliveries;
use crate::actors::{RevocationWriter, SharedState, follower};
use crate::clock::{Clock, DatabaseClock};
use crate::config::{Config, TokenSettings};
use crate::domain::Session;
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// Actor that owns the sessions. Its handlers return futures, so a slow query delays only its own
/// caller. Exchanges of refresh tokens and lookups of revocations are batched.
pub struct SessionActor {
    pub(super) store: Arc<dyn Store>,
    pub(super) revocations: Arc<RevocationWriter>,
    pub(super) exchanges: Exchanges,
    /// Exchanges that wait for a lock of their session.
    waiting_exchanges: Arc<Exchanges>,
    pub(super) lookups: Lookups,
    /// Tasks that follow the revocations of other instances.
    pub(super) followers: Vec<JoinHandle<()>>,
    versions: watch::Receiver<i64>,
    pub(super) tokens: TokenSettings,
    /// Maximum duration of a query that no caller can cancel.
    pub(super) timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) reports: Reports,
    cleanup: Cleanup,
    cleanup_interval: Duration,
}

impl SessionActor {
    /// Loads every live revocation into the replica, and starts following new ones.
    ///
    /// # Errors
    /// Returns a [`StoreError`] if the revocations cannot be read.
    pub async fn load(
        config: &Config,
        store: Arc<dyn Store>,
        state: &SharedState,
        revocations: Arc<RevocationWriter>,
        database_clock: Arc<DatabaseClock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let timeout = config.http.request_timeout;
        let clock: Arc<dyn Clock> = Arc::clone(&database_clock) as _;
        let (followers, versions) =
            follower::start(&*store, state, config.revocations, &database_clock, &metrics).await?;
        let (exchanges, waiting_exchanges) =
            exchange::start(Arc::clone(&store), config.tokens.clone(), timeout, Arc::clone(&clock));
        let lookups = lookup::start(Arc::clone(&store), config.revocations.read_timeout());
        let cleanup = Cleanup {
            store: Arc::clone(&store),
            replica: Arc::clone(&state.replica),
            audit_retention: config.audit_retention,
            deleted_account_retention: config.deleted_account_retention,
            timeout,
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
        };
        let reports = Reports::new(Arc::clone(&store), Arc::clone(&clock), metrics);
        Ok(Self {
            store,
            revocations,
            exchanges,
            waiting_exchanges,
            lookups,
            followers,
            versions,
            tokens: config.tokens.clone(),
            timeout,
            clock,
            reports,
            cleanup,
            cleanup_interval: config.revocations.sweep_interval,
        })
    }

    /// Returns the version of the state that all instances share, as it is followed.
    #[must_use]
    pub fn versions(&self) -> watch::Receiver<i64> {
        self.versions.clone()
    }

    /// Returns a predicate for sessions that are open now.
    pub(super) fn is_open(&self) -> impl Fn(&Session) -> bool + use<> {
        let now = self.clock.now();
        let used_since = self.tokens.used_since(now);
        move |session| session.is_open(now, used_since)
    }

    /// Deletes expired rows, then waits for one interval and starts again.
    fn clean_up_periodically(&mut self, context: &mut Context<Self>) {
        if self.has_lost_a_task() {
            // The liveness probe reports a stopped actor, and a restart repairs it.
            tracing::error!("a task that follows or writes revocations has ended");
            return context.stop();
        }
        let cleanup = self.cleanup.clone().run().into_actor(self);
        context.spawn(cleanup.map(|(), actor, context| {
            context.run_later(actor.cleanup_interval, Self::clean_up_periodically);
        }));
    }

    fn has_lost_a_task(&self) -> bool {
        self.revocations.has_stopped()
            || self.exchanges.has_stopped()
            || self.waiting_exchanges.has_stopped()
            || self.lookups.has_stopped()
            || self.followers.iter().any(JoinHandle::is_finished)
    }
}

accept_deliveries!(SessionActor);

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.clean_up_periodically(context);
    }
}
