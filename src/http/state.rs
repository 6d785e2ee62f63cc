//! [`Api`]: the state that the handlers share.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::connections::Connections;
use super::failures::FailureLog;
use super::readiness::Readiness;
use crate::actors::{Mailbox, SessionActor, UserActor};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::Store;
use crate::tokens::Tokens;

/// State that the handlers share. Each worker thread has its own copy: with a single one, every
/// request would write to the same reference count, which the cores can only do in turn.
#[derive(Clone)]
pub struct Api {
    pub users: Mailbox<UserActor>,
    pub sessions: Mailbox<SessionActor>,
    pub tokens: Arc<Tokens>,
    pub replica: Arc<Replica>,
    /// Read by `/metrics` for the connection gauges. Everything else goes through an actor.
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    /// Maximum time in which a request body has to arrive.
    pub body_timeout: Duration,
    /// Trusted reverse proxies. `X-Forwarded-For` and `Forwarded` are honoured only from these
    /// networks.
    pub trusted_proxies: Vec<IpNet>,
    pub connections: Arc<Connections>,
    pub readiness: Arc<Readiness>,
    pub failures: FailureLog,
}
