//! `SessionActor`: what logins open and how it ends. The only writer of revocations, and the keeper of
//! the replica that checking reads.

mod work;

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture,
    WrapFuture,
};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::{Instrument, Span};

use super::follower::{Backoff, Follower, listen};
use super::rounds::Rounds;
use super::{Unanswered, WhileAwaited};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::{
    AuditRecord, Client, Generation, Initiator, Revocation, RevocationId, Session, SessionId,
    TokenId, User, UserEdit, UserId, UserVersion,
};
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::{ChangeUserError, Rotation, Store, StoreError};
use work::Work;

/// Revocations, or exchanges, committed together: few enough to be done in time.
const COMMIT_LIMIT: usize = 20_000;

/// Tokens looked up together: SQLite takes at most 32,766 parameters, and a token has two ids.
const LOOKUP_LIMIT: usize = 10_000;

/// Opens a session for a user who has just proved who they are. Replies with it once it is committed.
pub struct OpenSession {
    /// Who logged in.
    pub user_id: UserId,
    /// As what.
    pub version: UserVersion,
    /// From where.
    pub client: Client,
}

/// Exchanges a refresh token. Replies with what the next pair of tokens is issued from; the same again
/// to those who come at once, or come back within the grace.
pub struct Refresh {
    /// The session that the token names.
    pub session: SessionId,
    /// The generation that it is good for.
    pub presented: Generation,
    /// From where it was shown.
    pub client: Client,
    /// The request, for the log: a thief is reported even when nobody waits for the answer.
    pub span: Span,
}

/// Lists the live sessions of a user. Replies with them, the latest used first.
pub struct ListSessions {
    /// Whose they are.
    pub user_id: UserId,
}

/// Ends one session. Replies once that is committed, and its tokens are refused here.
pub struct EndSession {
    /// Which it is.
    pub session: SessionId,
    /// Whose it has to be; anybody's where nobody is named.
    pub owner: Option<UserId>,
    /// Who wants it.
    pub by: Initiator,
}

/// Changes an account, which ends its sessions. Replies with the account as it is then, once that is
/// committed, and the tokens of the sessions are refused here.
pub struct ChangeUser {
    /// Which account.
    pub user_id: UserId,
    /// As what its owner proved to be that, where that was asked.
    pub version: Option<UserVersion>,
    /// What becomes of it.
    pub edit: UserEdit,
    /// The session that goes on, if any.
    pub but: Option<SessionId>,
    /// Who wants it.
    pub by: Initiator,
}

/// What the next pair of tokens of a session is issued from.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// Whose session it is, as the account is now.
    pub user: User,
    /// The session.
    pub session: SessionId,
    /// When it ends.
    pub expires_at: OffsetDateTime,
    /// What the next refresh token is good for.
    pub generation: Generation,
}

/// Ends the session, or the token alone, of somebody who was just seen with it. Replies once that is
/// committed, and it is refused here.
pub struct Revoke {
    /// What ends.
    pub what: Revoked,
    /// Whose it was.
    pub user_id: UserId,
    /// Who wants it.
    pub by: Initiator,
}

/// What a revocation takes.
#[derive(Clone, Copy, Debug)]
pub enum Revoked {
    /// A session with all its tokens.
    Session(SessionId),
    /// One access token.
    Token(TokenId),
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
    /// There is no such session, or it is over.
    #[error("the session is over")]
    Over,
    /// The session is somebody else's.
    #[error("the session is somebody else's")]
    Foreign,
    /// The session of whoever wanted something has ended.
    #[error("the session of the initiator is over")]
    InitiatorOut,
    /// The account is gone, or not what it was when its owner proved to be that.
    #[error("the account has changed")]
    UserChanged,
    /// The account is the last that can manage the others.
    #[error("the account is the last administrator")]
    LastAdmin,
    /// There was no answer in time.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// The database did not do its part. Shared by all who were served together.
    #[error(transparent)]
    Store(Arc<StoreError>),
}

/// What waits for the next commit of revocations; `None` waits for those before.
type Commits = Rounds<Option<Ending>, Result<(), SessionError>>;

/// What waits for the next exchange of refresh tokens.
type Exchanges = Rounds<(SessionId, Generation), Exchanged>;

/// How the sessions of a round have moved on.
type Exchanged = Result<Arc<HashMap<SessionId, Result<Rotation, SessionError>>>, SessionError>;

/// A revocation, and what the audit log says about it.
struct Ending {
    revocation: Revocation,
    record: AuditRecord,
}

