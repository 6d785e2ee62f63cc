//! The log: the revocations of the latest reads, in the order of the reads, for the receivers of the
//! feed. `docs/revocation.md` proves what a receiver knows.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::domain::{FeedCursor, RevocationId, ServerId, Snapshot};

/// Number of rows of a full block. Small in tests, so that simulations fill the log.
const BLOCK_LEN: usize = if cfg!(test) { 4 } else { 1_024 };

/// Maximum number of blocks: 131,072 rows of 32 bytes, or 4 MiB.
const MAX_BLOCKS: usize = if cfg!(test) { 4 } else { 128 };

/// Log of the latest reads. A reader takes the [`LogView`] of one moment.
pub struct RevocationLog {
    latest: ArcSwap<LogView>,
    /// Wakes the receivers when the log has new rows.
    has_grown: Notify,
    /// Wakes those who wait for a read, whether it found rows or not.
    was_read: Notify,
    read_requests: Arc<Notify>,
}

/// Result of a read, for [`RevocationLog::publish`].
pub struct LogRead {
    /// Every row that the read returned, whether the replica held it or not: otherwise the log would
    /// lack the revocations of this instance.
    pub rows: Vec<LogRow>,
    /// Position after the rows.
    pub cursor: FeedCursor,
    /// Whether the rows are the whole table.
    pub is_full_reload: bool,
    /// Uptime at which the read began.
    pub began_at: Duration,
}

/// Row of the table of revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRow {
    pub id: RevocationId,
    /// Expiry in seconds since the Unix epoch.
    pub expires_at: i64,
    /// Transaction id, to which the snapshots refer.
    pub xid: u64,
}

/// State of the log after one read. It never changes.
#[derive(Clone, Debug)]
pub struct LogView {
    cursor: FeedCursor,
    /// Sees every row that the log lacks.
    floor: Snapshot,
    read_began_at: Duration,
    /// Oldest block first. All but the last one are full.
    blocks: Vec<Arc<Block>>,
}

/// Reply to a receiver.
#[derive(Clone, Debug)]
pub struct LogReply {
    /// Revocations that the receiver may lack.
    pub rows: Vec<LogRow>,
    /// Position after them.
    pub cursor: FeedCursor,
    /// Arrival of the request minus the beginning of the read that the reply is taken from, in
    /// milliseconds, rounded up. Negative if the read began later.
    pub age_ms: i64,
}

/// Part of the log. Views share the blocks.
#[derive(Clone, Debug)]
struct Block {
    rows: Vec<LogRow>,
    /// Sees every row of this block and of those before.
    seen_by: Snapshot,
}

impl RevocationLog {
    /// Creates a log without a read.
    pub(super) fn new() -> Self {
        let snapshot = Snapshot::below(0);
        let view = LogView {
            floor: snapshot.clone(),
            cursor: FeedCursor { server: ServerId([0; 8]), snapshot },
            read_began_at: Duration::ZERO,
            blocks: Vec::new(),
        };
        Self {
            latest: ArcSwap::from_pointee(view),
            has_grown: Notify::new(),
            was_read: Notify::new(),
            read_requests: Arc::default(),
        }
    }

    /// Publishes a read, after the replica has its rows. Only the follower calls this.
    pub fn publish(&self, read: LogRead) {
        let has_rows = !read.rows.is_empty();
        self.latest.store(Arc::new(self.latest.load().after(read)));
        self.was_read.notify_waiters();
        if has_rows {
            self.has_grown.notify_waiters();
        }
    }

    /// Returns the state after the latest read.
    #[must_use]
    pub fn latest(&self) -> Arc<LogView> {
        self.latest.load_full()
    }

    /// Waits until the log has rows that a cursor does not see.
    pub async fn wait_for_rows(&self, cursor: &FeedCursor) {
        loop {
            let has_grown = self.has_grown.notified();
            if self.latest.load().rows_after(&cursor.snapshot).next().is_some() {
                return;
            }
            has_grown.await;
        }
    }

    /// Causes a read.
    pub fn request_read(&self) {
        self.read_requests.notify_one();
    }

    /// Causes a read, and waits until one is published that began at `uptime` or later.
    pub async fn wait_for_read(&self, uptime: Duration) {
        self.request_read();
        loop {
            let was_read = self.was_read.notified();
            if self.latest.load().read_began_at >= uptime {
                return;
            }
            was_read.await;
        }
    }

    /// Returns what tells the follower to read.
    #[must_use]
    pub fn read_requests(&self) -> Arc<Notify> {
        Arc::clone(&self.read_requests)
    }
}

impl LogView {
    /// Returns the position after the latest read.
    #[must_use]
    pub fn cursor(&self) -> &FeedCursor {
        &self.cursor
    }

