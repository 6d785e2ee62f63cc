//! Snapshots: which transactions of a database a statement can see.

use std::str::FromStr;

use thiserror::Error;

/// Transactions that are visible to a statement, as the type `pg_snapshot` of PostgreSQL. Its text
/// form is `xmin:xmax:xip,xip,…`, where `xmin` repeats the first `xip`.
///
/// The snapshots of one server are in an order: a later one sees all that an earlier one sees.
/// `xmin` and `xmax` alone do not show it: they are equal in `10:20:10,12,15` and `10:20:10,15`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Lowest transaction id not yet assigned.
    xmax: u64,
    /// Transaction ids in progress, all below `xmax`, in ascending order.
    in_progress: Vec<u64>,
}

/// Text that is not a snapshot.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not a snapshot")]
pub struct SnapshotError(String);

impl Snapshot {
    /// Creates the snapshot that sees every id below `xmax`, but those in progress.
    ///
    /// Returns `None` unless these are in ascending order and below `xmax`.
    #[must_use]
    pub fn new(xmax: u64, in_progress: Vec<u64>) -> Option<Self> {
        let is_ascending = in_progress.is_sorted_by(|former, latter| former < latter);
        let is_below = in_progress.last().is_none_or(|&last| last < xmax);
        (is_ascending && is_below).then_some(Self { xmax, in_progress })
    }

    /// Creates the snapshot that sees every id below `xmax`.
    #[must_use]
    pub fn below(xmax: u64) -> Self {
        Self { xmax, in_progress: Vec::new() }
    }

    /// Returns the snapshot that sees the same ids below `xmax`, and no others.
    #[must_use]
    pub fn truncated(&self, xmax: u64) -> Self {
        let in_progress = self.in_progress.iter().copied().take_while(|&xid| xid < xmax);
        Self { xmax: xmax.min(self.xmax), in_progress: in_progress.collect() }
    }

    /// Returns the lowest transaction id not yet assigned.
    #[must_use]
    pub fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Returns the transaction ids in progress, in ascending order.
    #[must_use]
    pub fn in_progress(&self) -> &[u64] {
        &self.in_progress
    }

    /// Returns `true` if the transaction had ended.
    #[must_use]
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmax && self.in_progress.binary_search(&xid).is_err()
    }

    /// Returns `true` if this snapshot sees every id that the other one sees.
    #[must_use]
    pub fn sees_all_of(&self, other: &Self) -> bool {
        let unseen = self.in_progress.iter().take_while(|&&xid| xid < other.xmax);
        self.xmax >= other.xmax && unseen.into_iter().all(|&xid| !other.sees(xid))
    }

    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once(':')?;
        let (xmax, in_progress) = rest.split_once(':')?;
        let in_progress = in_progress.split(',').filter(|xid| !xid.is_empty()).map(str::parse);
        Self::new(xmax.parse().ok()?, in_progress.collect::<Result<_, _>>().ok()?)
    }
}

impl FromStr for Snapshot {
    type Err = SnapshotError;

    fn from_str(text: &str) -> Result<Self, SnapshotError> {
        Self::parse(text).ok_or_else(|| SnapshotError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    #[test]
    fn order_is_not_that_of_the_ends() {
        let earlier = snapshot("10:20:10,12,15");
        let later = snapshot("10:20:10,15");

        assert!(later.sees_all_of(&earlier) && !earlier.sees_all_of(&later));
        assert!(later.sees_all_of(&later));
    }

    #[test]
    fn text_that_is_not_a_snapshot_is_refused() {
        for text in ["", "10:20", "10:x:", "10:20:12,11", "10:20:10,10", "10:20:20", "10:20:-1"] {
            assert_eq!(text.parse::<Snapshot>(), Err(SnapshotError(text.to_owned())), "{text}");
        }
        assert_eq!(snapshot("20:20:"), Snapshot::below(20));
    }

    fn any_snapshot() -> impl Strategy<Value = Snapshot> {
        (0..12_u64, prop::collection::btree_set(0..12_u64, 0..6)).prop_map(|(xmax, xids)| {
            Snapshot::new(xmax, xids.into_iter().filter(|&xid| xid < xmax).collect()).unwrap()
        })
    }

    proptest! {
        #[test]
        fn sees_all_of_compares_the_ids_that_are_seen(
            one in any_snapshot(),
            other in any_snapshot(),
        ) {
            let sees_all = (0..20).all(|xid| one.sees(xid) || !other.sees(xid));
            // A higher end without a difference below it is no difference.
            prop_assert!(!one.sees_all_of(&other) || sees_all);
            prop_assert!(one.sees_all_of(&other) || !sees_all || one.xmax < other.xmax);
        }

        #[test]
        fn truncated_snapshot_sees_the_same_below_its_end(
            snapshot in any_snapshot(),
            xmax in 0..20_u64,
        ) {
            let truncated = snapshot.truncated(xmax);
            for xid in 0..20 {
                prop_assert_eq!(truncated.sees(xid), snapshot.sees(xid) && xid < xmax);
            }
            prop_assert!(snapshot.sees_all_of(&truncated));
        }
    }
}
