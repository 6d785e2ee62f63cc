//! The replica: every live revocation, in memory. A check does no I/O and takes no lock that a
//! writer can hold. `docs/revocation.md` proves its freshness.

mod log;
mod table;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use time::OffsetDateTime;

use crate::clock::Clock;
use crate::domain::{FeedCursor, Revocation, RevocationId};
pub use log::{LogRead, LogReply, LogRow, LogView, RevocationLog};
use table::{Bucket, Held, Table};

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

/// Live revocations, in buckets. One leaves after its expiry, or by the eviction of its bucket when the
/// replica is full.
pub struct Replica {
    /// Buckets by index. Evicts those that changed longest ago. Everything that changes a bucket holds
    /// this lock.
    cache: Mutex<Cache<usize, Bucket>>,
    /// The same buckets, for checks. They take no lock here; a reader of `moka` sometimes evicts, which
    /// takes locks.
    table: Arc<Table>,
    capacity: u64,
    /// Number of insertions into a full replica, each of which may evict a bucket.
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

impl Replica {
    /// Creates an empty replica of at most `capacity` revocations, which is stale `max_staleness`
    /// after the start of its latest read. The clock is the database's.
    #[must_use]
    pub fn new(capacity: u64, max_staleness: Duration, clock: Arc<dyn Clock>) -> Self {
        let table = Arc::new(Table::with_capacity(capacity));
        let evicting = Arc::clone(&table);
        let cache = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_, bucket: &Bucket| u32::try_from(bucket.len()).unwrap_or(u32::MAX))
            // The default policy may reject a new entry; a new revocation must be admitted.
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |index, _, cause| {
                if cause == RemovalCause::Size {
                    evicting.replace(*index, Bucket::default());
                }
            })
            .build();
        Self {
            cache: Mutex::new(cache),
            table,
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
    /// `now` is the database's time. The host's clock may be wrong: a revocation that it expires too
    /// early would be missing once the clock is right again.
    pub fn apply(&self, revocation: &Revocation, now: OffsetDateTime) -> bool {
        let held = Held { id: revocation.id, expires_at: revocation.expires_at.unix_timestamp() };
        if held.has_expired(now) {
            return false;
        }
        let cache = self.cache();
        let index = self.bucket_of(held.id);
        let bucket = self.table.bucket(index);
        if bucket.iter().any(|known| known.id == held.id && known.expires_at >= held.expires_at) {
            return false;
        }
        let mut changed = Vec::with_capacity(bucket.len() + 1);
        changed.extend(live(&bucket, now).filter(|known| known.id != held.id));
        changed.push(held);
        self.replace(&cache, index, changed.into());
        true
    }

    /// Returns the index of the bucket to which an id belongs. Revocations are applied in less time in
    /// the order of their buckets.
    #[must_use]
    pub fn bucket_of(&self, id: RevocationId) -> usize {
        self.table.index_of(id)
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
        self.cache().run_pending_tasks();
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
        let mut entries = Vec::new();
        for index in self.table.indexes() {
            let bucket = self.table.bucket(index);
            entries.extend(bucket.iter().map(|held| (held.id, held.expires_at)));
        }
        (!self.has_overflowed_since(repaired)).then_some((cursor, entries))
    }

    /// Returns the number of revocations.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.table.len()
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

    /// Removes expired revocations. A full replica takes tenths of a second.
    pub fn purge(&self) {
        let now = self.clock.now();
        for index in self.table.indexes() {
            if !self.table.bucket(index).iter().any(|held| held.has_expired(now)) {
                continue;
            }
            let cache = self.cache();
            let live = live(&self.table.bucket(index), now).collect();
            self.replace(&cache, index, live);
        }
        self.cache().run_pending_tasks();
    }

    /// Returns `true` if the replica holds a revocation of the id.
    #[must_use]
    pub fn contains(&self, id: RevocationId) -> bool {
        self.table.contains(id)
    }

    /// Replaces the revocations of a bucket.
    fn replace(&self, cache: &Cache<usize, Bucket>, index: usize, revocations: Box<[Held]>) {
        // They become a new entry. Of one that changes, `moka` may count a former weight, and it no
        // longer evicts one that has changed 65,535 times.
        cache.invalidate(&index);
        let bucket = Bucket::new(revocations);
        self.table.replace(index, Arc::clone(&bucket));
        // Counted before the insertion that may evict: a reader that misses the evicted entry sees
        // it.
        if self.len() > self.capacity {
            self.overflows.fetch_add(1, Ordering::Release);
        }
        if !bucket.is_empty() {
            cache.insert(index, bucket);
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache<usize, Bucket>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Returns the revocations of a bucket that are still kept at `now`.
fn live(bucket: &Bucket, now: OffsetDateTime) -> impl Iterator<Item = Held> {
    bucket.iter().copied().filter(move |held| !held.has_expired(now))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::thread;

    use proptest::prelude::*;
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;
    use crate::domain::CLOCK_SKEW_ALLOWANCE;

    const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);
    const BOUND: Duration = Duration::from_secs(5);
    const BOOTED_BEFORE: Duration = Duration::from_hours(1);
    /// Time after which the revocations of the tests are no longer kept.
    const LIFETIME: Duration = Duration::from_mins(7);

    /// Clock of the database.
    struct Uptime(Mutex<Duration>);

    impl Uptime {
        fn advance(&self, by: Duration) {
            *self.0.lock().unwrap() += by;
        }
    }

    impl Clock for Uptime {
        fn now(&self) -> OffsetDateTime {
            NOW + self.uptime() - BOOTED_BEFORE
        }

        fn uptime(&self) -> Duration {
            *self.0.lock().unwrap()
        }
    }

    /// Returns an empty replica without a read, and its clock.
    fn without_read(capacity: u64) -> (Replica, Arc<Uptime>) {
        let clock = Arc::new(Uptime(Mutex::new(BOOTED_BEFORE)));
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

    /// Returns a number whose id belongs to a bucket, one of the first thousand.
    fn in_bucket(bucket: u128, number: u128) -> u128 {
        number << 32 | bucket
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
    fn later_expiry_extends_a_revocation() {
        let (replica, clock) = without_read(10);
        let short = revocation(1);
        let long = Revocation { expires_at: short.expires_at + Duration::from_hours(1), ..short };

        assert!(replica.apply(&short, NOW));
        assert!(replica.apply(&long, NOW));
        assert!(!replica.apply(&short, NOW), "an earlier expiry changes nothing");

        assert!(replica.apply(&revocation(2), NOW));
        clock.advance(LIFETIME);
        replica.purge();
        assert!(replica.contains(id(1)) && !replica.contains(id(2)));
        assert_eq!(replica.len(), 1);
    }

    #[test]
    fn expired_revocation_is_removed() {
        let (replica, clock) = without_read(10);
        replica.apply(&revocation(1), NOW);
        clock.advance(Duration::from_mins(1) + CLOCK_SKEW_ALLOWANCE);
        replica.purge();
        assert_eq!(replica.len(), 1);

        clock.advance(Duration::from_secs(1));
        replica.purge();
        assert!(replica.is_empty() && !replica.contains(id(1)));
        assert_eq!(replica.cache().iter().count(), 0, "the cache has removed its bucket, too");
    }

    #[test]
    fn expired_revocation_leaves_when_its_bucket_changes() {
        let replica = fresh(10);
        replica.apply(&revocation(in_bucket(0, 1)), NOW);

        let later = Revocation { expires_at: NOW + LIFETIME, ..revocation(in_bucket(0, 2)) };
        replica.apply(&later, NOW + LIFETIME);

        assert!(replica.contains(later.id) && replica.len() == 1);
    }

    #[test]
    fn bucket_that_shrank_and_emptied_no_longer_counts() {
        let (replica, clock) = without_read(10);
        let apply = |number| {
            let expires_at = clock.now() + time::Duration::minutes(1);
            assert!(replica.apply(&Revocation { id: id(number), expires_at }, clock.now()));
        };
        (1..=5).for_each(|number| apply(in_bucket(0, number)));
        replica.purge();
        clock.advance(LIFETIME);
        apply(in_bucket(0, 6));
        clock.advance(LIFETIME);
        replica.purge();

        (1..=10).for_each(apply);
        replica.purge();

        assert_eq!((replica.len(), replica.overflows.load(Ordering::Relaxed)), (10, 0));
        assert!((1..=10).all(|number| replica.contains(id(number))));
    }

    #[test]
    fn bucket_that_changed_often_is_evicted() {
        let replica = fresh(2);
        for second in 0..70_000 {
            let expires_at = NOW + time::Duration::seconds(second);
            replica.apply(&Revocation { id: id(0), expires_at }, NOW);
        }

        (1..=2).for_each(|number| assert!(replica.apply(&revocation(number), NOW)));
        replica.purge();

        assert!(replica.len() == 2 && !replica.contains(id(0)));
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
        for number in 0..3 {
            replica.apply(&revocation(number), NOW);
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
    fn room_for_a_reload_returns_as_revocations_expire() {
        let (replica, clock) = without_read(4);
        for number in 0..5 {
            replica.apply(&revocation(number), NOW);
        }
        replica.purge();
        assert!(!replica.has_room_for_reload());

        clock.advance(LIFETIME);
        replica.purge();

        assert!(replica.has_room_for_reload() && !replica.is_complete());
    }

    #[test]
    fn threads_that_change_one_bucket_lose_nothing() {
        let (replica, clock) = without_read(1_000);
        let numbers = |thread: u128| (0..200).map(move |number| in_bucket(7, number * 4 + thread));
        thread::scope(|scope| {
            for thread in 0..4 {
                let replica = &replica;
                scope.spawn(move || {
                    for number in numbers(thread) {
                        replica.apply(&revocation(number), NOW);
                        assert!(replica.contains(id(number)), "{number}");
                    }
                });
            }
        });

        assert!((0..4).flat_map(numbers).all(|number| replica.contains(id(number))));
        assert_eq!((replica.len(), replica.overflows.load(Ordering::Relaxed)), (800, 0));
        clock.advance(LIFETIME);
        replica.purge();
        assert!(replica.is_empty() && !(0..4).flat_map(numbers).any(|n| replica.contains(id(n))));
    }

    /// Fills a replica from four threads, while a fifth reloads what is committed.
    fn fill_and_reload(capacity: u64) {
        let replica = fresh(capacity);
        let committed = Mutex::new(Vec::new());
        let writers = AtomicU64::new(4);
        thread::scope(|scope| {
            for thread in 0..4 {
                let (replica, committed, writers) = (&replica, &committed, &writers);
                scope.spawn(move || {
                    for number in (0..30).map(|number| in_bucket(number % 3, number * 4 + thread)) {
                        committed.lock().unwrap().push(number);
                        replica.apply(&revocation(number), NOW);
                        let verdict = replica.check([id(number), id(999)]);
                        assert_ne!(verdict, Verdict::Clear, "{number}");
                    }
                    writers.fetch_sub(1, Ordering::Release);
                });
            }
            while writers.load(Ordering::Acquire) > 0 {
                let read = replica.begin_read();
                let known = committed.lock().unwrap().clone();
                for number in &known {
                    replica.apply(&revocation(*number), NOW);
                }
                replica.finish_read(read, true);
                replica.purge();
                for number in known {
                    assert_ne!(replica.check([id(number), id(999)]), Verdict::Clear, "{number}");
                }
            }
        });
    }

    #[test]
    fn no_thread_finds_a_revoked_token_clear() {
        (1..120).step_by(7).for_each(fill_and_reload);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Apply { number: u128, lifetime_in_minutes: i64 },
        Wait { minutes: u64 },
        Purge,
    }

    /// Returns the number of a revocation in one of three buckets.
    fn number() -> impl Strategy<Value = u128> {
        (0..3_u128, 0..15_u128).prop_map(|(bucket, number)| in_bucket(bucket, number))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (number(), -10..60_i64).prop_map(|(number, lifetime_in_minutes)| {
                Step::Apply { number, lifetime_in_minutes }
            }),
            1 => (1..20_u64).prop_map(|minutes| Step::Wait { minutes }),
            1 => Just(Step::Purge),
        ]
    }

    proptest! {
        #[test]
        fn revoked_token_is_never_clear(
            numbers in prop::collection::vec(number(), 0..80),
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
            replica.purge();
            prop_assert!(replica.len() <= capacity);
        }

        #[test]
        fn replica_agrees_with_a_model(steps in prop::collection::vec(step(), 0..60)) {
            let (replica, clock) = without_read(45);
            let mut expiries = HashMap::new();
            for step in steps {
                let oldest_kept = clock.now() - CLOCK_SKEW_ALLOWANCE;
                let is_purged = matches!(step, Step::Purge);
                match step {
                    Step::Apply { number, lifetime_in_minutes } => {
                        let expires_at = clock.now() + time::Duration::minutes(lifetime_in_minutes);
                        let revocation = Revocation { id: id(number), expires_at };
                        let known = expiries.get(&number).copied().filter(|at| *at >= oldest_kept);
                        let is_news = expires_at >= oldest_kept && known < Some(expires_at);
                        prop_assert_eq!(replica.apply(&revocation, clock.now()), is_news);
                        if is_news {
                            expiries.insert(number, expires_at);
                        }
                    }
                    Step::Wait { minutes } => clock.advance(Duration::from_mins(minutes)),
                    Step::Purge => replica.purge(),
                }
                replica.finish_read(replica.begin_read(), false);
                let oldest_kept = clock.now() - CLOCK_SKEW_ALLOWANCE;
                for number in (0..3).flat_map(|bucket| (0..15).map(move |n| in_bucket(bucket, n))) {
                    let is_kept = expiries.get(&number).is_some_and(|at| *at >= oldest_kept);
                    match replica.check([id(number), id(99)]) {
                        Verdict::Revoked if is_kept => {}
                        Verdict::Revoked => prop_assert!(expiries.contains_key(&number) && !is_purged),
                        Verdict::Clear => prop_assert!(!is_kept),
                        Verdict::Unknown => prop_assert!(false, "nothing was pushed out"),
                    }
                }
                let all = replica.read_all().map(|(_, all)| all).unwrap_or_default();
                let held: HashSet<_> = all.iter().map(|(id, _)| *id).collect();
                prop_assert_eq!((held.len(), replica.len()), (all.len(), all.len() as u64));
                prop_assert!(all.iter().all(|(id, _)| replica.contains(*id)));
            }
        }
    }
}
