//! Counts the attempts to prove a password, before they are hashed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::actors::deadline::with_deadline;
use crate::actors::{ActorError, AskError};
use crate::config::ThrottleSettings;
use crate::domain::{
    AttemptResult, CounterId, Device, Network, Requester, SessionId, User, UserId, Username,
};
use crate::store::{Attempt, Reservation, Store};
use crate::telemetry::ErrorChain;
use crate::tokens::CounterIds;

/// Failure counters of accounts, usernames without one, known devices, known networks and sessions.
#[derive(Clone)]
pub(super) struct Throttle {
    store: Arc<dyn Store>,
    ids: Arc<CounterIds>,
    pub(super) settings: ThrottleSettings,
    /// Maximum duration of a statement.
    timeout: Duration,
}

/// Attempt that is counted and has no result yet. Dropping it withdraws it: a requester that leaves
/// learns nothing.
pub(super) struct ReservedAttempt {
    /// Whether a login from this network has succeeded before.
    pub(super) is_known_network: bool,
    result: oneshot::Sender<AttemptResult>,
    settled: JoinHandle<Result<u32, ActorError>>,
}

impl Throttle {
    /// Creates the throttle from its parts. A statement is given up after `timeout`.
    pub(super) fn new(
        store: Arc<dyn Store>,
        ids: CounterIds,
        settings: ThrottleSettings,
        timeout: Duration,
    ) -> Self {
        Self { store, ids: Arc::new(ids), settings, timeout }
    }

    /// Counts a login, or returns `None` if the results of those in flight decide about it. `user` is
    /// the account of the username, and `device` is known to it. A username without an account gets
    /// the same answers.
    ///
    /// # Errors
    /// Returns [`ActorError::TooManyAttempts`] or [`ActorError::Store`].
    pub(super) async fn reserve_login(
        &self,
        username: &Username,
        user: Option<&User>,
        device: Option<Device>,
        requester: &Requester,
    ) -> Result<Option<ReservedAttempt>, ActorError> {
        // The statement for an unknown username takes as long as that for a known one.
        let account = user.map_or(UserId::SERVICE, |user| user.id);
        let network = requester.origin.as_ref().map(Network::from);
        let attempt = Attempt {
            counter: match (device, user) {
                (Some(device), _) => self.ids.device(device),
                (None, Some(user)) => self.ids.account(user.id),
                (None, None) => self.ids.username(username),
            },
            network: network.map(|network| self.ids.network(account, network)),
            prefers_network: device.is_none(),
            user_id: user.map(|user| user.id),
            limits: self.settings.login,
        };
        self.reserve(attempt).await
    }

    /// Counts an attempt to prove the password again in a session. Those at the same moment are
    /// refused: one client does not need them.
    ///
    /// # Errors
    /// Returns an error of [`Self::reserve_login`].
    pub(super) async fn reserve_in_session(
        &self,
        session: SessionId,
        user: UserId,
    ) -> Result<ReservedAttempt, ActorError> {
        let attempt = Attempt {
            counter: self.ids.session(session),
            network: None,
            prefers_network: false,
            user_id: Some(user),
            limits: self.settings.session,
        };
        let retry_after = Duration::from_secs(1);
        self.reserve(attempt).await?.ok_or(ActorError::TooManyAttempts { retry_after })
    }

    /// Returns the keyed hash of a username, which stands for it in the log.
    pub(super) fn name_hash(&self, username: &Username) -> CounterId {
        self.ids.username(username)
    }

    /// Counts an attempt, or returns `None` if the results of those in flight decide about it.
    ///
    /// In a task of its own: a requester that leaves meanwhile would leave behind an attempt without
    /// a result.
    async fn reserve(&self, attempt: Attempt) -> Result<Option<ReservedAttempt>, ActorError> {
        let reserved = actix::spawn(self.clone().reserve_and_settle(attempt).in_current_span());
        reserved.await.unwrap_or(Err(AskError::Stopped.into()))
    }

    async fn reserve_and_settle(
        self,
        attempt: Attempt,
    ) -> Result<Option<ReservedAttempt>, ActorError> {
        match with_deadline(self.timeout, self.store.reserve_attempt(&attempt)).await? {
            Reservation::Reserved { counter, is_known_network } => {
                let (result, settled) = self.start_settling(counter, attempt);
                Ok(Some(ReservedAttempt { is_known_network, result, settled }))
            }
            Reservation::Refused { retry_after } => {
                Err(ActorError::TooManyAttempts { retry_after })
            }
            Reservation::Busy => Ok(None),
        }
    }

    /// Starts a task that waits for the result of an attempt and counts it. It ends in time even if
    /// the requester has left.
    fn start_settling(
        &self,
        counter: CounterId,
        attempt: Attempt,
    ) -> (oneshot::Sender<AttemptResult>, JoinHandle<Result<u32, ActorError>>) {
        let (sender, result) = oneshot::channel();
        let Self { store, timeout, .. } = self.clone();
        let settle = async move {
            let result = result.await.unwrap_or(AttemptResult::Abandoned);
            let is_success = result == AttemptResult::Success;
            let network = attempt.network.zip(attempt.user_id).filter(|_| is_success);
            let settling = store.settle_attempt(counter, result, attempt.limits, network);
            let settled = with_deadline(timeout, settling).await;
            if let Err(error) = &settled {
                // It counts as a failure after a while.
                tracing::warn!(error = %ErrorChain(error), "failed to count the result of a login");
            }
            settled
        };
        (sender, actix::spawn(settle.in_current_span()))
    }
}

impl ReservedAttempt {
    /// Counts the result. Returns the number of failures in a row.
    ///
    /// # Errors
    /// Returns [`ActorError::Store`] or [`ActorError::Ask`].
    pub(super) async fn settle(self, result: AttemptResult) -> Result<u32, ActorError> {
        // Fails only if the task has ended, which it then reports.
        let _ = self.result.send(result);
        self.settled.await.unwrap_or(Err(AskError::Stopped.into()))
    }
}
