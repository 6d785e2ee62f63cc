//! The replica: every live revocation, in memory. A check does no I/O and takes no lock that a
//! writer can hold. `docs/revocation.md` proves its freshness.

mod filter;
mod log;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use time::OffsetDateTime;

use crate::clock::Clock;
use crate::domain::{CLOCK_SKEW_ALLOWANCE, FeedCursor, Revocation, RevocationId};
use filter::Filter;
pub use log::{LogRead, LogReply, LogRow, LogView, RevocationLog};

/// Result of a check against the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not revoked, as of at most the staleness bound ago.
    Clear,
    /// Revoked.
    Revoked,
    /// The replica is stale or incomplete: only the database can tell.
    Unknown,
}

/// Live revocations. An entry leaves at its expiry, or by eviction when the replica is full.
pub struct Replica {
    entries: Cache<RevocationId, Entry>,
    /// Answers most checks alone: a lookup among a million entries waits six times for memory.
    filter: Arc<Filter>,
    len: Arc<AtomicU64>,
    capacity: u64,
    /// Number of insertions into a full replica, each of which may evict an entry.
    overflows: AtomicU64,
    /// Value of `overflows` at the start of the latest full reload: evictions before it are
    /// repaired.
    repaired_overflows: AtomicU64,
    /// Uptime in nanoseconds up to which all commits are applied; 0 before the first read.
    known_until: AtomicU64,
    log: RevocationLog,
    max_staleness: Duration,
    clock: Arc<dyn Clock>,
}

/// Start of a read of the database, for [`Replica::finish_read`].
#[derive(Clone, Copy, Debug)]
pub struct ReadStart {
    /// Uptime at which the read starts.
    pub started_at: Duration,
    /// Number of overflows that a full reload repairs; `None` if an eviction may be pending.
    repairable_overflows: Option<u64>,
}

/// Value of an entry.
#[derive(Clone, Copy)]
struct Entry {
    /// Expiry of the revocation, in seconds since the Unix epoch.
    expires_at: i64,
    /// Time until the entry leaves, in seconds, from its insertion on.
    time_to_live: u32,
}

struct PerEntryExpiry;

impl Expiry<RevocationId, Entry> for PerEntryExpiry {
    fn expire_after_create(&self, _: &RevocationId, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(Duration::from_secs(entry.time_to_live.into()))
    }

    fn expire_after_update(
        &self,
        _: &RevocationId,
        entry: &Entry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(Duration::from_secs(entry.time_to_live.into()))
    }
}

impl Replica {
    /// Creates an empty replica of at most `capacity` revocations, which is stale `max_staleness`
    /// after the start of its latest read.
    #[must_use]
    pub fn new(capacity: u64, max_staleness: Duration, clock: Arc<dyn Clock>) -> Self {
        let len = Arc::new(AtomicU64::new(0));
        let filter = Arc::new(Filter::with_capacity(capacity));
        let evicted_len = Arc::clone(&len);
        let evicted_filter = Arc::clone(&filter);
        let entries = Cache::builder()
            .max_capacity(capacity)
            // The default policy may reject a new entry; a new revocation must be admitted.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(PerEntryExpiry)
            .eviction_listener(move |id, _, _| {
                evicted_filter.remove(*id);
                evicted_len.fetch_sub(1, Ordering::Relaxed);
            })
            .build();
        Self {
            entries,
            filter,
            len,
            capacity,
            overflows: AtomicU64::new(0),
            repaired_overflows: AtomicU64::new(0),
            known_until: AtomicU64::new(0),
            log: RevocationLog::new(),
            max_staleness,
            clock,
        }
    }

    /// Applies a committed revocation. Returns `true` if it is new or expires later than known. The
    /// order and repetition of calls do not matter: of several expiries the latest holds.
    ///
    /// `now` is the database's time. The host's clock may be wrong: an entry that it expires too
    /// early would be missing once the clock is right again.
    pub fn apply(&self, revocation: &Revocation, now: OffsetDateTime) -> bool {
        let Some(time_to_live) = time_to_live(revocation, now) else { return false };
        let expires_at = revocation.expires_at.unix_timestamp();
        if self.expiry_of(revocation.id).is_some_and(|known| known >= expires_at) {
            return false;
        }
        // Counted before the insertion that may evict: a reader that misses the evicted entry sees
        // it.
        if self.len.fetch_add(1, Ordering::Relaxed) >= self.capacity {
            self.overflows.fetch_add(1, Ordering::Release);
        }
        self.filter.add(revocation.id);
        self.entries.insert(revocation.id, Entry { expires_at, time_to_live });
        true
    }

