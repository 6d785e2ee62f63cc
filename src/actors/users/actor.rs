//! [`UserActor`]: its fields.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context};

use super::details_cache::DetailsCache;
use super::refusals::Refusals;
use super::throttle::Throttle;
use crate::actors::hash_times::HashTimes;
use crate::actors::limiter::{Limiter, REPORTS, RESETS, UNLIMITED};
use crate::actors::mailbox::accept_deliveries;
use crate::actors::network_pace::NetworkPace;
use crate::actors::{HashQueue, RevocationWriter};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::{HashCost, Network, UserId};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::tokens::CounterIds;

/// Actor that owns the accounts. Its handlers return futures, so a slow query delays only its own
/// caller; the database arbitrates between simultaneous messages.
#[derive(Clone)]
pub struct UserActor {
    pub(super) store: Arc<dyn Store>,
    pub(super) hashing: HashQueue,
    pub(super) hash_times: Rc<RefCell<HashTimes>>,
    /// Interval at which the costs of the hashes are read.
    pub(super) hash_costs_interval: Duration,
    /// Maximum duration of a query that no caller can cancel.
    pub(super) timeout: Duration,
    pub(super) revocations: Arc<RevocationWriter>,
    pub(super) throttle: Throttle,
    pub(super) refusals: Refusals,
    /// Limit of the changes of the own password, each of which is an audit record.
    pub(super) password_changes: Rc<RefCell<Limiter<UserId>>>,
    /// Limit of the names that fail to log in from each network.
    pub(super) network_pace: Rc<RefCell<NetworkPace>>,
    /// Limit of the registrations from each network.
    pub(super) registrations: Rc<RefCell<Limiter<Network>>>,
    /// Limit of the resets of passwords that one network tries.
    pub(super) resets: Rc<RefCell<Limiter<Network>>>,
    pub(super) details: DetailsCache,
    pub(super) clock: Arc<dyn Clock>,
}

impl UserActor {
    /// Creates the actor, and starts the hashing threads. `ids` names the failure counters.
    #[must_use]
    pub fn new(
        config: &Config,
        store: Arc<dyn Store>,
        ids: CounterIds,
        revocations: Arc<RevocationWriter>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let Config { hashing, throttle, networks, .. } = config;
        let configured = HashCost::pbkdf2_sha256(hashing.iterations);
        let timeout = config.http.request_timeout;
        let hashing = HashQueue::start(*hashing, timeout, Arc::clone(&clock), Arc::clone(&metrics));
        let throttle = Throttle::new(Arc::clone(&store), ids, *throttle, timeout);
        let refusals = Refusals::new(Arc::clone(&store), Arc::clone(&clock), metrics);
        let now = clock.uptime();
        let registrations = networks.registrations.unwrap_or(UNLIMITED);
        Self {
            store,
            hashing,
            hash_times: Rc::new(RefCell::new(HashTimes::new(configured))),
            hash_costs_interval: config.revocations.sweep_interval,
            timeout,
            revocations,
            throttle,
            refusals,
            password_changes: Rc::new(RefCell::new(Limiter::new(REPORTS, UNLIMITED, now))),
            network_pace: Rc::new(RefCell::new(NetworkPace::new(networks.failed_names))),
            registrations: Rc::new(RefCell::new(Limiter::new(registrations, UNLIMITED, now))),
            resets: Rc::new(RefCell::new(Limiter::new(RESETS, UNLIMITED, now))),
            details: DetailsCache::new(config.revocations.max_staleness),
            clock,
        }
    }

    /// Returns the cache of the details of accounts, which this actor fills.
    #[must_use]
    pub fn details_cache(&self) -> DetailsCache {
        self.details.clone()
    }
}

accept_deliveries!(UserActor);

impl Actor for UserActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.follow_hash_costs(context);
    }
}
