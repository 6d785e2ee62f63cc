//! Ends the sessions of the members of a role that has lost a permission.
//!
//! The row of the role tells what is left, so that every instance can continue the work of another
//! one that was killed. Several can work at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use crate::actors::ActorError;
use crate::actors::deadline::with_deadline;
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::{CommittedRevocations, Store};
use crate::telemetry::ErrorChain;

/// Maximum number of sessions that are ended in one commit, so that their locks are held only
/// briefly.
const BATCH_LIMIT: u32 = 1_000;

/// Delay after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Task that ends sessions.
#[derive(Clone)]
pub(super) struct Ending {
    pub(super) store: Arc<dyn Store>,
    pub(super) replica: Arc<Replica>,
    /// Notified after a change of a role by this instance.
    pub(super) changed: Arc<Notify>,
    /// Changes with the state that all instances share, after a change of a role elsewhere.
    pub(super) versions: watch::Receiver<i64>,
    /// Time after which the database is asked without a reason.
    pub(super) interval: Duration,
    /// Maximum duration of a query.
    pub(super) timeout: Duration,
    pub(super) metrics: Arc<Metrics>,
}

impl Ending {
    /// Runs until dropped. A failure is logged; the next round continues.
    pub(super) async fn run(mut self) {
        loop {
            let delay = match self.end_sessions().await {
                Ok(()) => self.interval,
                Err(error) => {
                    let error = ErrorChain(&error);
                    tracing::warn!(%error, "failed to end the sessions of a changed role; retrying");
                    RETRY_DELAY
                }
            };
            select! {
                () = self.changed.notified() => {}
                Ok(()) = self.versions.changed() => {}
                () = sleep(delay) => {}
            }
        }
    }

    /// Ends sessions until none is left to end.
    async fn end_sessions(&self) -> Result<(), ActorError> {
        let left = &self.metrics.sessions_ending;
        left.set(self.count_sessions().await?);
        let mut count = 0;
        while let Some(ended) = self.end_batch().await? {
            self.replica.apply_own(&ended.revocations, ended.committed_at);
            count += ended.revocations.len();
            left.sub(ended.revocations.len().try_into().unwrap_or(i64::MAX));
        }
        left.set(0);
        if count > 0 {
            self.metrics.revocations_committed.inc_by(count as u64);
            tracing::info!(count, "ended the sessions of a changed role");
        }
        Ok(())
    }

    async fn end_batch(&self) -> Result<Option<CommittedRevocations>, ActorError> {
        with_deadline(self.timeout, self.store.end_sessions_of_roles(BATCH_LIMIT)).await
    }

    async fn count_sessions(&self) -> Result<i64, ActorError> {
        let list = with_deadline(self.timeout, self.store.list_roles()).await?;
        let count: u64 = list.roles.iter().map(|role| role.ending_sessions).sum();
        Ok(i64::try_from(count).unwrap_or(i64::MAX))
    }
}
