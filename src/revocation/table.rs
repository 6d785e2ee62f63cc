//! The table of the replica: finds a revocation by its id, without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use time::OffsetDateTime;

use crate::domain::{CLOCK_SKEW_ALLOWANCE, RevocationId};

/// Maximum number of revocations in a bucket of a full replica, on average. A bucket takes some 350 bytes, and 24 for each
/// of its revocations.
const BUCKET_LEN: u64 = 64;

/// Minimum number of buckets: a small replica has nearly one for each revocation.
const MIN_BUCKETS: u64 = 1 << 10;

/// Maximum number of buckets. An empty one takes 16 bytes: 16 MiB.
const MAX_BUCKETS: u64 = 1 << 20;

/// Revocations whose ids share a slot of the table. It never changes: another one replaces it.
pub(super) type Bucket = Arc<Box<[Held]>>;

/// Revocation in memory.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) id: RevocationId,
    /// Expiry in seconds since the Unix epoch.
    pub(super) expires_at: i64,
}

/// Hash table of the revocations. The hash is the id itself, which is random.
pub(super) struct Table {
    /// The number of slots is a power of two.
    slots: Box<[Slot]>,
    len: AtomicU64,
}

#[derive(Default)]
struct Slot {
    /// Bloom filter of the bucket: tells most tokens that are not revoked with one memory access.
    filter: AtomicU64,
    bucket: ArcSwapOption<Box<[Held]>>,
}

impl Held {
    /// Returns `true` if the revocation need not be kept at `now`, the database's time: its tokens have
    /// expired, also if the clock is set back by `CLOCK_SKEW_ALLOWANCE`.
    pub(super) fn has_expired(&self, now: OffsetDateTime) -> bool {
        let allowance = CLOCK_SKEW_ALLOWANCE.as_secs().cast_signed();
        self.expires_at < now.unix_timestamp().saturating_sub(allowance)
    }
}

impl Table {
    /// Creates an empty table for `capacity` revocations.
    pub(super) fn with_capacity(capacity: u64) -> Self {
        let buckets = (capacity / BUCKET_LEN).clamp(MIN_BUCKETS, MAX_BUCKETS).next_power_of_two();
        Self { slots: (0..buckets).map(|_| Slot::default()).collect(), len: AtomicU64::new(0) }
    }

    /// Returns the number of revocations.
    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    /// Returns the indexes of the buckets that hold revocations.
    pub(super) fn indexes(&self) -> impl Iterator<Item = usize> {
        let slots = self.slots.iter().enumerate();
        let occupied = slots.filter(|(_, slot)| slot.filter.load(Ordering::Acquire) > 0);
        occupied.map(|(index, _)| index)
    }

    /// Returns the index of the bucket to which an id belongs.
    pub(super) fn index_of(&self, id: RevocationId) -> usize {
        let mask = self.slots.len() as u64 - 1;
        usize::try_from(hash(id) & mask).unwrap_or_default()
    }

    /// Returns a bucket.
    pub(super) fn bucket(&self, index: usize) -> Bucket {
        self.slots[index].bucket.load_full().unwrap_or_default()
    }

    /// Returns `true` if the table holds a revocation of the id.
    pub(super) fn contains(&self, id: RevocationId) -> bool {
        let slot = &self.slots[self.index_of(id)];
        slot.filter.load(Ordering::Acquire) & filter_bit(id) > 0
            && slot.bucket.load().iter().flat_map(|bucket| bucket.iter()).any(|held| held.id == id)
    }

    /// Replaces a bucket. One thread at a time may call this.
    pub(super) fn replace(&self, index: usize, bucket: Bucket) {
        let slot = &self.slots[index];
        let len = bucket.len() as u64;
        let filter = bucket.iter().fold(0, |filter, held| filter | filter_bit(held.id));
        // A revocation that stays is in both filters and in both buckets: no check misses it.
        slot.filter.store(filter, Ordering::Release);
        let former = slot.bucket.swap((len > 0).then_some(bucket));
        let former_len = former.map_or(0, |bucket| bucket.len()) as u64;
        self.len.store(self.len() + len - former_len, Ordering::Relaxed);
    }
}

fn hash(id: RevocationId) -> u64 {
    id.as_uuid().as_u64_pair().1
}

/// Returns the bit of an id in the filter of its bucket, by other bits of the hash than its index.
fn filter_bit(id: RevocationId) -> u64 {
    1 << (hash(id) >> 32 & 63)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;

    const EXPIRY: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

    fn held(number: u128) -> Held {
        Held { id: Uuid::from_u128(number).into(), expires_at: EXPIRY.unix_timestamp() }
    }

    #[test]
    fn revocation_outlives_its_expiry_by_the_clock_skew_allowance() {
        let end = EXPIRY + CLOCK_SKEW_ALLOWANCE;

        assert!(!held(1).has_expired(end));
        assert!(held(1).has_expired(end + time::Duration::SECOND));
    }

    #[test]
    fn number_of_buckets_follows_the_capacity() {
        for (capacity, buckets) in [(1, 1 << 10), (4_000_000, 1 << 16), (u64::MAX, 1 << 20)] {
            assert_eq!(Table::with_capacity(capacity).slots.len(), buckets, "{capacity}");
        }
    }

    #[test]
    fn id_is_found_in_the_bucket_that_holds_it() {
        let table = Table::with_capacity(1);
        let same_bucket = 1 << 32;
        let same_filter_bit = 1 << 10;
        let known = held(0);
        let ids = [same_bucket, same_filter_bit, same_bucket << 6].map(|number| held(number).id);

        table.replace(table.index_of(known.id), Bucket::new([known].into()));

        assert!(table.contains(known.id) && !ids.iter().any(|id| table.contains(*id)));
        assert_eq!((table.len(), ids.map(|id| table.index_of(id))), (1, [0; 3]));
        table.replace(0, Bucket::default());
        assert!(!table.contains(known.id) && table.len() == 0);
        assert_eq!(table.slots[0].filter.load(Ordering::Relaxed), 0);
    }
}
