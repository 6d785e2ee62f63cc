//! The replica: every live revocation, in memory, where checking a token can see it without I/O and
//! without a lock that a writer can hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use time::OffsetDateTime;

use crate::domain::{Revocation, RevocationId};

/// How much longer than it matters a revocation is kept, here and in the database, so that two
/// machines whose clocks differ, or one whose clock is set back, do not revive a token.
pub const RETENTION: Duration = Duration::from_mins(5);

/// What the replica knows of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not revoked.
    Clear,
    /// Revoked.
    Revoked,
    /// The replica cannot tell: the database has to be asked.
    Unknown,
}

/// The live revocations. Nothing but its own expiry takes one out, unless the replica overflows.
pub struct Replica {
    entries: Cache<RevocationId, TimeToLive>,
    held: Arc<AtomicU64>,
    capacity: u64,
    overflowed: AtomicBool,
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
    /// Makes an empty replica that holds at most `capacity` revocations.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        let held = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&held);
        let entries = Cache::builder()
            .max_capacity(capacity)
            // The default policy may refuse a new entry; a new revocation must get in.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(OwnExpiry)
            .eviction_listener(move |_, _, _| {
                counter.fetch_sub(1, Ordering::Relaxed);
            })
            .build();
        Self { entries, held, capacity, overflowed: AtomicBool::new(false) }
    }

    /// Takes in revocations that are committed. Revoking is monotone: order and repetition do not
    /// matter, and nothing that is revoked becomes valid again.
    pub fn apply(&self, revocations: &[Revocation], now: OffsetDateTime) {
        for revocation in revocations {
            let Some(left) = time_to_live(revocation, now) else {
                continue;
            };
            // Marked before the insertion that may push an entry out: a reader that misses an
            // evicted entry already finds the mark.
            if self.held.fetch_add(1, Ordering::Relaxed) >= self.capacity {
                self.overflowed.store(true, Ordering::Release);
            }
            self.entries.insert(revocation.id, TimeToLive(left));
        }
    }

    /// Tells whether any of the ids, those of a token and of its session, is revoked.
    #[must_use]
    pub fn check(&self, ids: [RevocationId; 2]) -> Verdict {
        if ids.iter().any(|id| self.entries.contains_key(id)) {
            Verdict::Revoked
        } else if self.is_complete() {
            Verdict::Clear
        } else {
            Verdict::Unknown
        }
    }

    /// Tells whether every live revocation is here: `false` for good once one was pushed out.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.overflowed.load(Ordering::Acquire)
    }

    /// Returns how many revocations are held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Frees the memory of the revocations that have expired.
    pub fn purge(&self) {
        self.entries.run_pending_tasks();
    }
}

fn time_to_live(revocation: &Revocation, now: OffsetDateTime) -> Option<Duration> {
    let left = (revocation.expires_at - now).saturating_add(RETENTION.try_into().ok()?);
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

    fn revocation(number: u128) -> Revocation {
        Revocation { id: id(number), expires_at: NOW + Duration::from_mins(1) }
    }

    fn id(number: u128) -> RevocationId {
        Uuid::from_u128(number).into()
    }

    #[test]
    fn a_token_is_revoked_by_its_own_id_or_by_its_sessions() {
        let replica = Replica::new(10);
        replica.apply(&[revocation(1)], NOW);

        assert_eq!(replica.check([id(1), id(2)]), Verdict::Revoked);
        assert_eq!(replica.check([id(2), id(1)]), Verdict::Revoked);
        assert_eq!(replica.check([id(2), id(3)]), Verdict::Clear);
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
        let replica = Replica::new(10);
        let almost_over = NOW + Duration::from_mins(1) + RETENTION - Duration::from_nanos(1);

        replica.apply(&[revocation(1)], almost_over);
        while replica.held() > 0 {
            replica.purge();
            std::thread::yield_now();
        }

        assert_eq!(replica.check([id(1), id(1)]), Verdict::Clear);
    }

    #[test]
    fn a_full_replica_still_takes_in_the_newest_and_no_longer_says_clear() {
        let replica = Replica::new(3);

        for number in 0..10 {
            replica.apply(&[revocation(number)], NOW);
            replica.purge();
            assert_eq!(replica.check([id(number), id(99)]), Verdict::Revoked, "{number}");
        }

        assert_eq!(replica.held(), 3);
        assert!(!replica.is_complete());
        assert_eq!(replica.check([id(0), id(99)]), Verdict::Unknown);
    }

    proptest! {
        #[test]
        fn revoked_is_never_called_clear(
            numbers in prop::collection::vec(0..40_u128, 0..80),
            capacity in 1..60_u64,
        ) {
            let replica = Replica::new(capacity);
            let mut revoked = HashSet::new();
            for number in numbers {
                replica.apply(&[revocation(number)], NOW);
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
            let replica = Replica::new(40);
            for &number in &numbers {
                replica.apply(&[revocation(number)], NOW);
            }
            for number in 0..40 {
                let expected =
                    if numbers.contains(&number) { Verdict::Revoked } else { Verdict::Clear };
                prop_assert_eq!(replica.check([id(number), id(99)]), expected);
            }
        }
    }
}