    /// Applies revocations that this instance has committed. The log has them after the next read, which
    /// this causes: receivers of the feed get them at once, also where the database sends no
    /// notifications. `now` is the database's time.
    pub fn apply_own<'r>(
        &self,
        revocations: impl IntoIterator<Item = &'r Revocation>,
        now: OffsetDateTime,
    ) {
        for revocation in revocations {
            self.apply(revocation, now);
        }
        self.log.request_read();
    }

    /// Marks the start of a read of the database.
    #[must_use]
    pub fn begin_read(&self) -> ReadStart {
        let started_at = self.clock.uptime();
        let overflows = self.overflows.load(Ordering::Acquire);
        if self.is_complete() {
            return ReadStart { started_at, repairable_overflows: Some(overflows) };
        }
        // moka evicts later than at the insertion. An eviction after the reload has found the entry
        // in place would go unnoticed.
        self.entries.run_pending_tasks();
        let is_settled = self.len() <= self.capacity;
        ReadStart { started_at, repairable_overflows: is_settled.then_some(overflows) }
    }

    /// Marks the end of a read whose revocations are all applied: the replica knows every commit
    /// before the start of the read. A full reload also restores evicted entries.
    pub fn finish_read(&self, read: ReadStart, is_full_reload: bool) {
        if let (true, Some(overflows)) = (is_full_reload, read.repairable_overflows) {
            self.repaired_overflows.store(overflows, Ordering::Release);
        }
        let started_at = u64::try_from(read.started_at.as_nanos()).unwrap_or(u64::MAX);
        self.known_until.fetch_max(started_at, Ordering::Release);
    }

    /// Checks whether any of the ids, of a token, its session and its key, is revoked.
    #[must_use]
    pub fn check<const N: usize>(&self, ids: [RevocationId; N]) -> Verdict {
        // Freshness is loaded before the lookup: a read that finishes meanwhile knows entries that
        // the lookup did not see. The overflow count and the time are loaded after it: a thread
        // that was delayed meanwhile answers `Unknown`.
        let known_until = self.known_until();
        let repaired = self.repaired_overflows.load(Ordering::Acquire);
        if ids.into_iter().any(|id| self.contains(id)) {
            Verdict::Revoked
        } else if self.has_overflowed_since(repaired) || !self.is_within_bound(known_until) {
            Verdict::Unknown
        } else {
            Verdict::Clear
        }
    }

    /// Returns `true` if the replica holds every live revocation it has read: from an eviction
    /// until the end of a full reload it does not.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.has_overflowed_since(self.repaired_overflows.load(Ordering::Acquire))
    }

    /// Returns `true` if the replica is not stale.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.is_within_bound(self.known_until())
    }

    /// Returns the staleness: the time since the start of the latest read, `None` before the first.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        Some(self.clock.uptime().saturating_sub(self.known_until()?))
    }

    /// Returns the largest staleness with which the replica is trusted.
    #[must_use]
    pub fn max_staleness(&self) -> Duration {
        self.max_staleness
    }

    /// Returns the log of the latest reads.
    #[must_use]
    pub fn log(&self) -> &RevocationLog {
        &self.log
    }

    /// Returns every live revocation, with its expiry in seconds since the Unix epoch, and the position
    /// in the feed after them. Returns `None` if the replica is incomplete.
    #[must_use]
    pub fn read_all(&self) -> Option<(FeedCursor, Vec<(RevocationId, i64)>)> {
        let repaired = self.repaired_overflows.load(Ordering::Acquire);
        // Taken first: the entries that the cursor sees are in place by then.
        let cursor = self.log.latest().cursor().clone();
        let entries = self.entries.iter().map(|(id, entry)| (*id, entry.expires_at)).collect();
        (!self.has_overflowed_since(repaired)).then_some((cursor, entries))
    }

    /// Returns the number of revocations.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    /// Returns `true` if there are no revocations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns `true` if the replica is incomplete and a quarter of its capacity is free again, so
    /// that a full reload may succeed.
    #[must_use]
    pub fn has_room_for_reload(&self) -> bool {
        !self.is_complete() && self.len() <= self.capacity / 4 * 3
    }

    /// Frees the memory of expired revocations.
    pub fn purge(&self) {
        self.entries.run_pending_tasks();
    }

    /// Returns `true` if the replica holds a revocation of the id.
    #[must_use]
    pub fn contains(&self, id: RevocationId) -> bool {
        self.filter.may_contain(id) && self.entries.contains_key(&id)
    }

    fn expiry_of(&self, id: RevocationId) -> Option<i64> {
        if !self.filter.may_contain(id) {
            return None;
        }
        self.entries.get(&id).map(|entry| entry.expires_at)
    }

    fn known_until(&self) -> Option<Duration> {
        let nanos = self.known_until.load(Ordering::Acquire);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    fn has_overflowed_since(&self, overflows: u64) -> bool {
        self.overflows.load(Ordering::Acquire) != overflows
    }

    fn is_within_bound(&self, known_until: Option<Duration>) -> bool {
        known_until.is_some_and(|until| self.clock.uptime() <= until + self.max_staleness)
    }
}

