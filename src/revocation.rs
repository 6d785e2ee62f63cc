//! The replica: every live revocation, in memory, where checking a token can see it without I/O and
//! without a lock that a writer can hold; and how far it can be trusted. `docs/revocation.md` has the
//! argument.

mod filter;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use time::OffsetDateTime;

use crate::clock::Clock;
use crate::domain::{RETENTION, Revocation, RevocationId};
use filter::Filter;

/// What the replica knows of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not revoked, as of no longer ago than the bound.
    Clear,
    /// Revoked.
    Revoked,
    /// The replica cannot tell: the database has to be asked.
    Unknown,
}

/// The live revocations. Nothing but its own expiry takes one out, unless the replica overflows.
pub struct Replica {
    entries: Cache<RevocationId, TimeToLive>,
    /// Spares most checks the look into the entries, which among a million is six waits for memory. The
    /// fuller the replica, the fewer.
    filter: Arc<Filter>,
    held: Arc<AtomicU64>,
    capacity: u64,
    /// How often something was put in where there was no room.
    overflows: AtomicU64,
    /// That number when a read of the whole table began that has ended since: what was pushed out
    /// before is back.
    overflows_mended: AtomicU64,
    /// Up to when everything that was committed is here, in nanoseconds of uptime; 0 is never.
    known_until: AtomicU64,
    max_staleness: Duration,
    clock: Arc<dyn Clock>,
}

/// The beginning of a read of the database: what a replica that has taken it in knows.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    began_at: Duration,
    overflows: u64,
}

#[derive(Clone, Copy)]
struct TimeToLive(Duration);

struct OwnExpiry;

impl Expiry<RevocationId, TimeToLive> for OwnExpiry {
    fn expire_after_create(
        &self,
        _: &RevocationId,
        &TimeToLive(left): &TimeToLive,
        _: Instant,
    ) -> Option<Duration> {
        Some(left)
    }
}

impl Replica {
    /// Makes an empty replica that holds at most `capacity` revocations, and is not to be trusted
    /// with what is older than `max_staleness`.
    #[must_use]
    pub fn new(capacity: u64, max_staleness: Duration, clock: Arc<dyn Clock>) -> Self {
        let held = Arc::new(AtomicU64::new(0));
        let filter = Arc::new(Filter::for_capacity(capacity));
        let (counter, filtered) = (Arc::clone(&held), Arc::clone(&filter));
        let entries = Cache::builder()
            .max_capacity(capacity)
            // The default policy may refuse a new entry; a new revocation must get in.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(OwnExpiry)
            .eviction_listener(move |id, _, _| {
                filtered.remove(*id);
                counter.fetch_sub(1, Ordering::Relaxed);
            })
            .build();
        Self {
            entries,
            filter,
            held,
            capacity,
            overflows: AtomicU64::new(0),
            overflows_mended: AtomicU64::new(0),
            known_until: AtomicU64::new(0),
            max_staleness,
            clock,
        }
    }

    /// Takes in a revocation that is committed; tells whether it was new. Revoking is monotone:
    /// order and repetition do not matter, and nothing that is revoked becomes valid again.
    ///
    /// `now` is the time by the clock of the database: the one here may be wrong for a while, and
    /// what has expired by a wrong clock would be missing when it is right again.
    pub fn apply(&self, revocation: &Revocation, now: OffsetDateTime) -> bool {
        let Some(left) = time_to_live(revocation, now) else { return false };
        if self.holds(revocation.id) {
            return false;
        }
        // Marked before the insertion that may push an entry out: a reader that misses an evicted
        // entry already finds the mark.
        if self.held.fetch_add(1, Ordering::Relaxed) >= self.capacity {
            self.overflows.fetch_add(1, Ordering::Release);
        }
        self.filter.add(revocation.id);
        self.entries.insert(revocation.id, TimeToLive(left));
        true
    }

    /// Notes that a read of the database begins now.
    #[must_use]
    pub fn begin_reading(&self) -> Reading {
        let overflows = self.overflows.load(Ordering::Acquire);
        Reading { began_at: self.clock.uptime(), overflows }
    }

    /// Notes that everything which that read has brought is applied: the replica knows what was
    /// committed before it began. A read of the whole table also brought back what was pushed out.
    pub fn end_reading(&self, reading: Reading, is_whole: bool) {
        if is_whole {
            self.overflows_mended.store(reading.overflows, Ordering::Release);
        }
        let began_at = u64::try_from(reading.began_at.as_nanos()).unwrap_or(u64::MAX);
        self.known_until.fetch_max(began_at, Ordering::Release);
    }

