//! A filter in front of the replica: it tells most tokens that are not revoked with one memory
//! access.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::domain::RevocationId;

/// Maximum number of counters, of one byte each: 16 MiB.
const MAX_COUNTERS: u64 = 1 << 24;

/// Counting Bloom filter with one hash: the id itself, which is random. Each id maps to a counter
/// of the revocations that share it; no id with a counter of zero is revoked.
pub(super) struct Filter(Box<[AtomicU8]>);

impl Filter {
    /// Creates an empty filter with one counter for each revocation, up to `MAX_COUNTERS`.
    pub(super) fn with_capacity(capacity: u64) -> Self {
        Self((0..capacity.clamp(1, MAX_COUNTERS)).map(|_| AtomicU8::new(0)).collect())
    }

    /// Returns `false` if the id is certainly not revoked.
    pub(super) fn may_contain(&self, id: RevocationId) -> bool {
        self.counter(id).is_none_or(|counter| counter.load(Ordering::Acquire) > 0)
    }

    /// Counts a revocation, before it is inserted into the replica.
    pub(super) fn add(&self, id: RevocationId) {
        self.update(id, |count| count.checked_add(1));
    }

    /// Removes a revocation from its count, after it has left the replica.
    pub(super) fn remove(&self, id: RevocationId) {
        // A saturated counter may have missed additions, so it stays saturated.
        self.update(id, |count| (count < u8::MAX).then(|| count.saturating_sub(1)));
    }

    fn update(&self, id: RevocationId, count: impl FnMut(u8) -> Option<u8>) {
        if let Some(counter) = self.counter(id) {
            // Fails only on a saturated counter; saturation is sticky by design.
            let _ = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, count);
        }
    }

    fn counter(&self, id: RevocationId) -> Option<&AtomicU8> {
        let (_, random) = id.as_uuid().as_u64_pair();
        let counters = u64::try_from(self.0.len()).ok()?;
        self.0.get(usize::try_from(random.checked_rem(counters)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> RevocationId {
        Uuid::from_u128(number).into()
    }

    #[test]
    fn id_may_be_contained_while_its_counter_is_shared() {
        let filter = Filter::with_capacity(8);
        filter.add(id(1));
        filter.add(id(9));

        assert!(
            filter.may_contain(id(1)) && filter.may_contain(id(17)) && !filter.may_contain(id(2))
        );
        filter.remove(id(9));
        assert!(filter.may_contain(id(1)));
        filter.remove(id(1));
        assert!(!filter.may_contain(id(1)));
    }

    #[test]
    fn saturated_counter_stays_saturated() {
        let filter = Filter::with_capacity(1);
        (0..300).for_each(|number| filter.add(id(number)));
        (0..300).for_each(|number| filter.remove(id(number)));

        assert!(filter.may_contain(id(0)));
    }
}