/// Owns the sessions and the revocations. What arrives while a commit is in flight goes into the next one together,
/// and so do exchanges of refresh tokens, and questions to the database.
pub struct SessionActor {
    work: Work,
    commits: Arc<Commits>,
    exchanges: Exchanges,
    lookups: Rounds<[RevocationId; 2], Result<Arc<HashSet<RevocationId>>, SessionError>>,
    following: Vec<JoinHandle<()>>,
}

impl SessionActor {
    /// Puts the actor together and loads every live revocation into the replica.
    ///
    /// # Errors
    /// When the revocations cannot be read.
    pub async fn load(
        config: &Config,
        store: Arc<dyn Store>,
        replica: Arc<Replica>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let settings = config.revocations;
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
        let work = Work {
            store,
            replica,
            settings,
            tokens: config.tokens.clone(),
            audit_retention: config.audit_retention,
            clock,
            metrics,
            deadline: config.http.request_timeout,
        };
        let (commit, exchange, look_up) = (work.clone(), work.clone(), work.clone());
        Ok(Self {
            work,
            commits: Arc::new(Rounds::start(COMMIT_LIMIT, async move |round| {
                commit.commit(round).await
            })),
            exchanges: Rounds::start(COMMIT_LIMIT, async move |round| {
                exchange.exchange(round).await
            }),
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
        let sweep = self.work.clone().sweep().into_actor(self);
        context.spawn(sweep.map(|(), actor, context| {
            context.run_later(actor.work.settings.sweep_interval, Self::sweep_regularly);
        }));
    }

    fn has_lost_a_part(&self) -> bool {
        self.commits.has_ended()
            || self.exchanges.has_ended()
            || self.lookups.has_ended()
            || self.following.iter().any(JoinHandle::is_finished)
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.sweep_regularly(context);
    }
}

impl Message for OpenSession {
    type Result = Result<Session, SessionError>;
}

impl Handler<OpenSession> for SessionActor {
    type Result = WhileAwaited<Result<Session, SessionError>>;

    fn handle(&mut self, message: OpenSession, _: &mut Self::Context) -> Self::Result {
        WhileAwaited::new(self.work.clone().open(message))
    }
}

impl Message for Refresh {
    type Result = Result<Refreshed, SessionError>;
}

impl Handler<Refresh> for SessionActor {
    type Result = ResponseFuture<Result<Refreshed, SessionError>>;

    fn handle(&mut self, message: Refresh, _: &mut Self::Context) -> Self::Result {
        // Not `WhileAwaited`: a thief who hangs up at once is found out all the same.
        let (work, span) = (self.work.clone(), message.span.clone());
        let exchanged = self.exchanges.join((message.session, message.presented));
        let commits = Arc::clone(&self.commits);
        let refresh = async move { work.refresh(message, exchanged, &commits).await };
        Box::pin(refresh.instrument(span))
    }
}

impl Message for ListSessions {
    type Result = Result<Vec<Session>, SessionError>;
}

impl Handler<ListSessions> for SessionActor {
    type Result = WhileAwaited<Result<Vec<Session>, SessionError>>;

    fn handle(&mut self, message: ListSessions, _: &mut Self::Context) -> Self::Result {
        WhileAwaited::new(self.work.clone().list(message.user_id))
    }
}

impl Message for EndSession {
    type Result = Result<(), SessionError>;
}

impl Handler<EndSession> for SessionActor {
    type Result = ResponseFuture<Result<(), SessionError>>;

    fn handle(&mut self, message: EndSession, _: &mut Self::Context) -> Self::Result {
        let (work, commits) = (self.work.clone(), Arc::clone(&self.commits));
        Box::pin(async move { work.end(message, &commits).await })
    }
}

impl Message for ChangeUser {
    type Result = Result<User, SessionError>;
}

impl Handler<ChangeUser> for SessionActor {
    type Result = ResponseFuture<Result<User, SessionError>>;

    fn handle(&mut self, message: ChangeUser, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.work.clone().change_user(message))
    }
}

impl Message for Revoke {
    type Result = Result<(), SessionError>;
}

impl Handler<Revoke> for SessionActor {
    type Result = ResponseFuture<Result<(), SessionError>>;

    fn handle(&mut self, message: Revoke, _: &mut Self::Context) -> Self::Result {
        let committed = self.commits.join(Some(self.work.ending_of(message)));
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

impl From<ChangeUserError> for SessionError {
    fn from(error: ChangeUserError) -> Self {
        match error {
            ChangeUserError::Gone => Self::UserChanged,
            ChangeUserError::InitiatorOut => Self::InitiatorOut,
            ChangeUserError::LastAdmin => Self::LastAdmin,
            ChangeUserError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for SessionError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}
