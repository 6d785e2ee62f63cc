//! The feed of revocations, through which each instance learns of the revocations of the others.
//! `docs/revocation.md` specifies its guarantees.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::error::StoreError;
use crate::domain::{ClientSet, FeedCursor, KeySet, Revocation};

/// Reader of the revocations with a cursor, of the signing keys and of the clients.
#[async_trait]
pub trait Feed: Send {
    /// Reads the revocations that were committed since the last successful read. The first read
    /// returns all of them, and so does the first read from a different database.
    ///
    /// Returns [`StoreError::Timeout`] if no data arrives for as long as `timeout`. The revocations
    /// of a read that failed or was dropped are read again.
    async fn read(&mut self, timeout: Duration) -> Result<FeedBatch, StoreError>;

    /// Reads all signing keys through the same connection.
    ///
    /// Returns [`StoreError::Timeout`] if it takes longer than `timeout`.
    async fn read_keys(&mut self, timeout: Duration) -> Result<KeySet, StoreError>;

    /// Reads all clients through the same connection.
    ///
    /// Returns [`StoreError::Timeout`] if it takes longer than `timeout`.
    async fn read_clients(&mut self, timeout: Duration) -> Result<ClientSet, StoreError>;

    /// Resets the cursor: the next read is a full reload.
    fn request_full_reload(&mut self);
}

/// Result of one read of the feed.
#[derive(Clone, Debug)]
pub struct FeedBatch {
    /// Revocations, in no particular order. Some may have been read before.
    pub entries: Vec<FeedEntry>,
    /// Time of the read, by the clock of the database.
    pub read_at: OffsetDateTime,
    /// Version of the shared state. The signing keys and the clients have to be read if it differs
    /// from theirs.
    pub version: i64,
    /// Whether the batch contains the whole table.
    pub is_full_reload: bool,
    /// Position after the batch: it sees every revocation that this batch or an earlier one contains.
    pub cursor: FeedCursor,
}

/// Revocation in the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedEntry {
    pub revocation: Revocation,
    /// Transaction id; a position on SQLite. The snapshot of the cursor refers to it.
    pub xid: u64,
    /// Time of its insertion, just before the commit, by the clock of the database.
    pub revoked_at: OffsetDateTime,
}

/// Listener for notifications of new revocations. Notifications may be lost: they only shorten the
/// delay of the next read.
#[async_trait]
pub trait Listener: Send {
    /// Connects and starts to listen.
    ///
    /// Returns [`StoreError::Timeout`] if a step takes longer than `timeout`.
    async fn connect(&mut self, timeout: Duration) -> Result<(), StoreError>;

    /// Waits for the next notification, as long as the connection responds to checks within
    /// `timeout`.
    ///
    /// After an error the connection is lost; call [`Listener::connect`] again.
    async fn wait_for_notification(&mut self, timeout: Duration) -> Result<(), StoreError>;
}

/// Awaits one step of a read, at most for as long as `timeout`.
pub(super) async fn with_timeout<T, E: Into<StoreError>>(
    timeout: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(timeout, step).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(StoreError::Timeout(timeout)),
    }
}
