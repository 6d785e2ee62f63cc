//! [`ClientActor`]: its fields and start.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context};

use super::admission::Admission;
use super::reader::{self, Reloads};
use crate::actors::SharedState;
use crate::clients::ClientDirectory;
use crate::clock::Clock;
use crate::config::Config;
use crate::revocation::Replica;
use crate::store::Store;

/// Actor that owns the clients. Its handlers return futures, so a slow query delays only its own
/// caller.
pub struct ClientActor {
    pub(super) store: Arc<dyn Store>,
    pub(super) directory: Arc<ClientDirectory>,
    pub(super) replica: Arc<Replica>,
    pub(super) reloads: Reloads,
    pub(super) admission: Rc<RefCell<Admission>>,
    /// Life of an access token.
    pub(super) token_lifetime: Duration,
    /// Maximum duration of a query.
    pub(super) timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
}

impl ClientActor {
    /// Creates the actor from its parts. `clock` is that of the database.
    #[must_use]
    pub fn new(
        config: &Config,
        store: Arc<dyn Store>,
        state: &SharedState,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let read_timeout = config.revocations.read_timeout();
        let reloads = reader::start(Arc::clone(&store), Arc::clone(&state.clients), read_timeout);
        Self {
            store,
            directory: Arc::clone(&state.clients),
            replica: Arc::clone(&state.replica),
            reloads,
            admission: Rc::new(RefCell::new(Admission::new(clock.uptime()))),
            token_lifetime: config.tokens.lifetime,
            timeout: config.http.request_timeout,
            clock,
        }
    }
}

impl Actor for ClientActor {
    type Context = Context<Self>;
}
