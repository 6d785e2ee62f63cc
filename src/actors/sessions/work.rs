//! What the actor's handlers do, as futures over shared parts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::timeout;

use super::{
    ChangePassword, Commits, DeleteUser, EndOtherSessions, EndSession, OpenSession, Refresh,
    Refreshed, SessionError,
};
use crate::actors::Unanswered;
use crate::actors::rounds::Waiting;
use crate::clock::Clock;
use crate::config::{RevocationSettings, TokenSettings};
use crate::domain::{Revocation, RevocationId, Session, SessionId, UserId};
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::{Ended, Rotation, Store, StoreError};
use crate::telemetry::Chain;

/// How long a refresh token that was exchanged still gets its successor: clients send a request again
/// when its answer was lost, and several at once.
const GRACE: Duration = Duration::from_secs(10);

/// Rows deleted in one statement: few enough not to hold their locks for long.
const SWEEP_LIMIT: u32 = 1_000;

/// What the futures share.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) store: Arc<dyn Store>,
    pub(super) replica: Arc<Replica>,
    pub(super) settings: RevocationSettings,
    pub(super) tokens: TokenSettings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) deadline: Duration,
}

impl Work {
    /// Opens a session.
    pub(super) async fn open(self, message: OpenSession) -> Result<Session, SessionError> {
        let OpenSession { user_id, version, client } = message;
        let now = self.clock.now();
        let expires_at = now + self.tokens.session_lifetime;
        let id = SessionId::random();
        let session =
            Session { id, user_id, created_at: now, last_used_at: now, expires_at, client };
        let is_open = self.store.insert_session(&session, version).await?;
        if is_open { Ok(session) } else { Err(SessionError::UserChanged) }
    }

    /// Exchanges a refresh token, and ends the session when it is one that was exchanged before.
    pub(super) async fn refresh(
        self,
        message: Refresh,
        commits: &Commits,
    ) -> Result<Refreshed, SessionError> {
        let Refresh { session, presented, client, .. } = message;
        let now = self.clock.now();
        let used_since = self.tokens.session_idle_timeout.map(|timeout| now - timeout);
        let rotated = self.store.rotate_session(session, presented, now, used_since).await?;
        let Rotation { user_id, expires_at, generation, age } =
            rotated.ok_or(SessionError::Over)?;
        if generation == presented.next() && age <= GRACE {
            let user = self.store.find_user(user_id).await?.ok_or(SessionError::Over)?;
            return Ok(Refreshed { user, session, expires_at, generation });
        }
        if generation > presented {
            self.metrics.refresh_tokens_reused.inc();
            tracing::warn!(
                user.id = %user_id, session.id = %session, client.address = %client.address,
                "a refresh token was used again: its session ends"
            );
            commits.join(Some(self.revocation_of(session))).await??;
        }
        Err(SessionError::Over)
    }

    /// Lists the live sessions of a user.
    pub(super) async fn list(self, user: UserId) -> Result<Vec<Session>, SessionError> {
        Ok(self.store.sessions_of(user, self.clock.now()).await?)
    }

    /// Ends a session, if it is the user's.
    pub(super) async fn end(
        self,
        EndSession { user_id, session }: EndSession,
        commits: &Commits,
    ) -> Result<(), SessionError> {
        let sessions = self.store.sessions_of(user_id, self.clock.now()).await?;
        if sessions.iter().all(|one| one.id != session) {
            return Err(SessionError::Over);
        }
        commits.join(Some(self.revocation_of(session))).await?
    }

    /// Ends all sessions of a user but one.
    pub(super) async fn end_others(
        self,
        EndOtherSessions { user_id, but }: EndOtherSessions,
    ) -> Result<(), SessionError> {
        let expires_at = self.tokens.last_expiry(self.clock.now());
        let ended = self.store.end_sessions(user_id, Some(but), expires_at).await?;
        self.refuse_here(&ended, expires_at);
        Ok(())
    }

    /// Gives a user another password, and ends all sessions but one.
    pub(super) async fn change_password(self, message: ChangePassword) -> Result<(), SessionError> {
        let ChangePassword { user_id, version, new, but } = message;
        let expires_at = self.tokens.last_expiry(self.clock.now());
        let changed = self.store.change_password(user_id, version, &new, but, expires_at).await?;
        self.refuse_here(&changed.ok_or(SessionError::UserChanged)?, expires_at);
        Ok(())
    }

    /// Deletes an account with all its sessions.
    pub(super) async fn delete_user(self, message: DeleteUser) -> Result<(), SessionError> {
        let DeleteUser { user_id, version } = message;
        let expires_at = self.tokens.last_expiry(self.clock.now());
        let deleted = self.store.delete_user(user_id, version, expires_at).await?;
        self.refuse_here(&deleted.ok_or(SessionError::UserChanged)?, expires_at);
        Ok(())
    }

    fn refuse_here(&self, ended: &Ended, expires_at: OffsetDateTime) {
        for &session in &ended.sessions {
            let revocation = Revocation { id: session.into(), expires_at };
            self.replica.apply(&revocation, ended.ended_at);
        }
    }

    /// Makes the revocation of what ends now. It matters until the last token has expired that was
    /// issued before.
    pub(super) fn revocation_of(&self, id: impl Into<RevocationId>) -> Revocation {
        Revocation { id: id.into(), expires_at: self.tokens.last_expiry(self.clock.now()) }
    }

    /// Commits what a round has brought. Those without a revocation wait for the ones before.
    pub(super) async fn commit(
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
    pub(super) async fn look_up<R>(
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
    pub(super) async fn sweep(self) {
        self.replica.purge();
        let outcome = async {
            let swept =
                self.sweep_all(|now| self.store.sweep_revocations(now, SWEEP_LIMIT)).await?;
            self.metrics.revocations_swept.inc_by(swept);
            self.sweep_all(|now| self.store.sweep_sessions(now, SWEEP_LIMIT)).await
        };
        if let Err(error) = outcome.await {
            tracing::warn!(error = %Chain(&error), "what has expired stays for now");
        }
    }

    /// Sweeps until there is nothing left; returns how much there was.
    async fn sweep_all<F>(&self, sweep: impl Fn(OffsetDateTime) -> F) -> Result<u64, SessionError>
    where
        F: Future<Output = Result<u64, StoreError>>,
    {
        let mut total = 0;
        loop {
            let swept = within(self.deadline, sweep(self.clock.now())).await?;
            total += swept;
            if swept < SWEEP_LIMIT.into() {
                return Ok(total);
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
