//! `SessionActor`: the only writer of revocations, and the keeper of the replica that checking
//! reads.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture,
    WrapFuture,
};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::follower::{Backoff, Follower, listen};
use super::rounds::{Rounds, Waiting};
use super::{Unanswered, WhileAwaited};
use crate::clock::Clock;
use crate::config::RevocationSettings;
use crate::domain::{Revocation, RevocationId};
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::{Store, StoreError};
use crate::telemetry::Chain;

/// Rows deleted in one statement: few enough not to hold their locks for long.
const SWEEP_LIMIT: u32 = 1_000;

/// Revocations committed together: few enough to be done in time.
const COMMIT_LIMIT: usize = 20_000;

/// Tokens looked up together: SQLite takes at most 32,766 parameters, and a token has two ids.
const LOOKUP_LIMIT: usize = 10_000;

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

/// Ends the actor's work. Replies when every revocation that was asked for before has been settled,
/// and others are no longer followed.
pub struct Drain;

/// Why the actor did not do what it was asked.
#[derive(Clone, Debug, Error)]
pub enum SessionError {
    /// There was no answer in time.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// The database did not do its part. Shared by all who were served together.
    #[error(transparent)]
    Store(Arc<StoreError>),
}

/// Owns the revocations. What arrives while a commit is in flight goes into the next one together,
/// and so do questions to the database.
pub struct SessionActor {
    parts: Parts,
    commits: Rounds<Option<Revocation>, Result<(), SessionError>>,
    lookups: Rounds<[RevocationId; 2], Result<Arc<HashSet<RevocationId>>, SessionError>>,
    following: Vec<JoinHandle<()>>,
}

/// What the actor's futures share.
#[derive(Clone)]
struct Parts {
    store: Arc<dyn Store>,
    replica: Arc<Replica>,
    settings: RevocationSettings,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    deadline: Duration,
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
        let mut follower = Follower {
            feed: store.feed(),
            replica: Arc::clone(&replica),
            hint: Arc::new(Notify::new()),
            settings,
            clock: Arc::clone(&clock),
            metrics: Arc::clone(&metrics),
            backoff: Backoff::new(fastrand::Rng::new()),
        };
        follower.read("start").await?;
        let mut following = Vec::new();
        if let Some(listener) = store.listener() {
            let (hint, metrics) = (Arc::clone(&follower.hint), Arc::clone(&metrics));
            let backoff = Backoff::new(fastrand::Rng::new());
            following.push(actix::spawn(listen(listener, hint, settings, metrics, backoff)));
        }
        following.push(actix::spawn(follower.follow()));
        let parts = Parts { store, replica, settings, clock, metrics, deadline };
        let (commit, look_up) = (parts.clone(), parts.clone());
        Ok(Self {
            parts,
            commits: Rounds::start(COMMIT_LIMIT, async move |round| commit.commit(round).await),
            lookups: Rounds::start(LOOKUP_LIMIT, async move |round| look_up.look_up(round).await),
            following,
        })
    }

    /// Sweeps, and comes back one interval after it has finished.
    fn sweep_regularly(&mut self, context: &mut Context<Self>) {
        if self.has_lost_a_part() {
            // Then it is not alive, says the probe, and a restart is what helps.
            tracing::error!("a task that follows or writes revocations has ended");
            return context.stop();
        }
        let sweep = self.parts.clone().sweep().into_actor(self);
        context.spawn(sweep.map(|(), actor, context| {
            context.run_later(actor.parts.settings.sweep_interval, Self::sweep_regularly);
        }));
    }

    fn has_lost_a_part(&self) -> bool {
        self.commits.has_ended()
            || self.lookups.has_ended()
            || self.following.iter().any(JoinHandle::is_finished)
    }
}

impl Parts {
    /// Commits what a round has brought. Those without a revocation wait for the ones before.
    async fn commit(
        &self,
        round: &[Waiting<Option<Revocation>, Result<(), SessionError>>],
    ) -> Result<(), SessionError> {
        let revocations: Vec<Revocation> = round.iter().filter_map(|one| one.item).collect();
        if revocations.is_empty() {
            return Ok(());
        }
        let started_at = self.clock.uptime();
        let now = within(self.deadline, self.store.revoke(&revocations)).await?;
        for revocation in &revocations {
            self.replica.apply(revocation, now);
        }

        let took = self.clock.uptime().saturating_sub(started_at);
        let count = u32::try_from(revocations.len()).unwrap_or(u32::MAX);
        self.metrics.revocation_commit_duration.observe(took.as_secs_f64());
        self.metrics.revocation_batch_size.observe(count.into());
        self.metrics.revocations_committed.inc_by(count.into());
        Ok(())
    }

    /// Asks the database about the tokens of all who still wait.
    async fn look_up<R>(
        &self,
        round: &[Waiting<[RevocationId; 2], R>],
    ) -> Result<Arc<HashSet<RevocationId>>, SessionError> {
        let asked = round.iter().filter(|one| !one.has_left());
        let ids: Vec<RevocationId> = asked.flat_map(|one| one.item).collect();
        if ids.is_empty() {
            return Ok(Arc::default());
        }
        let revoked = within(self.settings.patience(), self.store.revoked_among(&ids)).await?;
        Ok(Arc::new(revoked))
    }

    /// Deletes what has expired, a little at a time, here and in the database.
    async fn sweep(self) {
        self.replica.purge();
        loop {
            let sweep = self.store.sweep_revocations(self.clock.now(), SWEEP_LIMIT);
            match within(self.deadline, sweep).await {
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
}

async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, SessionError> {
    match timeout(deadline, work).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Unanswered::Late(deadline).into()),
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

    fn handle(&mut self, Revoke { revocation }: Revoke, _: &mut Self::Context) -> Self::Result {
        let committed = self.commits.join(Some(revocation));
        Box::pin(async move { committed.await? })
    }
}

impl Message for Drain {
    type Result = Result<(), SessionError>;
}

impl Handler<Drain> for SessionActor {
    type Result = ResponseFuture<Result<(), SessionError>>;

    fn handle(&mut self, _: Drain, _: &mut Self::Context) -> Self::Result {
        let (settled, following) = (self.commits.join(None), mem::take(&mut self.following));
        Box::pin(async move {
            let outcome = settled.await?;
            for task in following {
                task.abort();
                // Its connections are closed when it is gone, not before.
                let _ = task.await;
            }
            outcome
        })
    }
}

impl Message for IsRevoked {
    type Result = Result<bool, SessionError>;
}

impl Handler<IsRevoked> for SessionActor {
    type Result = WhileAwaited<Result<bool, SessionError>>;

    fn handle(&mut self, IsRevoked { ids }: IsRevoked, _: &mut Self::Context) -> Self::Result {
        let revoked = self.lookups.join(ids);
        WhileAwaited::new(async move {
            let revoked = revoked.await??;
            Ok(ids.iter().any(|id| revoked.contains(id)))
        })
    }
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}
