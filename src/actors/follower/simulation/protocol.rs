//! Messages between receivers and instances, and the wrong designs that the simulation must detect.

use std::time::Duration;

use time::OffsetDateTime;

use crate::domain::{FeedCursor, RevocationId};

/// Staleness bound of the receivers.
pub(super) const RECEIVER_BOUND: Duration = Duration::from_secs(10);

/// Design of the feed: the real one, and wrong ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Design {
    Real,
    /// Wrong: the cursor is the time of the latest reply's read.
    TimeStamp,
    /// Wrong: cursors are compared by their lowest and highest transaction.
    EndsOfSnapshot,
    /// Wrong: cursors of another server are served.
    AnyServer,
    /// Wrong: the log has only what was new to the replica, so it lacks what the instance has revoked
    /// itself.
    NewEntriesOnly,
    /// Wrong: the staleness is counted from the arrival of the reply.
    CountedFromArrival,
    /// Wrong: a stream of revocations, each message of which is taken for fresh.
    PushWithHeartbeats,
    /// Wrong: a reply to any request is taken for the one to the latest.
    WithoutNonce,
    /// Wrong: the cursor is adopted before the entries are applied.
    CursorFirst,
    /// Wrong: entries are forgotten by the time of day.
    ForgetByTimeOfDay,
    /// Wrong: entries are forgotten by the clock that staleness is counted with, which goes too fast
    /// rather than too slow.
    ForgetByElapsedTime,
    /// Wrong: staleness is counted with the monotonic clock alone, which stops while suspended.
    MonotonicClockAlone,
    /// Wrong: staleness is counted with the wall clock alone, which can be set back.
    WallClockAlone,
    /// Wrong: knowledge that was found too old counts again when the wall clock is set back.
    OutdatedForgiven,
    /// Wrong: knowledge that is too old when it is noted counts once the wall clock is set back.
    OutdatedWhenNoted,
    /// Wrong: the server keeps its identity when it recovers from a crash.
    SameAfterRecovery,
    /// Wrong: revocations whose read failed afterwards, at the keys or clients, are not read again.
    HalfRead,
}

/// Request of a receiver.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) cursor: Option<FeedCursor>,
    /// Cursor of [`Design::TimeStamp`].
    pub(super) since: Option<Duration>,
    pub(super) wait: Duration,
    pub(super) nonce: u64,
}

/// Reply of an instance.
#[derive(Clone)]
pub(super) struct Reply {
    pub(super) nonce: u64,
    pub(super) cursor: FeedCursor,
    /// Time of the read, as the cursor of [`Design::TimeStamp`].
    pub(super) read_at: Duration,
    pub(super) age_ms: i64,
    pub(super) now: OffsetDateTime,
    /// Ids, with their expiry in seconds since the Unix epoch.
    pub(super) revoked: Vec<(RevocationId, i64)>,
}
