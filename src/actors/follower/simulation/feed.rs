//! Model of the connection of an instance to the database. Its reads fail, stall or lose their
//! answers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use tokio::time::sleep;

use super::database::{Database, Server, World, revocation};
use crate::domain::{ClientSet, FeedCursor, KeySet, ServerId, Snapshot};
use crate::store::{Feed, FeedBatch, FeedEntry, StoreError};

/// Kinds of cursor of a model feed: the real one, and wrong ones that the simulation must detect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CursorKind {
    /// The real one: the snapshot of the latest read.
    Snapshot,
    /// Wrong: the highest number read, as with a serial column.
    Serial,
    /// Wrong: the end of the snapshot, without the transactions in progress.
    EndOfSnapshot,
    /// Wrong: adopted before the answer has arrived.
    Hasty,
    /// Wrong: kept when the database is replaced.
    Trusting,
    /// Wrong: kept when the database has recovered from a crash.
    SameAfterRecovery,
    /// Wrong: kept when the keys or the clients of a read could not be read.
    HalfRead,
}

/// Connection of an instance to the database.
pub(super) struct ModelFeed {
    world: Arc<World>,
    rng: Rng,
    cursor_kind: CursorKind,
    /// Longest wait for a healthy step.
    usual_wait: Duration,
    read_up_to: Option<(ServerId, Snapshot, u64)>,
}

#[async_trait]
impl Feed for ModelFeed {
    async fn read(&mut self, timeout: Duration) -> Result<FeedBatch, StoreError> {
        let is_calm = self.world.is_calm();
        let fate = if is_calm { 9 } else { self.rng.u8(..12) };
        sleep(self.random_wait(timeout, is_calm)).await;
        if fate == 0 {
            return Err(StoreError::Replica);
        }
        let (batch, end) = self.world.read(|database| self.read_from(database));
        if self.cursor_kind == CursorKind::Hasty {
            self.read_up_to = Some(end.clone());
        }
        // Each part of the answer arrives in time; the whole may take long.
        for _ in 0..self.rng.u8(1..4) {
            sleep(self.random_wait(timeout, is_calm)).await;
        }
        if fate == 1 {
            sleep(timeout).await;
            return Err(StoreError::Timeout(timeout));
        }
        self.read_up_to = Some(end);
        Ok(batch)
    }

    async fn read_keys(&mut self, timeout: Duration) -> Result<KeySet, StoreError> {
        let version = self.read_version(timeout).await?;
        Ok(KeySet { version, ..KeySet::default() })
    }

    async fn read_clients(&mut self, timeout: Duration) -> Result<ClientSet, StoreError> {
        let version = self.read_version(timeout).await?;
        Ok(ClientSet { version, ..ClientSet::default() })
    }

    fn request_full_reload(&mut self) {
        if self.cursor_kind != CursorKind::HalfRead {
            self.read_up_to = None;
        }
    }
}

impl ModelFeed {
    pub(super) fn new(
        world: &Arc<World>,
        rng: Rng,
        usual_wait: Duration,
        kind: CursorKind,
    ) -> Self {
        let world = Arc::clone(world);
        Self { world, rng, cursor_kind: kind, usual_wait, read_up_to: None }
    }

    fn random_wait(&mut self, timeout: Duration, is_calm: bool) -> Duration {
        let longest = if is_calm || self.rng.u8(..4) > 0 { self.usual_wait } else { timeout };
        longest.mul_f64(self.rng.f64())
    }

    async fn read_version(&mut self, timeout: Duration) -> Result<i64, StoreError> {
        let is_calm = self.world.is_calm();
        sleep(self.random_wait(timeout, is_calm)).await;
        if !is_calm && self.rng.u8(..8) == 0 {
            return Err(StoreError::Timeout(timeout));
        }
        Ok(self.world.read(|database| database.version_at(self.world.at())))
    }

    fn server(&self, database: &Database) -> ServerId {
        let Server { restores, mut recoveries } = database.server;
        if self.cursor_kind == CursorKind::SameAfterRecovery {
            recoveries = 0;
        }
        ServerId((u64::from(restores) << 32 | u64::from(recoveries)).to_be_bytes())
    }

    fn read_from(&self, database: &Database) -> (FeedBatch, (ServerId, Snapshot, u64)) {
        let server = self.server(database);
        let seen = database.snapshot();
        let highest = database.rows().iter().map(|row| row.xid).max().unwrap_or(0);
        let cursor = self.read_up_to.as_ref().filter(|(known, before, _)| {
            self.cursor_kind == CursorKind::Trusting
                || (*known == server && seen.sees_all_of(before))
        });
        let is_new = |xid: u64| match (cursor, self.cursor_kind) {
            (None, _) => true,
            (Some((_, _, highest)), CursorKind::Serial) => xid > *highest,
            (Some((_, before, _)), CursorKind::EndOfSnapshot) => xid >= before.xmax(),
            (Some((_, before, _)), _) => !before.sees(xid),
        };
        let rows = database.rows().iter().filter(|row| is_new(row.xid));
        let read_at = self.world.database_time();
        let entries = rows.map(|row| FeedEntry {
            revocation: revocation(row.number),
            xid: row.xid,
            revoked_at: read_at,
        });
        let is_full_reload = cursor.is_none();
        let entries = entries.collect();
        let version = database.version_at(self.world.at());
        let cursor = FeedCursor { server, snapshot: seen.clone() };
        let batch = FeedBatch { entries, read_at, version, is_full_reload, cursor };
        (batch, (server, seen, highest))
    }
}
