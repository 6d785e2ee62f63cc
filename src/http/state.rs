//! [`Api`]: the state that the handlers share.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::connections::Connections;
use super::error::ApiError;
use super::failures::FailureLog;
use super::readiness::Readiness;
use super::revocations::{CompleteReads, FeedLimits};
use crate::actors::{
    ClientActor, DetailsCache, KeyActor, Mailbox, RoleActor, SessionActor, UserActor,
};
use crate::clients::ClientDirectory;
use crate::clock::Clock;
use crate::domain::PasswordPolicy;
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::Store;
use crate::tokens::{IssueError, Tokens};

/// State that the handlers share. Each worker thread has its own copy: with a single one, every
/// request would write to the same reference count, which the cores can only do in turn.
#[derive(Clone)]
pub struct Api {
    pub users: Mailbox<UserActor>,
    pub sessions: Mailbox<SessionActor>,
    pub roles: Mailbox<RoleActor>,
    pub keys: Mailbox<KeyActor>,
    pub clients: Mailbox<ClientActor>,
    /// Cache of the details of accounts.
    pub details: DetailsCache,
    /// The clients in memory.
    pub directory: Arc<ClientDirectory>,
    pub tokens: Arc<Tokens>,
    pub replica: Arc<Replica>,
    /// Read by `/metrics` for the connection gauges. Everything else goes through an actor.
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
    /// URL at which clients reach the service.
    pub public_url: Option<String>,
    /// Whether everyone can register an account.
    pub is_registration_open: bool,
    /// Rules for new passwords.
    pub passwords: PasswordPolicy,
    /// Time for which verifiers may keep the public keys.
    pub jwks_max_age: Duration,
    /// Maximum time in which a request body has to arrive.
    pub body_timeout: Duration,
    /// Trusted reverse proxies. `X-Forwarded-For` and `Forwarded` are honoured only from these
    /// networks.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins of browser applications that may call the API (CORS).
    pub cors_allowed_origins: Vec<String>,
    pub connections: Arc<Connections>,
    pub readiness: Arc<Readiness>,
    pub failures: FailureLog,
    pub complete_reads: Arc<CompleteReads>,
    pub feed_limits: Arc<FeedLimits>,
}

impl Api {
    /// Requires that this instance can issue tokens. A login or an exchange of a refresh token that
    /// is refused later has already changed the session.
    ///
    /// # Errors
    /// Returns [`ApiError::RevocationsStale`] or [`ApiError::Unavailable`].
    pub(super) fn require_signing_key(&self) -> Result<(), ApiError> {
        // A stale instance may not know that its key was revoked.
        self.require_fresh()?;
        if self.tokens.can_issue(self.clock.now()) { Ok(()) } else { Err(IssueError::NoKey.into()) }
    }

    /// Requires that the replica is fresh.
    ///
    /// # Errors
    /// Returns [`ApiError::RevocationsStale`].
    pub(super) fn require_fresh(&self) -> Result<(), ApiError> {
        if self.replica.is_fresh() {
            return Ok(());
        }
        let staleness = self.replica.staleness().unwrap_or_default();
        let cause = format!("the latest read of the revocations began {staleness:?} ago");
        Err(ApiError::RevocationsStale(cause.into()))
    }
}