    /// Tells whether any of the ids, those of a token and of its session, is revoked.
    #[must_use]
    pub fn check(&self, ids: [RevocationId; 2]) -> Verdict {
        // The order matters. What vouches for the entries is read before them: a read of the database
        // that ends in between would vouch for entries that were looked for too early. What speaks
        // against them is read after: a thread that is held up in between must not answer with what
        // was fresh and complete once.
        let known_until = self.known_until();
        let mended = self.overflows_mended.load(Ordering::Acquire);
        if ids.into_iter().any(|id| self.holds(id)) {
            Verdict::Revoked
        } else if self.has_overflowed_since(mended) || !self.is_within_bound(known_until) {
            Verdict::Unknown
        } else {
            Verdict::Clear
        }
    }

    /// Tells whether every live revocation that is known is held: `false` from when one was pushed
    /// out until the whole table has been read again without that.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.has_overflowed_since(self.overflows_mended.load(Ordering::Acquire))
    }

    /// Tells whether what is known is no older than the bound.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.is_within_bound(self.known_until())
    }

    /// Returns how old that is which is known; `None` while nothing is.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        Some(self.clock.uptime().saturating_sub(self.known_until()?))
    }

    /// Returns how many revocations are held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Tells whether there is room again for what was pushed out: a quarter of what was held has
    /// expired.
    #[must_use]
    pub fn may_be_completed(&self) -> bool {
        !self.is_complete() && self.held() <= self.capacity / 4 * 3
    }

    /// Frees the memory of the revocations that have expired.
    pub fn purge(&self) {
        self.entries.run_pending_tasks();
    }

    fn holds(&self, id: RevocationId) -> bool {
        self.filter.may_hold(id) && self.entries.contains_key(&id)
    }

    fn known_until(&self) -> Option<Duration> {
        let nanos = self.known_until.load(Ordering::Acquire);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    fn has_overflowed_since(&self, mended: u64) -> bool {
        self.overflows.load(Ordering::Acquire) != mended
    }

    fn is_within_bound(&self, known_until: Option<Duration>) -> bool {
        known_until.is_some_and(|until| self.clock.uptime() <= until + self.max_staleness)
    }
}