    /// Returns the uptime at which the latest read began. Everything that was committed before is in
    /// the log, or below its floor.
    #[must_use]
    pub fn read_began_at(&self) -> Duration {
        self.read_began_at
    }

    /// Returns `true` if the log has every row that a cursor does not see.
    #[must_use]
    pub fn serves(&self, cursor: &FeedCursor) -> bool {
        cursor.server == self.cursor.server && cursor.snapshot.sees_all_of(&self.floor)
    }

    /// Returns the reply to a receiver that knows everything a cursor sees, `None` if the log does not
    /// serve the cursor.
    #[must_use]
    pub fn reply(&self, known: &FeedCursor, arrived_at: Duration) -> Option<LogReply> {
        if !self.serves(known) {
            return None;
        }
        // The receiver may have got its cursor from an instance that is ahead.
        let is_ahead = known.snapshot.sees_all_of(&self.cursor.snapshot);
        let cursor = if is_ahead { known.clone() } else { self.cursor.clone() };
        let rows = self.rows_after(&known.snapshot).copied().collect();
        Some(LogReply { rows, cursor, age_ms: age_in_millis(arrived_at, self.read_began_at) })
    }

    /// Returns the rows that a snapshot does not see. The log must serve the cursor that has it.
    pub fn rows_after(&self, snapshot: &Snapshot) -> impl Iterator<Item = &LogRow> {
        let blocks = self.blocks.iter().rev();
        let blocks = blocks.take_while(|block| !snapshot.sees_all_of(&block.seen_by));
        blocks.flat_map(|block| &block.rows).filter(|row| !snapshot.sees(row.xid))
    }

    fn after(&self, read: LogRead) -> Self {
        let LogRead { rows, cursor, is_full_reload, began_at } = read;
        if is_full_reload {
            return Self::from_table(rows, cursor, began_at);
        }
        let mut view = Self { cursor, read_began_at: began_at, ..self.clone() };
        view.append(&rows);
        view
    }

    /// Creates the view after a read of the whole table. It has the rows with the highest ids.
    fn from_table(mut rows: Vec<LogRow>, cursor: FeedCursor, began_at: Duration) -> Self {
        // Rows from a dump can have ids that this server has not assigned yet. Every complete
        // reply has them, and each cursor of this server starts from one.
        rows.retain(|row| cursor.snapshot.sees(row.xid));
        let excess = rows.len().saturating_sub(BLOCK_LEN * MAX_BLOCKS);
        let mut floor = Snapshot::below(0);
        if let Some(last) = excess.checked_sub(1) {
            let (_, highest, _) = rows.select_nth_unstable_by_key(last, |row| row.xid);
            floor = cursor.snapshot.truncated(highest.xid + 1);
            rows.drain(..excess);
        }
        rows.sort_unstable_by_key(|row| row.xid);
        let block = |rows: &[LogRow]| {
            let end = rows.last().map_or(0, |row| row.xid + 1);
            Arc::new(Block { rows: rows.to_vec(), seen_by: cursor.snapshot.truncated(end) })
        };
        let blocks = rows.chunks(BLOCK_LEN).map(block).collect();
        Self { cursor, floor, read_began_at: began_at, blocks }
    }

    /// Appends the rows of a read after which the cursor is that of the view.
    fn append(&mut self, mut rows: &[LogRow]) {
        let seen_by = &self.cursor.snapshot;
        while !rows.is_empty() {
            if self.blocks.last().is_none_or(|block| block.rows.len() == BLOCK_LEN) {
                let block = Block { rows: Vec::new(), seen_by: seen_by.clone() };
                self.blocks.push(Arc::new(block));
            }
            let Some(last) = self.blocks.last_mut().map(Arc::make_mut) else { return };
            let (fitting, rest) = rows.split_at(rows.len().min(BLOCK_LEN - last.rows.len()));
            last.rows.extend_from_slice(fitting);
            last.seen_by = seen_by.clone();
            rows = rest;
        }
        let excess = self.blocks.len().saturating_sub(MAX_BLOCKS);
        if let Some(dropped) = self.blocks.drain(..excess).next_back() {
            self.floor = dropped.seen_by.clone();
        }
    }
}

