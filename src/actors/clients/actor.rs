//! [`ClientActor`]: its fields and start.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Context};

use super::admission::Admission;
use super::reader::{self, Reloads};
use super::writer::ClientWriter;
use crate::actors::mailbox::accept_deliveries;
use crate::actors::{RevocationWriter, SharedState};
use crate::clock::Clock;
use crate::config::Config;
use crate::store::Store;

/// Actor that owns the clients. Its handlers return futures, so a slow query delays only its own
/// caller.
pub struct ClientActor {
    pub(super) writer: ClientWriter,
    pub(super) revocations: Arc<RevocationWriter>,
    pub(super) reloads: Reloads,
    pub(super) admission: Rc<RefCell<Admission>>,
}

impl ClientActor {
    /// Creates the actor from its parts. `clock` is that of the database.
    #[must_use]
    pub fn new(
        config: &Config,
        store: Arc<dyn Store>,
        state: &SharedState,
        revocations: Arc<RevocationWriter>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let read_timeout = config.revocations.read_timeout();
        let admission = Rc::new(RefCell::new(Admission::new(clock.uptime())));
        Self {
            reloads: reader::start(Arc::clone(&store), Arc::clone(&state.clients), read_timeout),
            writer: ClientWriter {
                store,
                state: state.clone(),
                token_lifetime: config.tokens.lifetime,
                timeout: config.http.request_timeout,
                clock,
            },
            revocations,
            admission,
        }
    }
}

accept_deliveries!(ClientActor);

impl Actor for ClientActor {
    type Context = Context<Self>;
}
