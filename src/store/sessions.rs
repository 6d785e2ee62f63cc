//! Sessions: their trait, and the types and row parsing that both dialects share.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::error::StoreError;
use super::revocations::{CommittedRevocations, LockedSessions};
use super::users::WriteError;
#[cfg(doc)]
use crate::domain::REVOCATIONS_PER_USER;
use crate::domain::{
    AccountError, Audience, AuditRecord, Generation, Permissions, RequestOrigin, Session,
    SessionId, SessionPosition, TokenUse, User, UserId, UserVersion,
};

/// Storage of sessions.
#[async_trait]
pub trait SessionStore {
    /// Inserts a session in its first generation, with its audit record, in one commit. Permissions
    /// that are taken from a role of the account later, end the session; its result is the
    /// present ones.
    ///
    /// Inserts nothing and returns [`AccountError::Changed`] if the account no longer has the given
    /// version, or [`AccountError::TooManyRevocations`] if it has more than
    /// [`REVOCATIONS_PER_USER`] live revocations.
    async fn insert_session(
        &self,
        new: &Session,
        version: UserVersion,
        limit: u32,
        record: &AuditRecord,
    ) -> Result<OpenedSession, WriteError>;

    /// Finds a session, expired or not.
    async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreError>;

    /// Exchanges the presented token of each session, all in one commit, and judges its generation:
    ///
    /// - The current generation moves the session to the next one, and its origin becomes that of
    ///   the latest use of the session.
    /// - The generation of the latest exchange gets the current one again within the reuse grace
    ///   period, and a new one within the retry period.
    /// - Every other generation leaves the session as it is.
    ///
    /// Each session keeps the latest expiry of its access tokens: no later than `tokens_expire_at`
    /// and its own expiry. Sessions that have ended, have expired by `now` or were last used before
    /// `used_since` are absent from the result. An account that does not parse fails only its own
    /// sessions; their new generation is committed like the others. Nothing is done to a session in
    /// [`Rotations::locked`].
    async fn rotate_sessions(
        &self,
        presented: &HashMap<SessionId, PresentedToken>,
        now: OffsetDateTime,
        used_since: Option<OffsetDateTime>,
        tokens_expire_at: OffsetDateTime,
        locked: LockedSessions,
    ) -> Result<Rotations, StoreError>;

    /// Counts a revocation of a single access token of a session, or of a client's secret. Returns the
    /// number so far, `None` if the session has ended.
    async fn count_token_revocation(&self, id: SessionId) -> Result<Option<u32>, StoreError>;

    /// Lists sessions of an account that expire after `now`, most recently used first.
    async fn list_sessions(
        &self,
        query: &SessionQuery,
        now: OffsetDateTime,
    ) -> Result<Vec<Session>, StoreError>;

    /// Ends at most `limit` sessions of all accounts, those after an id in the order of ids; `None`
    /// is before all. Fewer are the last ones.
    async fn end_sessions(
        &self,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<CommittedRevocations, StoreError>;

    /// Deletes at most `limit` sessions that expired before `now` and before the time by the clock
    /// of the database: a single wrong clock deletes nothing. Returns their number.
    async fn delete_expired_sessions(
        &self,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<u64, StoreError>;
}

/// Result of the insertion of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedSession {
    /// Permissions of the account.
    pub permissions: Permissions,
    /// Sessions of the account beyond the limit, longest unused last. They are to be ended.
    pub excess: Vec<SessionId>,
}

/// Page of the list of the sessions of an account.
#[derive(Clone, Copy, Debug)]
pub struct SessionQuery {
    pub user_id: UserId,
    /// Position of the last session of the previous page.
    pub after: Option<SessionPosition>,
    /// Maximum number of sessions.
    pub limit: u32,
}

/// Refresh token of a session, as a client has presented it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentedToken {
    /// Generation that the token is valid for.
    pub generation: Generation,
    pub origin: RequestOrigin,
}

/// State of a session after an exchange of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Account of the session.
    pub user: User,
    /// Expiry of the session.
    pub expires_at: OffsetDateTime,
    /// Current generation of the session.
    pub generation: Generation,
    /// Audience of the access tokens; `None` for the default one.
    pub audience: Option<Audience>,
    /// Judgement about the presented generation.
    pub token_use: TokenUse,
}

/// Results of the exchanges in one commit.
#[derive(Debug, Default)]
pub struct Rotations {
    /// Results of the sessions that are open.
    pub rotated: HashMap<SessionId, Result<Rotation, StoreError>>,
    /// Sessions that were skipped, since another transaction has locked them.
    pub locked: HashSet<SessionId>,
}

/// Refuses a session at a time `now`, until enough revocations of its account have expired.
pub(super) fn too_many_revocations(until: OffsetDateTime, now: OffsetDateTime) -> WriteError {
    let retry_after = Duration::try_from(until - now).unwrap_or_default();
    AccountError::TooManyRevocations { retry_after }.into()
}

pub(super) fn parse_generation(number: i64) -> Result<Generation, StoreError> {
    u64::try_from(number)
        .map(Generation::from)
        .map_err(|error| StoreError::inconsistent("sessions", "generation", error))
}

/// Judges a presented generation by the state of its session after the exchange. `is_accepted`
/// tells that the latest exchange consumed it, recently enough; `is_first` that this was just now.
pub(super) fn token_use(
    presented: Generation,
    current: Generation,
    is_accepted: bool,
    is_first: bool,
) -> TokenUse {
    match (is_accepted, is_first) {
        (true, true) => TokenUse::Exchange,
        (true, false) => TokenUse::Retry,
        (false, _) if presented < current => TokenUse::Replay,
        (false, _) => TokenUse::Unknown,
    }
}