fn time_to_live(revocation: &Revocation, now: OffsetDateTime) -> Option<Duration> {
    let left = (revocation.expires_at - now).saturating_add(RETENTION.try_into().ok()?);
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
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

    /// An empty replica that is not to be trusted yet, and its clock.
    fn unread(capacity: u64) -> (Replica, Arc<Uptime>) {
        let clock = Arc::new(Uptime(Mutex::new(Duration::from_hours(1))));
        (Replica::new(capacity, BOUND, Arc::clone(&clock) as Arc<dyn Clock>), clock)
    }

    /// A replica that has just read an empty table.
    fn fresh(capacity: u64) -> Replica {
        let (replica, _) = unread(capacity);
        replica.end_reading(replica.begin_reading(), true);
        replica
    }

    fn revocation(number: u128) -> Revocation {
        Revocation { id: id(number), expires_at: NOW + Duration::from_mins(1) }
    }

    fn id(number: u128) -> RevocationId {
        Uuid::from_u128(number).into()
    }

    #[test]
    fn a_token_is_revoked_by_its_own_id_or_by_its_sessions() {
        let replica = fresh(10);
        replica.apply(&revocation(1), NOW);

        assert_eq!(replica.check([id(1), id(2)]), Verdict::Revoked);
        assert_eq!(replica.check([id(2), id(1)]), Verdict::Revoked);
        assert_eq!(replica.check([id(2), id(3)]), Verdict::Clear);
    }

    #[test]
    fn nothing_is_clear_before_the_first_read_has_ended_nor_longer_after_it_began_than_the_bound() {
        let (replica, clock) = unread(10);
        let one = || replica.check([id(1), id(2)]);
        assert_eq!((one(), replica.staleness()), (Verdict::Unknown, None));

        let reading = replica.begin_reading();
        clock.advance(BOUND);
        assert_eq!(one(), Verdict::Unknown);
        replica.end_reading(reading, true);
        assert_eq!((one(), replica.staleness()), (Verdict::Clear, Some(BOUND)));

        clock.advance(Duration::from_nanos(1));
        assert_eq!((one(), replica.is_fresh()), (Verdict::Unknown, false));
        replica.end_reading(replica.begin_reading(), false);
        assert_eq!((one(), replica.is_fresh()), (Verdict::Clear, true));
    }

    #[test]
    fn what_is_revoked_stays_so_however_stale_the_replica() {
        let (replica, clock) = unread(10);
        replica.apply(&revocation(1), NOW);
        clock.advance(Duration::from_hours(1));

        assert_eq!(replica.check([id(1), id(2)]), Verdict::Revoked);
    }

    #[test]
    fn a_read_that_began_earlier_and_ends_later_takes_no_freshness_away() {
        let (replica, clock) = unread(10);
        let slow = replica.begin_reading();
        clock.advance(BOUND);
        replica.end_reading(replica.begin_reading(), true);

        replica.end_reading(slow, true);

        assert_eq!(replica.staleness(), Some(Duration::ZERO));
    }

    #[test]
    fn only_what_is_new_and_has_not_expired_is_taken_in() {
        let replica = fresh(10);

        assert!(replica.apply(&revocation(1), NOW));
        assert!(!replica.apply(&revocation(1), NOW));
        assert!(!replica.apply(&revocation(2), NOW + Duration::from_hours(1)));
        assert_eq!(replica.held(), 1);
    }

    #[test]
    fn a_revocation_is_kept_past_its_expiry_for_clocks_that_differ() {
        let expiry = NOW + Duration::from_mins(1);
        let just_before = expiry + RETENTION - Duration::from_nanos(1);

        assert_eq!(time_to_live(&revocation(1), NOW), Some(Duration::from_mins(1) + RETENTION));
        assert_eq!(time_to_live(&revocation(1), just_before), Some(Duration::from_nanos(1)));
        assert_eq!(time_to_live(&revocation(1), expiry + RETENTION), None);
    }

    #[test]
    fn an_expired_revocation_goes_away_by_itself() {
        let replica = fresh(10);
        let almost_over = NOW + Duration::from_mins(1) + RETENTION - Duration::from_nanos(1);

        replica.apply(&revocation(1), almost_over);
        while replica.held() > 0 {
            replica.purge();
            std::thread::yield_now();
        }

        assert_eq!(replica.check([id(1), id(1)]), Verdict::Clear);
        assert!(!replica.filter.may_hold(id(1)), "the filter forgets it too");
    }

    #[test]
    fn a_full_replica_still_takes_in_the_newest_and_no_longer_says_clear() {
        let replica = fresh(3);

        for number in 0..10 {
            replica.apply(&revocation(number), NOW);
            replica.purge();
            assert_eq!(replica.check([id(number), id(99)]), Verdict::Revoked, "{number}");
        }

        assert_eq!(replica.held(), 3);
        assert!(!replica.is_complete());
        assert_eq!(replica.check([id(0), id(99)]), Verdict::Unknown);
    }

    #[test]
    fn what_was_pushed_out_is_mended_by_a_whole_read_that_has_room() {
        let replica = fresh(2);
        let nearly_expired = NOW + Duration::from_mins(1) + RETENTION - Duration::from_millis(1);
        for number in 0..3 {
            replica.apply(&revocation(number), nearly_expired);
        }
        assert!(!replica.is_complete() && !replica.may_be_completed());

        // Too much again: nothing is mended.
        let reading = replica.begin_reading();
        (3..6).for_each(|number| assert!(replica.apply(&revocation(number), NOW)));
        replica.end_reading(reading, true);
        assert!(!replica.is_complete());

        replica.end_reading(replica.begin_reading(), false);
        assert!(!replica.is_complete(), "a partial read brings nothing back");
        replica.end_reading(replica.begin_reading(), true);
        assert!(replica.is_complete());
    }

    #[test]
    fn there_is_room_again_when_enough_has_expired() {
        let replica = fresh(4);
        let nearly_expired = NOW + Duration::from_mins(1) + RETENTION - Duration::from_nanos(1);
        for number in 0..5 {
            replica.apply(&revocation(number), nearly_expired);
        }

        while !replica.may_be_completed() {
            replica.purge();
            std::thread::yield_now();
        }

        assert!(!replica.is_complete() && replica.held() <= 3);
    }

    proptest! {
        #[test]
        fn revoked_is_never_called_clear(
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
        fn a_replica_that_is_large_enough_is_exact(
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
