//! Deletes expired rows, and frees the memory of expired revocations.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::task::spawn_blocking;

use crate::actors::ActorError;
use crate::actors::deadline::with_deadline;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::{Store, StoreError};
use crate::telemetry::ErrorChain;

/// Maximum number of rows deleted in one statement, so that their locks are held only briefly.
const BATCH_LIMIT: u32 = 1_000;

/// Cleanup of one interval.
#[derive(Clone)]
pub(super) struct Cleanup {
    pub(super) store: Arc<dyn Store>,
    pub(super) replica: Arc<Replica>,
    pub(super) audit_retention: Duration,
    pub(super) deleted_account_retention: Duration,
    /// Maximum duration of one statement.
    pub(super) timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
}

impl Cleanup {
    /// Runs once. A failure is logged; the next run deletes the remaining rows.
    pub(super) async fn run(self) {
        // Elsewhere: this thread commits logouts.
        let replica = Arc::clone(&self.replica);
        if let Err(error) = spawn_blocking(move || replica.purge()).await {
            tracing::warn!(%error, "failed to remove expired revocations from memory");
        }
        if let Err(error) = self.delete_expired_rows().await {
            tracing::warn!(error = %ErrorChain(&error), "failed to delete expired rows");
        }
    }

    async fn delete_expired_rows(&self) -> Result<(), ActorError> {
        let store = &self.store;
        let revocations =
            self.repeat(|now| store.delete_expired_revocations(now, BATCH_LIMIT)).await?;
        self.metrics.revocations_swept.inc_by(revocations);
        self.repeat(|now| store.delete_expired_sessions(now, BATCH_LIMIT)).await?;
        self.repeat(|_| store.delete_expired_failures(BATCH_LIMIT)).await?;
        let retention = self.audit_retention;
        self.repeat(|now| store.delete_expired_audit_records(now, retention, BATCH_LIMIT)).await?;
        self.redact_deleted_accounts().await
    }

    /// Removes the names and addresses of accounts that were deleted long enough ago from the audit
    /// log.
    async fn redact_deleted_accounts(&self) -> Result<(), ActorError> {
        let store = &self.store;
        let retention = self.deleted_account_retention;
        loop {
            let find = store.find_redaction(self.clock.now(), retention);
            let mut rest = with_deadline(self.timeout, find).await?;
            if rest.is_none() {
                return Ok(());
            }
            while let Some(redaction) = rest {
                let redact = store.redact_records(redaction, BATCH_LIMIT);
                rest = with_deadline(self.timeout, redact).await?;
            }
        }
    }

    /// Deletes batches until none is full. Returns the number of rows.
    async fn repeat<F>(&self, delete: impl Fn(OffsetDateTime) -> F) -> Result<u64, ActorError>
    where
        F: Future<Output = Result<u64, StoreError>>,
    {
        let mut total = 0;
        loop {
            let deleted = with_deadline(self.timeout, delete(self.clock.now())).await?;
            total += deleted;
            if deleted < BATCH_LIMIT.into() {
                return Ok(total);
            }
        }
    }
}
