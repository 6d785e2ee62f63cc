//! `SessionActor`: the only writer of revocations, and the keeper of the replica that checking
//! reads.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture,
};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Unanswered, WhileAwaited};
use crate::clock::Clock;
use crate::config::RevocationSettings;
use crate::domain::{Revocation, RevocationId};
use crate::metrics::Metrics;
use crate::revocation::{RETENTION, Replica};
use crate::store::{Store, StoreError};
use crate::telemetry::Chain;

/// Rows deleted in one statement: few enough not to hold their locks for long.
const SWEEP_LIMIT: u32 = 1_000;

/// Ends a token or a session. Replies once the revocation is committed, and refused here.
pub struct Revoke {
    /// What ends.
    pub revocation: Revocation,
}

/// Asks the database whether a token is revoked, for when the replica cannot tell. Replies with
/// the answer.
pub struct IsRevoked {
    /// The ids of the token and of its session.
    pub ids: [RevocationId; 2],
}

/// Waits for the commits under way. Replies when everything asked for before has been settled.
pub struct Drain;

/// Why the actor did not do what it was asked.
#[derive(Clone, Debug, Error)]
pub enum SessionError {
    /// There was no answer in time.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// The database did not do its part. Shared by all whose revocations were in one commit.
    #[error(transparent)]
    Store(Arc<StoreError>),
}

/// Owns the revocations. What arrives while a commit is in flight goes into the next one together.
pub struct SessionActor {
    parts: Parts,
    settings: RevocationSettings,
    waiting: Vec<Waiting>,
    is_committing: bool,
}

/// What the actor's futures share.
#[derive(Clone)]
struct Parts {
    store: Arc<dyn Store>,
    replica: Arc<Replica>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    deadline: Duration,
}

/// Somebody who waits for a commit; without a revocation, for those before to be settled.
struct Waiting {
    revocation: Option<Revocation>,
    settled: oneshot::Sender<Result<(), SessionError>>,
}

impl SessionActor {
    /// Puts the actor together and loads every live revocation into the replica. A commit may take
    /// as long as `deadline`.
    ///
    /// # Errors
    /// When the revocations cannot be read.
    pub async fn load(
        store: Arc<dyn Store>,
        replica: Arc<Replica>,
        settings: RevocationSettings,
        deadline: Duration,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        replica.apply(&store.revocations().await?, clock.now());
        let parts = Parts { store, replica, clock, metrics, deadline };
        Ok(Self { parts, settings, waiting: Vec::new(), is_committing: false })
    }

    fn enqueue(
        &mut self,
        revocation: Option<Revocation>,
        context: &mut Context<Self>,
    ) -> ResponseFuture<Result<(), SessionError>> {
        let (settled, outcome) = oneshot::channel();
        self.waiting.push(Waiting { revocation, settled });
        self.commit_waiting(context);
        Box::pin(async move { outcome.await.map_err(|_| Unanswered::Stopped)? })
    }

    fn commit_waiting(&mut self, context: &mut Context<Self>) {
        if self.is_committing || self.waiting.is_empty() {
            return;
        }
        self.is_committing = true;
        let batch = mem::take(&mut self.waiting);
        let commit = self.parts.clone().commit(batch).into_actor(self);
        context.spawn(commit.map(|(), actor, context| {
            actor.is_committing = false;
            actor.commit_waiting(context);
        }));
    }

    /// Sweeps, and comes back one interval after it has finished.
    fn sweep_regularly(&mut self, context: &mut Context<Self>) {
        let sweep = self.parts.clone().sweep().into_actor(self);
        context.spawn(sweep.map(|(), actor, context| {
            context.run_later(actor.settings.sweep_interval, Self::sweep_regularly);
        }));
    }
}

impl Parts {
    /// Commits a batch, and tells everybody who waits for it how that went.
    async fn commit(self, batch: Vec<Waiting>) {
        let revocations: Vec<Revocation> = batch.iter().filter_map(|one| one.revocation).collect();
        let outcome = if revocations.is_empty() { Ok(()) } else { self.revoke(&revocations).await };
        for waiting in batch {
            // Whoever has left does not miss the answer; the revocation holds all the same.
            let _ = waiting.settled.send(outcome.clone());
        }
    }

    async fn revoke(&self, revocations: &[Revocation]) -> Result<(), SessionError> {
        let started_at = self.clock.instant();
        self.within_deadline(self.store.revoke(revocations)).await?;
        self.replica.apply(revocations, self.clock.now());

        let took = self.clock.instant() - started_at;
        let count = revocations.len();
        self.metrics.revocation_commit_duration.observe(took.as_secs_f64());
        self.metrics
            .revocation_batch_size
            .observe(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        self.metrics.revocations_committed.inc_by(count.try_into().unwrap_or(u64::MAX));
        Ok(())
    }

    /// Deletes what has expired, a little at a time, here and in the database.
    async fn sweep(self) {
        self.replica.purge();
        let before = self.clock.now() - RETENTION;
        loop {
            let sweep = self.store.sweep_revocations(before, SWEEP_LIMIT);
            match self.within_deadline(sweep).await {
                Ok(swept) => {
                    self.metrics.revocations_swept.inc_by(swept);
                    if swept < SWEEP_LIMIT.into() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "expired revocations stay for now");
                    return;
                }
            }
        }
    }

    async fn within_deadline<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, SessionError> {
        match timeout(self.deadline, work).await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(Unanswered::Late(self.deadline).into()),
        }
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.sweep_regularly(context);
    }
}

impl Message for Revoke {
    type Result = Result<(), SessionError>;
}

impl Handler<Revoke> for SessionActor {
    type Result = ResponseFuture<Result<(), SessionError>>;

    fn handle(
        &mut self,
        Revoke { revocation }: Revoke,
        context: &mut Self::Context,
    ) -> Self::Result {
        self.enqueue(Some(revocation), context)
    }
}

impl Message for Drain {
    type Result = Result<(), SessionError>;
}

impl Handler<Drain> for SessionActor {
    type Result = ResponseFuture<Result<(), SessionError>>;

    fn handle(&mut self, _: Drain, context: &mut Self::Context) -> Self::Result {
        self.enqueue(None, context)
    }
}

impl Message for IsRevoked {
    type Result = Result<bool, SessionError>;
}

impl Handler<IsRevoked> for SessionActor {
    type Result = WhileAwaited<Result<bool, SessionError>>;

    fn handle(&mut self, IsRevoked { ids }: IsRevoked, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.parts.store);
        WhileAwaited::new(async move { Ok(store.is_any_revoked(&ids).await?) })
    }
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}
