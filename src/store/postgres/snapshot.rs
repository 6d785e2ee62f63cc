//! What a statement of Postgres sees: the `pg_snapshot` type.

use std::str::FromStr;

use thiserror::Error;

/// Which transactions had ended when a statement began. In text, `xmin:xmax:xip,xip,…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Every transaction before this one had ended.
    xmin: u64,
    /// No transaction from this one on had begun.
    xmax: u64,
    /// Those in between that had not ended.
    in_progress: Vec<u64>,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is no snapshot")]
pub(crate) struct SnapshotError(String);

impl Snapshot {
    /// Tells whether a transaction had ended.
    #[cfg(test)]
    pub(crate) fn sees(&self, xid: u64) -> bool {
        xid < self.xmax && !self.in_progress.contains(&xid)
    }

    /// Tells whether a transaction had begun, ended or not.
    #[cfg(test)]
    pub(crate) fn ended_before(&self, xid: u64) -> bool {
        xid < self.xmax
    }

    /// Tells whether this may have been taken after another one, from the same server.
    pub(crate) fn may_follow(&self, earlier: &Self) -> bool {
        self.xmin >= earlier.xmin && self.xmax >= earlier.xmax
    }

    /// Returns an SQL condition for the transactions that had not ended, nor failed.
    pub(crate) fn has_not_seen(&self, xid: &str) -> String {
        let in_progress: Vec<_> = self.in_progress.iter().map(u64::to_string).collect();
        let in_progress = in_progress.join(",");
        format!("({xid} >= '{}'::xid8 or {xid} = any ('{{{in_progress}}}'::xid8[]))", self.xmax)
    }
}

impl FromStr for Snapshot {
    type Err = SnapshotError;

    fn from_str(text: &str) -> Result<Self, SnapshotError> {
        let parse = || {
            let mut parts = text.split(':');
            let (xmin, xmax, list) = (parts.next()?, parts.next()?, parts.next()?);
            let in_progress = list.split(',').filter(|xid| !xid.is_empty()).map(str::parse);
            Some(Self {
                xmin: xmin.parse().ok()?,
                xmax: xmax.parse().ok()?,
                in_progress: in_progress.collect::<Result<_, _>>().ok()?,
            })
        };
        parse().ok_or_else(|| SnapshotError(text.to_owned()))
    }
}