/// Returns the time for which a revocation is kept, in whole seconds, `None` for one that has
/// expired.
fn time_to_live(revocation: &Revocation, now: OffsetDateTime) -> Option<u32> {
    let allowance = CLOCK_SKEW_ALLOWANCE.try_into().ok()?;
    let remaining = (revocation.expires_at - now).saturating_add(allowance);
    let remaining = Duration::try_from(remaining).ok().filter(|remaining| !remaining.is_zero())?;
    // Rounded up, so that no entry leaves early.
    Some(u32::try_from(remaining.as_secs()).map_or(u32::MAX, |seconds| seconds.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;

    use proptest::prelude::*;
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);
    const BOUND: Duration = Duration::from_secs(5);

    struct Uptime(Mutex<Duration>);

    impl Uptime {
        fn advance(&self, by: Duration) {
            *self.0.lock().unwrap() += by;
        }
    }

    impl Clock for Uptime {
        fn now(&self) -> OffsetDateTime {
            NOW
        }

        fn uptime(&self) -> Duration {
            *self.0.lock().unwrap()
        }
    }

    /// Returns an empty replica without a read, and its clock.
    fn without_read(capacity: u64) -> (Replica, Arc<Uptime>) {
        let clock = Arc::new(Uptime(Mutex::new(Duration::from_hours(1))));
        (Replica::new(capacity, BOUND, Arc::clone(&clock) as Arc<dyn Clock>), clock)
    }

    /// Returns a replica that has just read an empty table.
    fn fresh(capacity: u64) -> Replica {
        let (replica, _) = without_read(capacity);
        replica.finish_read(replica.begin_read(), true);
        replica
    }

    fn revocation(number: u128) -> Revocation {
        Revocation { id: id(number), expires_at: NOW + Duration::from_mins(1) }
    }

    fn id(number: u128) -> RevocationId {
        Uuid::from_u128(number).into()
    }

    #[test]
    fn token_is_revoked_by_its_own_or_its_session_id() {
        let replica = fresh(10);
        replica.apply(&revocation(1), NOW);

        assert_eq!(replica.check([id(1), id(2)]), Verdict::Revoked);
        assert_eq!(replica.check([id(2), id(1)]), Verdict::Revoked);
        assert_eq!(replica.check([id(2), id(3)]), Verdict::Clear);
    }

    #[test]
    fn verdict_is_unknown_before_the_first_read_and_beyond_the_bound() {
        let (replica, clock) = without_read(10);
        let check = || replica.check([id(1), id(2)]);
        assert_eq!((check(), replica.staleness()), (Verdict::Unknown, None));

        let read = replica.begin_read();
        clock.advance(BOUND);
        assert_eq!(check(), Verdict::Unknown);
        replica.finish_read(read, true);
        assert_eq!((check(), replica.staleness()), (Verdict::Clear, Some(BOUND)));

        clock.advance(Duration::from_nanos(1));
        assert_eq!((check(), replica.is_fresh()), (Verdict::Unknown, false));
        replica.finish_read(replica.begin_read(), false);
        assert_eq!((check(), replica.is_fresh()), (Verdict::Clear, true));
    }

    #[test]
    fn stale_replica_still_refuses_revoked_tokens() {
        let (replica, clock) = without_read(10);
        replica.apply(&revocation(1), NOW);
        clock.advance(Duration::from_hours(1));

        assert_eq!(replica.check([id(1), id(2)]), Verdict::Revoked);
    }

    #[test]
    fn slow_read_does_not_reduce_freshness() {
        let (replica, clock) = without_read(10);
        let slow = replica.begin_read();
        clock.advance(BOUND);
        replica.finish_read(replica.begin_read(), true);

        replica.finish_read(slow, true);

        assert_eq!(replica.staleness(), Some(Duration::ZERO));
    }

    #[test]
    fn only_new_live_revocations_are_applied() {
        let replica = fresh(10);

        assert!(replica.apply(&revocation(1), NOW));
        assert!(!replica.apply(&revocation(1), NOW));
        assert!(!replica.apply(&revocation(2), NOW + Duration::from_hours(1)));
        assert_eq!(replica.len(), 1);
    }

    #[test]
    fn revocation_outlives_its_expiry_by_the_clock_skew_allowance() {
        let revocation = revocation(1);
        let end = revocation.expires_at + CLOCK_SKEW_ALLOWANCE;

        assert_eq!(time_to_live(&revocation, end - Duration::from_millis(1_500)), Some(2));
        assert_eq!(time_to_live(&revocation, end - Duration::from_nanos(1)), Some(1));
        assert_eq!(time_to_live(&revocation, end), None);
    }

    #[test]
    fn later_expiry_extends_a_revocation() {
        let replica = fresh(10);
        let short = revocation(1);
        let long = Revocation { expires_at: short.expires_at + Duration::from_hours(1), ..short };
        let nearly_expired = short.expires_at + CLOCK_SKEW_ALLOWANCE - Duration::from_nanos(1);

        assert!(replica.apply(&short, nearly_expired));
        assert!(replica.apply(&long, nearly_expired));
        assert!(!replica.apply(&short, nearly_expired), "an earlier expiry changes nothing");

        // An entry of its own shows that the time of the short one has passed.
        let other = Revocation { id: id(2), ..short };
        assert!(replica.apply(&other, nearly_expired));
        while replica.len() > 1 {
            replica.purge();
            std::thread::yield_now();
        }
        assert_eq!(replica.check([id(1), id(99)]), Verdict::Revoked);
    }

    #[test]
    fn expired_revocation_is_removed() {
        let replica = fresh(10);
        let almost_over =
            NOW + Duration::from_mins(1) + CLOCK_SKEW_ALLOWANCE - Duration::from_nanos(1);

        replica.apply(&revocation(1), almost_over);
        while !replica.is_empty() {
            replica.purge();
            std::thread::yield_now();
        }

        assert_eq!(replica.check([id(1), id(1)]), Verdict::Clear);
        assert!(!replica.filter.may_contain(id(1)), "the filter has removed it, too");
    }

    #[test]
    fn full_replica_admits_new_revocations_and_is_incomplete() {
        let replica = fresh(3);

        for number in 0..10 {
            replica.apply(&revocation(number), NOW);
            replica.purge();
            assert_eq!(replica.check([id(number), id(99)]), Verdict::Revoked, "{number}");
        }

        assert_eq!(replica.len(), 3);
        assert!(!replica.is_complete());
        assert_eq!(replica.check([id(0), id(99)]), Verdict::Unknown);
    }

    #[test]
    fn full_reload_with_room_completes_the_replica() {
        let replica = fresh(2);
        let nearly_expired =
            NOW + Duration::from_mins(1) + CLOCK_SKEW_ALLOWANCE - Duration::from_millis(1);
        for number in 0..3 {
            replica.apply(&revocation(number), nearly_expired);
        }
        assert!(!replica.is_complete() && !replica.has_room_for_reload());

        // The reload overflows again, so it repairs nothing.
        let read = replica.begin_read();
        (3..6).for_each(|number| assert!(replica.apply(&revocation(number), NOW)));
        replica.finish_read(read, true);
        assert!(!replica.is_complete());

        replica.finish_read(replica.begin_read(), false);
        assert!(!replica.is_complete(), "an incremental read restores nothing");
        replica.finish_read(replica.begin_read(), true);
        assert!(replica.is_complete());
    }

    #[test]
    fn eviction_after_a_reload_is_not_taken_for_repaired() {
        let replica = fresh(2);
        let revocations = [1, 2, 3].map(revocation);
        for revocation in &revocations {
            replica.apply(revocation, NOW);
        }

        let read = replica.begin_read();
        for revocation in &revocations {
            replica.apply(revocation, NOW);
        }
        replica.finish_read(read, true);
        replica.purge();

        for number in 1..=3 {
            assert_ne!(replica.check([id(number), id(99)]), Verdict::Clear, "{number}");
        }
    }

    #[test]
    fn room_for_a_reload_returns_as_entries_expire() {
        let replica = fresh(4);
        let nearly_expired =
            NOW + Duration::from_mins(1) + CLOCK_SKEW_ALLOWANCE - Duration::from_nanos(1);
        for number in 0..5 {
            replica.apply(&revocation(number), nearly_expired);
        }

        while !replica.has_room_for_reload() {
            replica.purge();
            std::thread::yield_now();
        }

        assert!(!replica.is_complete() && replica.len() <= 3);
    }

    proptest! {
        #[test]
        fn revoked_token_is_never_clear(
            numbers in prop::collection::vec(0..40_u128, 0..80),
            capacity in 1..60_u64,
        ) {
            let replica = fresh(capacity);
            let mut revoked = HashSet::new();
            for number in numbers {
                replica.apply(&revocation(number), NOW);
                revoked.insert(number);
                for known in &revoked {
                    prop_assert_ne!(replica.check([id(*known), id(99)]), Verdict::Clear);
                }
            }
        }

        #[test]
        fn replica_with_enough_capacity_is_exact(
            numbers in prop::collection::vec(0..40_u128, 0..40),
        ) {
            let replica = fresh(40);
            for &number in &numbers {
                replica.apply(&revocation(number), NOW);
            }
            for number in 0..40 {
                let expected =
                    if numbers.contains(&number) { Verdict::Revoked } else { Verdict::Clear };
                prop_assert_eq!(replica.check([id(number), id(99)]), expected);
            }
        }
    }
}
