//! What tells most tokens that are not revoked from those that may be, with one look at memory.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::domain::RevocationId;

/// Most places, of a byte each: 16 MiB.
const MOST_PLACES: u64 = 1 << 24;

/// A counting Bloom filter with one hash, which is the id itself: it is random. Every id has a place, where
/// the revocations are counted that share it; where there are none, none has that id.
pub(super) struct Filter(Box<[AtomicU8]>);

impl Filter {
    /// Makes an empty filter, with as many places as revocations may be held, up to `MOST_PLACES`.
    pub(super) fn for_capacity(capacity: u64) -> Self {
        Self((0..capacity.clamp(1, MOST_PLACES)).map(|_| AtomicU8::new(0)).collect())
    }

    /// Tells whether there may be a revocation of an id; `false` is certain.
    pub(super) fn may_hold(&self, id: RevocationId) -> bool {
        self.place(id).is_none_or(|count| count.load(Ordering::Acquire) > 0)
    }

    /// Counts a revocation that is about to be held.
    pub(super) fn add(&self, id: RevocationId) {
        self.change(id, |count| count.checked_add(1));
    }

    /// Counts a revocation no more that is held no more.
    pub(super) fn remove(&self, id: RevocationId) {
        // A count that was full once may have missed some: it stays.
        self.change(id, |count| (count < u8::MAX).then(|| count.saturating_sub(1)));
    }

    fn change(&self, id: RevocationId, to: impl FnMut(u8) -> Option<u8>) {
        if let Some(count) = self.place(id) {
            // Refused only where a count is full, which is well.
            let _ = count.fetch_update(Ordering::AcqRel, Ordering::Acquire, to);
        }
    }

    fn place(&self, id: RevocationId) -> Option<&AtomicU8> {
        let (_, random) = id.as_uuid().as_u64_pair();
        let places = u64::try_from(self.0.len()).ok()?;
        self.0.get(usize::try_from(random.checked_rem(places)?).ok()?)
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
    fn an_id_may_be_held_while_one_is_that_shares_its_place() {
        let filter = Filter::for_capacity(8);
        filter.add(id(1));
        filter.add(id(9));

        assert!(filter.may_hold(id(1)) && filter.may_hold(id(17)) && !filter.may_hold(id(2)));
        filter.remove(id(9));
        assert!(filter.may_hold(id(1)));
        filter.remove(id(1));
        assert!(!filter.may_hold(id(1)));
    }

    #[test]
    fn a_place_that_was_full_is_never_empty_again() {
        let filter = Filter::for_capacity(1);
        (0..300).for_each(|number| filter.add(id(number)));
        (0..300).for_each(|number| filter.remove(id(number)));

        assert!(filter.may_hold(id(0)));
    }
}
