//! The type `pg_snapshot` of PostgreSQL.

use std::str::FromStr;

use thiserror::Error;

/// Transactions that are visible to a statement. Its text form is `xmin:xmax:xip,xip,…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Lowest transaction id in progress; all lower ones had ended.
    xmin: u64,
    /// Lowest transaction id not yet assigned.
    xmax: u64,
    /// Transaction ids in progress, from `xmin` to `xmax`.
    in_progress: Vec<u64>,
}

/// Text that is not a snapshot.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not a snapshot")]
pub(crate) struct SnapshotError(String);

impl Snapshot {
    /// Returns `true` if the transaction had ended.
    #[cfg(test)]
    pub(crate) fn sees(&self, xid: u64) -> bool {
        xid < self.xmax && !self.in_progress.contains(&xid)
    }

    /// Returns `true` if the transaction had begun, ended or not.
    #[cfg(test)]
    pub(crate) fn has_begun(&self, xid: u64) -> bool {
        xid < self.xmax
    }

    /// Returns `true` if this snapshot may be later than another one of the same server.
    pub(crate) fn may_follow(&self, earlier: &Self) -> bool {
        self.xmin >= earlier.xmin && self.xmax >= earlier.xmax
    }

    /// Returns an SQL condition for the transactions that had not ended; `column` contains their
    /// ids.
    pub(crate) fn unseen_condition(&self, column: &str) -> String {
        let in_progress: Vec<_> = self.in_progress.iter().map(u64::to_string).collect();
        let in_progress = in_progress.join(",");
        format!(
            "({column} >= '{}'::xid8 or {column} = any ('{{{in_progress}}}'::xid8[]))",
            self.xmax
        )
    }

    fn parse(text: &str) -> Option<Self> {
        let (xmin, rest) = text.split_once(':')?;
        let (xmax, in_progress) = rest.split_once(':')?;
        let in_progress = in_progress.split(',').filter(|xid| !xid.is_empty()).map(str::parse);
        Some(Self {
            xmin: xmin.parse().ok()?,
            xmax: xmax.parse().ok()?,
            in_progress: in_progress.collect::<Result<_, _>>().ok()?,
        })
    }
}

impl FromStr for Snapshot {
    type Err = SnapshotError;

    fn from_str(text: &str) -> Result<Self, SnapshotError> {
        Self::parse(text).ok_or_else(|| SnapshotError(text.to_owned()))
    }
}
