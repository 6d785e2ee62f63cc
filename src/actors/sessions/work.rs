//! What the actor's handlers do, as futures over shared parts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::timeout;

use super::{
    ChangeUser, Commits, EndSession, Ending, Exchanged, OpenSession, Refresh, Refreshed, Revoke,
    Revoked, SessionError,
};
use crate::actors::Unanswered;
use crate::actors::rounds::Waiting;
use crate::clock::Clock;
use crate::config::{RevocationSettings, TokenSettings};
use crate::domain::{
    AuditAction, AuditRecord, Generation, Initiator, Revocation, RevocationId, Session, SessionId,
    User, UserId,
};
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::{Changed, Rotation, Store, StoreError, UserChange};
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
    pub(super) audit_retention: Duration,
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
        let by = Initiator {
            user_id: Some(user_id),
            session: None,
            client: Some(session.client.clone()),
        };
        let record = self.record(AuditAction::SessionOpened, user_id, Some(id), by);
        let is_open = self.store.insert_session(&session, version, &record).await?;
        if is_open { Ok(session) } else { Err(SessionError::UserChanged) }
    }

    /// Moves the sessions of a round on.
    pub(super) async fn exchange<R>(
        &self,
        round: &[Waiting<(SessionId, Generation), R>],
    ) -> Exchanged {
        let presented = newest(round.iter().map(|one| one.item));
        let now = self.clock.now();
        let used_since = self.tokens.session_idle_timeout.map(|timeout| now - timeout);
        let rotated = self.store.rotate_sessions(&presented, now, used_since);
        let rotated = within(self.deadline, rotated).await?;
        Ok(Arc::new(rotated.into_iter().map(|(id, one)| (id, one.map_err(Into::into))).collect()))
    }

    /// Answers who showed a refresh token, and ends the session when it is one that was exchanged before.
    pub(super) async fn refresh(
        self,
        message: Refresh,
        exchanged: impl Future<Output = Result<Exchanged, Unanswered>>,
        commits: &Commits,
    ) -> Result<Refreshed, SessionError> {
        let Refresh { session, presented, client, .. } = message;
        let shown_at = self.clock.uptime();
        let rotated = exchanged.await??.get(&session).cloned();
        let Rotation { user, expires_at, generation, age } =
            rotated.ok_or(SessionError::Over)??;
        // The grace is the client's: what it has waited here since, a little more or less, does not count.
        let waited = self.clock.uptime().saturating_sub(shown_at);
        if generation == presented.next() && age.saturating_sub(waited) <= GRACE {
            return Ok(Refreshed { user, session, expires_at, generation });
        }
        if generation > presented {
            self.metrics.refresh_tokens_reused.inc();
            tracing::warn!(
                user.id = %user.id, session.id = %session, client.address = %client.address,
                "a refresh token was used again: its session ends"
            );
            let by = Initiator { user_id: None, session: None, client: Some(client) };
            let record = self.record(AuditAction::RefreshTokenReused, user.id, Some(session), by);
            let revocation = self.revocation_of(session);
            commits.join(Some(Ending { revocation, record })).await??;
        }
        Err(SessionError::Over)
    }

    /// Lists the live sessions of a user.
    pub(super) async fn list(self, user: UserId) -> Result<Vec<Session>, SessionError> {
        let mut sessions = self.store.sessions_of(user, self.clock.now()).await?;
        sessions.retain(|session| self.is_open(session));
        Ok(sessions)
    }

    /// Ends a session, if it is its owner's.
    pub(super) async fn end(
        self,
        EndSession { session: id, owner, by }: EndSession,
        commits: &Commits,
    ) -> Result<(), SessionError> {
        let session = self.store.find_session(id).await?;
        let session = session.filter(|session| self.is_open(session)).ok_or(SessionError::Over)?;
        if owner.is_some_and(|owner| owner != session.user_id) {
            return Err(SessionError::Foreign);
        }
        let (what, user_id) = (Revoked::Session(id), session.user_id);
        commits.join(Some(self.ending_of(Revoke { what, user_id, by }))).await?
    }

    /// Tells whether a session has neither ended by itself nor been idle for too long.
    fn is_open(&self, session: &Session) -> bool {
        let now = self.clock.now();
        let is_idle = |timeout| session.last_used_at < now - timeout;
        session.expires_at > now && !self.tokens.session_idle_timeout.is_some_and(is_idle)
    }

    /// Changes an account, and ends its sessions.
    pub(super) async fn change_user(self, message: ChangeUser) -> Result<User, SessionError> {
        let ChangeUser { user_id, version, edit, but, by } = message;
        let at = self.clock.now();
        let revoked_until = Some(self.tokens.last_expiry(at));
        let change = UserChange { user_id, version, edit, but, revoked_until, at, by };
        let Changed { user, ended } = self.store.change_user(&change).await?;
        for revocation in &ended.revocations {
            self.replica.apply(revocation, ended.ended_at);
        }
        Ok(user)
    }

    /// Makes of a message what the next commit takes.
    pub(super) fn ending_of(&self, Revoke { what, user_id, by }: Revoke) -> Ending {
        match what {
            Revoked::Session(id) => Ending {
                revocation: self.revocation_of(id),
                record: self.record(AuditAction::SessionEnded, user_id, Some(id), by),
            },
            Revoked::Token(id) => Ending {
                revocation: self.revocation_of(id),
                record: AuditRecord {
                    detail: Some(id.to_string()),
                    ..self.record(AuditAction::TokenRevoked, user_id, None, by)
                },
            },
        }
    }

    fn record(
        &self,
        action: AuditAction,
        subject: UserId,
        session: Option<SessionId>,
        by: Initiator,
    ) -> AuditRecord {
        AuditRecord { at: self.clock.now(), action, by, subject, session, detail: None }
    }

    /// Makes the revocation of what ends now. It matters until the last token has expired that was
    /// issued before.
    fn revocation_of(&self, id: impl Into<RevocationId>) -> Revocation {
        Revocation { id: id.into(), expires_at: self.tokens.last_expiry(self.clock.now()) }
    }

    /// Commits what a round has brought. Those without a revocation wait for the ones before.
    pub(super) async fn commit(
        &self,
        round: &[Waiting<Option<Ending>, Result<(), SessionError>>],
    ) -> Result<(), SessionError> {
        let endings = || round.iter().filter_map(|one| one.item.as_ref());
        let revocations: Vec<Revocation> = endings().map(|ending| ending.revocation).collect();
        let records: Vec<AuditRecord> = endings().map(|ending| ending.record.clone()).collect();
        if revocations.is_empty() {
            return Ok(());
        }
        let started_at = self.clock.uptime();
        let now = within(self.deadline, self.store.revoke(&revocations, &records)).await?;
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
            self.sweep_all(|now| self.store.sweep_sessions(now, SWEEP_LIMIT)).await?;
            let retention = self.audit_retention;
            self.sweep_all(|now| self.store.sweep_audit(now, retention, SWEEP_LIMIT)).await
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

/// Picks the newest token of each session: none but that can move it on. The older ones of a round
/// count as shown after it, in whatever order they came.
fn newest(
    presented: impl Iterator<Item = (SessionId, Generation)>,
) -> HashMap<SessionId, Generation> {
    let mut newest = HashMap::new();
    for (session, generation) in presented {
        let known = newest.entry(session).or_insert(generation);
        *known = generation.max(*known);
    }
    newest
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_tokens_of_one_session_the_newest_is_exchanged() {
        let (one, other) = (SessionId::random(), SessionId::random());
        let [first, second, third] = [0, 1, 2].map(Generation::from);

        let newest =
            newest([(one, first), (one, third), (other, first), (one, second)].into_iter());

        assert_eq!(newest, HashMap::from([(one, third), (other, first)]));
    }
}
