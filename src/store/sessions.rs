//! Sessions: their trait, and the types and row parsing that both dialects share.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::error::StoreError;
use crate::domain::{AuditRecord, Generation, Session, SessionId, User, UserId, UserVersion};

/// Maximum number of sessions in a list.
pub(super) const SESSIONS_LISTED: u32 = 1_000;

/// Storage of sessions.
#[async_trait]
pub trait SessionStore {
    /// Inserts a session in its first generation, with its audit record, in one commit.
    ///
    /// Returns `false` and inserts nothing if the account no longer has the given version.
    async fn insert_session(
        &self,
        new: &Session,
        version: UserVersion,
        record: &AuditRecord,
    ) -> Result<bool, StoreError>;

    /// Finds a session, expired or not.
    async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreError>;

    /// Compare-and-sets each session from its presented generation to the next one, all in one
    /// commit, and returns the current generation of each.
    ///
    /// Sessions that have ended, have expired by `now` or were last used before `used_since` are
    /// absent from the result. An account that does not parse fails only its own sessions; their
    /// new generation is committed like the others.
    async fn rotate_sessions(
        &self,
        presented: &HashMap<SessionId, Generation>,
        now: OffsetDateTime,
        used_since: Option<OffsetDateTime>,
    ) -> Result<Rotations, StoreError>;

    /// Lists at most 1,000 sessions of an account that expire after `now`, most recently used
    /// first.
    async fn list_sessions(
        &self,
        user: UserId,
        now: OffsetDateTime,
    ) -> Result<Vec<Session>, StoreError>;

    /// Deletes at most `limit` sessions that expired before `now` and before the time by the clock
    /// of the database: a single wrong clock deletes nothing. Returns their number.
    async fn delete_expired_sessions(
        &self,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<u64, StoreError>;
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
    /// Time since the session entered this generation, by the clock of the database.
    pub age: Duration,
}

/// Results of the exchanges in one commit.
pub type Rotations = HashMap<SessionId, Result<Rotation, StoreError>>;

pub(super) fn parse_generation(number: i64) -> Result<Generation, StoreError> {
    u64::try_from(number)
        .map(Generation::from)
        .map_err(|error| StoreError::inconsistent("sessions", "generation", error))
}

/// Parses an age in microseconds. It is negative after the clock was set back, which counts as 0.
pub(super) fn parse_age(micros: i64) -> Duration {
    Duration::from_micros(micros.try_into().unwrap_or(0))
}
