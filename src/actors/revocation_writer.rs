//! [`RevocationWriter`]: the only writer of revocations. A revocation is committed to the database
//! first, then applied to the replica, and only then acknowledged.

use std::sync::Arc;
use std::time::Duration;

use super::batcher::{Batcher, Pending, with_timeout};
use super::{ActorError, AskError};
use crate::clock::Clock;
use crate::config::TokenSettings;
use crate::domain::{
    AuditAction, AuditRecord, Requester, Revocation, SessionId, TokenId, User, UserChange,
    UserEdit, UserId,
};
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::{ChangedUser, Store};

/// Maximum number of revocations in one commit, so that it ends within the request timeout.
const BATCH_LIMIT: usize = 20_000;

/// Commits revocations and applies them to the replica. Revocations submitted while a commit is in
/// flight share the next one.
pub struct RevocationWriter {
    store: Arc<dyn Store>,
    replica: Arc<Replica>,
    tokens: TokenSettings,
    clock: Arc<dyn Clock>,
    commits: Batcher<NewRevocation, ()>,
}

/// Subject of a revocation.
#[derive(Clone, Copy, Debug)]
pub enum RevocationTarget {
    /// A session, with all its tokens.
    Session(SessionId),
    /// A single access token.
    Token(TokenId),
}

/// Revocation with its audit record; both are written in one commit.
struct NewRevocation {
    revocation: Revocation,
    record: AuditRecord,
}

impl RevocationWriter {
    /// Starts the task that commits. A commit is given up after `timeout`.
    #[must_use]
    pub fn start(
        store: Arc<dyn Store>,
        replica: Arc<Replica>,
        tokens: TokenSettings,
        timeout: Duration,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let commit = Commit {
            store: Arc::clone(&store),
            replica: Arc::clone(&replica),
            timeout,
            clock: Arc::clone(&clock),
            metrics,
        };
        let commits = Batcher::start(BATCH_LIMIT, async move |batch| commit.run(batch).await);
        Self { store, replica, tokens, clock, commits }
    }

    /// Revokes a session or a token of `user_id`, and records that as `action`. Dropping the future does
    /// not cancel the revocation.
    pub(super) fn revoke(
        &self,
        target: RevocationTarget,
        action: AuditAction,
        user_id: UserId,
        requester: Requester,
    ) -> impl Future<Output = Result<(), ActorError>> + use<> {
        let now = self.clock.now();
        let (id, session_id, detail) = match target {
            RevocationTarget::Session(id) => (id.into(), Some(id), None),
            RevocationTarget::Token(id) => (id.into(), None, Some(id.to_string())),
        };
        self.commits.submit(NewRevocation {
            // Later than the expiry of every token issued so far.
            revocation: Revocation { id, expires_at: self.tokens.last_expiry(now) },
            record: AuditRecord {
                at: now,
                action,
                requester,
                subject: user_id,
                session_id,
                detail,
            },
        })
    }

    /// Creates a change for [`Self::change_user`] that expects no version and keeps no session.
    pub(super) fn new_change(
        &self,
        user_id: UserId,
        edit: UserEdit,
        requester: Requester,
    ) -> UserChange {
        let at = self.clock.now();
        UserChange {
            user_id,
            expected_version: None,
            edit,
            keep_session: None,
            revoked_until: Some(self.tokens.last_expiry(at)),
            at,
            requester,
        }
    }

    /// Changes an account and ends its sessions. Dropping the future does not cancel the change.
    pub(super) async fn change_user(&self, change: UserChange) -> Result<User, ActorError> {
        let store = Arc::clone(&self.store);
        let replica = Arc::clone(&self.replica);
        let changed = actix::spawn(async move {
            let ChangedUser { user, ended } = store.change_user(&change).await?;
            for revocation in &ended.revocations {
                replica.apply(revocation, ended.ended_at);
            }
            Ok(user)
        });
        changed.await.unwrap_or(Err(AskError::Stopped.into()))
    }

    /// Waits until every revocation submitted before is settled.
    pub(super) fn flush(&self) -> impl Future<Output = Result<(), ActorError>> + use<> {
        self.commits.flush()
    }

    /// Returns `true` if the task that commits has ended, which only a panic causes.
    pub(super) fn has_stopped(&self) -> bool {
        self.commits.has_stopped()
    }
}

/// One commit for a batch of revocations.
struct Commit {
    store: Arc<dyn Store>,
    replica: Arc<Replica>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Commit {
    async fn run(&self, batch: Vec<Pending<NewRevocation, ()>>) {
        let revocations: Vec<_> = batch.iter().map(|pending| pending.item.revocation).collect();
        let records: Vec<_> = batch.iter().map(|pending| pending.item.record.clone()).collect();
        let outcome = self.write(&revocations, &records).await;
        for pending in batch {
            pending.complete(outcome.clone());
        }
    }

    async fn write(
        &self,
        revocations: &[Revocation],
        records: &[AuditRecord],
    ) -> Result<(), ActorError> {
        let started_at = self.clock.uptime();
        let committed_at =
            with_timeout(self.timeout, self.store.revoke(revocations, records)).await?;
        for revocation in revocations {
            self.replica.apply(revocation, committed_at);
        }

        let duration = self.clock.uptime().saturating_sub(started_at);
        let count = u32::try_from(revocations.len()).unwrap_or(u32::MAX);
        self.metrics.revocation_commit_duration.observe(duration.as_secs_f64());
        self.metrics.revocation_batch_size.observe(count.into());
        self.metrics.revocations_committed.inc_by(count.into());
        Ok(())
    }
}
