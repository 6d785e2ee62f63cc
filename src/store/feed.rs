//! The feed of revocations: how an instance learns what others have revoked. What it promises, and
//! why, is in `docs/revocation.md`.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::time::timeout;

use super::StoreError;
use crate::domain::Revocation;

/// A reader of the revocations that remembers what it has read.
#[async_trait]
pub trait Feed: Send {
    /// Reads the revocations that have been committed since the last read that succeeded; all of
    /// them at the first, and whenever the database is not the one that was read before. Fails when
    /// nothing arrives for as long as `patience`; what is given up, or dropped, is read again.
    async fn read(&mut self, patience: Duration) -> Result<News, StoreError>;

    /// Forgets what was read: the next read is one of the whole table.
    fn rewind(&mut self);
}

/// What a read has brought.
#[derive(Clone, Debug)]
pub struct News {
    /// Revocations in no order; some may have been read before.
    pub entries: Vec<Entry>,
    /// When it was read, by the clock of the database.
    pub read_at: OffsetDateTime,
    /// Whether this is the whole table.
    pub is_whole: bool,
}

/// A revocation as the feed shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The revocation.
    pub revocation: Revocation,
    /// When it was made, by the clock of the database, just before its commit.
    pub revoked_at: OffsetDateTime,
}

/// Somebody whom the database tells that there is something to read. It may forget to: this only
/// makes things faster.
#[async_trait]
pub trait Listener: Send {
    /// Begins to listen. Fails when that takes longer than `patience`.
    async fn connect(&mut self, patience: Duration) -> Result<(), StoreError>;

    /// Waits for the next hint. Fails when the connection is lost, or answers nothing for as long as
    /// `patience`; then it has to be made anew.
    async fn hear(&mut self, patience: Duration) -> Result<(), StoreError>;
}

/// Waits for a part of a read, but not without end.
pub(super) async fn within<T>(
    patience: Duration,
    part: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match timeout(patience, part).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(StoreError::Silent(patience)),
    }
}