/// Returns the time from the beginning of a read until a request arrived, rounded up.
fn age_in_millis(arrived_at: Duration, read_began_at: Duration) -> i64 {
    let micros = |uptime: Duration| i64::try_from(uptime.as_micros()).unwrap_or(i64::MAX);
    // The microsecond is for what the conversion has cut off.
    let youth = micros(read_began_at).saturating_sub(micros(arrived_at)).saturating_sub(1);
    -youth.div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const SERVER: ServerId = ServerId(*b"a server");
    const CAPACITY: u64 = (BLOCK_LEN * MAX_BLOCKS) as u64;

    fn row(xid: u64) -> LogRow {
        LogRow { id: Uuid::from_u128(xid.into()).into(), expires_at: 0, xid }
    }

    fn cursor(snapshot: Snapshot) -> FeedCursor {
        FeedCursor { server: SERVER, snapshot }
    }

    fn read(rows: impl IntoIterator<Item = u64>, snapshot: Snapshot, is_full: bool) -> LogRead {
        LogRead {
            rows: rows.into_iter().map(row).collect(),
            cursor: cursor(snapshot),
            is_full_reload: is_full,
            began_at: Duration::from_secs(1),
        }
    }

    /// Returns a log that has read a table with the ids from 1 to `last`.
    fn loaded(last: u64) -> RevocationLog {
        let log = RevocationLog::new();
        log.publish(read((1..=last).rev(), Snapshot::below(last + 1), true));
        log
    }

    fn xids(reply: &LogReply) -> BTreeSet<u64> {
        reply.rows.iter().map(|row| row.xid).collect()
    }

    fn reply(log: &RevocationLog, snapshot: Snapshot) -> Option<LogReply> {
        log.latest().reply(&cursor(snapshot), Duration::from_secs(1))
    }

    #[test]
    fn load_leaves_out_the_oldest_rows() {
        let log = loaded(CAPACITY);
        assert_eq!(xids(&reply(&log, Snapshot::below(0)).unwrap()), (1..=CAPACITY).collect());

        let log = loaded(CAPACITY + 3);
        assert!(reply(&log, Snapshot::below(3)).is_none());
        assert_eq!(xids(&reply(&log, Snapshot::below(4)).unwrap()), (4..=CAPACITY + 3).collect());
    }

    #[test]
    fn row_with_an_id_that_is_not_assigned_yet_is_left_out() {
        let log = RevocationLog::new();
        log.publish(read([3, 4_000], Snapshot::below(10), true));

        assert_eq!(xids(&reply(&log, Snapshot::below(0)).unwrap()), [3].into());
    }

    #[test]
    fn cursor_of_another_server_is_not_served() {
        let log = loaded(3);
        let foreign = FeedCursor { server: ServerId([1; 8]), snapshot: Snapshot::below(4) };

        assert!(log.latest().reply(&foreign, Duration::ZERO).is_none());
    }

    #[test]
    fn cursor_that_is_ahead_comes_back() {
        let log = loaded(3);
        let reply = reply(&log, Snapshot::below(9)).unwrap();

        assert_eq!((reply.rows, reply.cursor), (Vec::new(), cursor(Snapshot::below(9))));
    }

    #[test]
    fn age_is_rounded_up() {
        let began_at = Duration::from_secs(1);
        for (arrived_at, age_ms) in
            [(1_000_000, 1), (1_000_999, 1), (1_001_000, 2), (998_500, -1), (990_000, -9)]
        {
            let arrived_at = Duration::from_micros(arrived_at);
            assert_eq!(age_in_millis(arrived_at, began_at), age_ms, "{arrived_at:?}");
        }
    }

    proptest! {
        /// Transactions end in any order; a reply to a cursor of any earlier moment has every row
        /// that the cursor does not see, or there is none.
        #[test]
        fn reply_lacks_no_row(
            order in Just((1..80_u64).collect::<Vec<_>>()).prop_shuffle(),
            window in 1..20_usize,
            reads in prop::collection::vec(1..12_usize, 1..40),
            asked in any::<prop::sample::Index>(),
        ) {
            // Transactions end nearly in their order: each within a window.
            let mut ends: Vec<(u64, u64)> = (1..80).map(|xid| {
                let delay = order[usize::try_from(xid).unwrap() - 1] % window as u64;
                (xid + delay, xid)
            }).collect();
            ends.sort_unstable();
            let log = RevocationLog::new();
            log.publish(read([], Snapshot::below(1), true));
            let mut cursors = vec![Snapshot::below(1)];
            let mut ended = BTreeSet::new();
            let mut rest = ends.iter().map(|(_, xid)| *xid);
            for count in reads {
                let rows: Vec<u64> = rest.by_ref().take(count).collect();
                ended.extend(rows.iter().copied());
                let xmax = ended.last().map_or(1, |last| last + 1);
                let in_progress = (1..xmax).filter(|xid| !ended.contains(xid)).collect();
                let snapshot = Snapshot::new(xmax, in_progress).unwrap();
                cursors.push(snapshot.clone());
                log.publish(read(rows, snapshot, false));
            }
            let known = asked.get(&cursors);
            if let Some(reply) = reply(&log, known.clone()) {
                let missing: BTreeSet<u64> =
                    ended.iter().copied().filter(|xid| !known.sees(*xid)).collect();
                prop_assert_eq!(xids(&reply), missing);
                prop_assert!(reply.cursor.snapshot.sees_all_of(known));
            } else {
                prop_assert!(ended.len() as u64 > CAPACITY - BLOCK_LEN as u64);
            }
        }
    }
}
