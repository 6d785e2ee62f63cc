//! [`RevocationWriter`]: every revocation by an actor goes through it. A revocation is committed to
//! the database first, then applied to the replica, and only then acknowledged.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::batcher::{Batcher, Pending};
use super::deadline::with_deadline;
use super::{ActorError, AskError};
use time::OffsetDateTime;
use tracing::Instrument;

use crate::clock::Clock;
use crate::config::TokenSettings;
use crate::domain::{
    AuditAction, AuditRecord, MAX_LEEWAY, Requester, Revocation, RevocationId, SessionId, TokenId,
    User, UserChange, UserEdit, UserId,
};
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::{ChangedUser, LockedSessions, Store};
use crate::telemetry::ErrorChain;

/// Maximum number of revocations in one commit: a second of work, so that it ends in time.
const BATCH_LIMIT: usize = 20_000;

/// Commits revocations and applies them to the replica. Revocations submitted while a commit is in
/// flight share the next one.
pub struct RevocationWriter {
    store: Arc<dyn Store>,
    replica: Arc<Replica>,
    tokens: TokenSettings,
    clock: Arc<dyn Clock>,
    timeout: Duration,
    /// Takes all revocations, and never waits for the locks of a session: it passes the revocations
    /// of locked sessions on to `waiting`.
    batcher: Batcher<NewRevocation, ()>,
    /// Revocations that wait for a lock of their session.
    waiting: Arc<Batcher<NewRevocation, ()>>,
    notifications: Arc<Batcher<(), ()>>,
}

/// Subject of a revocation.
#[derive(Clone, Copy, Debug)]
pub(super) enum RevocationTarget {
    /// A session, with all its tokens.
    Session(SessionId),
    /// A single access token, until its `exp`.
    Token(TokenId, OffsetDateTime),
}

/// Revocation with its audit record; both are written in one commit.
struct NewRevocation {
    revocation: Revocation,
    record: AuditRecord,
}

impl RevocationWriter {
    /// Starts the tasks that commit. A commit is given up after `timeout`.
    #[must_use]
    pub fn start(
        store: Arc<dyn Store>,
        replica: Arc<Replica>,
        tokens: TokenSettings,
        timeout: Duration,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let notifications = Arc::new(start_notifications(Arc::clone(&store), timeout));
        let committer = Committer {
            store: Arc::clone(&store),
            replica: Arc::clone(&replica),
            timeout,
            clock: Arc::clone(&clock),
            metrics,
            notifications: Arc::clone(&notifications),
        };
        let waiter = committer.clone();
        let concurrent = store.concurrent_batches();
        // One batch at a time: it holds a connection for as long as it waits for a lock.
        let waiting = Arc::new(Batcher::start(BATCH_LIMIT, 1, async move |batch| {
            waiter.run(batch, LockedSessions::Wait).await;
        }));
        let passed_on = Arc::clone(&waiting);
        let batcher = Batcher::start(BATCH_LIMIT, concurrent, async move |batch| {
            for pending in committer.run(batch, LockedSessions::Skip).await {
                passed_on.pass_on(pending);
            }
        });
        Self { store, replica, tokens, clock, timeout, batcher, waiting, notifications }
    }

    /// Revokes a session or a token of `user_id`, or the token of a client, and records that as `action`. Dropping the future
    /// does not cancel the revocation.
    pub(super) fn revoke(
        &self,
        target: RevocationTarget,
        action: AuditAction,
        user_id: Option<UserId>,
        requester: Requester,
    ) -> impl Future<Output = Result<(), ActorError>> + use<> {
        let now = self.clock.now();
        let revocation = match target {
            RevocationTarget::Session(id) => {
                Revocation { id: id.into(), expires_at: self.tokens.last_expiry(now) }
            }
            RevocationTarget::Token(id, expires_at) => {
                Revocation { id: id.into(), expires_at: expires_at + MAX_LEEWAY }
            }
        };
        let (session_id, detail) = match target {
            RevocationTarget::Session(id) => (Some(id), None),
            RevocationTarget::Token(id, _) => (None, Some(id.to_string())),
        };
        let record =
            AuditRecord { at: now, action, requester, subject: user_id, session_id, detail };
        self.batcher.submit(NewRevocation { revocation, record })
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
        let timeout = self.timeout;
        let change = async move {
            let ChangedUser { user, ended } =
                with_deadline(timeout, store.change_user(&change)).await?;
            replica.apply_own(&ended.revocations, ended.committed_at);
            Ok(user)
        };
        let changed = actix::spawn(change.in_current_span());
        changed.await.unwrap_or(Err(AskError::Stopped.into()))
    }

    /// Waits until every revocation submitted before is settled. Account edits are not waited for.
    pub(super) fn flush(&self) -> impl Future<Output = Result<(), ActorError>> + use<> {
        let flushed = self.batcher.flush();
        let waiting = Arc::clone(&self.waiting);
        let notifications = Arc::clone(&self.notifications);
        async move {
            flushed.await?;
            waiting.flush().await?;
            notifications.flush().await
        }
    }

    /// Returns `true` if a task that commits has ended, which only a panic causes.
    pub(super) fn has_stopped(&self) -> bool {
        self.batcher.has_stopped() || self.waiting.has_stopped() || self.notifications.has_stopped()
    }
}

/// Starts the task that notifies the listeners. A notification is only a hint, so that a failure is
/// logged and nothing else.
fn start_notifications(store: Arc<dyn Store>, timeout: Duration) -> Batcher<(), ()> {
    Batcher::start(BATCH_LIMIT, 1, async move |batch: Vec<Pending<(), ()>>| {
        if let Err(error) = with_deadline(timeout, store.notify_listeners()).await {
            tracing::warn!(error = %ErrorChain(&error), "failed to notify of revocations");
        }
        for pending in batch {
            pending.complete(Ok(()));
        }
    })
}

/// Commits batches of revocations.
#[derive(Clone)]
struct Committer {
    store: Arc<dyn Store>,
    replica: Arc<Replica>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// Notifications of the listeners. Batches that commit meanwhile share one.
    notifications: Arc<Batcher<(), ()>>,
}

impl Committer {
    /// Commits a batch. Returns the items of sessions that were skipped.
    async fn run(
        &self,
        batch: Vec<Pending<NewRevocation, ()>>,
        locked: LockedSessions,
    ) -> Vec<Pending<NewRevocation, ()>> {
        let (revocations, records) = self.not_yet_revoked(&batch);
        let outcome = self.write(&revocations, &records, locked).await;
        let mut skipped = Vec::new();
        for pending in batch {
            match &outcome {
                Ok(locked) if locked.contains(&pending.item.revocation.id) => skipped.push(pending),
                Ok(_) => pending.complete(Ok(())),
                Err(error) => pending.complete(Err(error.clone())),
            }
        }
        skipped
    }

    /// Selects what is to be written: of several requests that end one session at the same time,
    /// the first one.
    fn not_yet_revoked(
        &self,
        batch: &[Pending<NewRevocation, ()>],
    ) -> (Vec<(Revocation, Option<UserId>)>, Vec<AuditRecord>) {
        let mut seen = HashSet::new();
        let items = batch.iter().map(|pending| &pending.item);
        items
            .filter(|item| !self.replica.contains(item.revocation.id))
            .filter(|item| seen.insert(item.revocation.id))
            .map(|item| ((item.revocation, item.record.subject), item.record.clone()))
            .unzip()
    }

    /// Writes revocations. Returns those of sessions that were skipped.
    async fn write(
        &self,
        revocations: &[(Revocation, Option<UserId>)],
        records: &[AuditRecord],
        locked: LockedSessions,
    ) -> Result<HashSet<RevocationId>, ActorError> {
        if revocations.is_empty() {
            return Ok(HashSet::new());
        }
        let started_at = self.clock.uptime();
        let committed =
            with_deadline(self.timeout, self.store.revoke(revocations, records, locked)).await?;
        // A revocation that another instance has committed meanwhile is not among the committed
        // ones.
        let given = revocations.iter().map(|(revocation, _)| revocation);
        let written = given.filter(|revocation| !committed.locked.contains(&revocation.id));
        self.replica.apply_own(written.chain(&committed.revocations), committed.committed_at);
        drop(self.notifications.submit(()));

        let duration = self.clock.uptime().saturating_sub(started_at);
        let count = revocations.len() - committed.locked.len();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.metrics.revocation_commit_duration.observe(duration.as_secs_f64());
        self.metrics.revocation_batch_size.observe(count.into());
        self.metrics.revocations_committed.inc_by(count.into());
        Ok(committed.locked)
    }
}
