//! Revocations: their trait.

use std::collections::HashSet;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::error::StoreError;
use super::feed::{Feed, Listener};
#[cfg(doc)]
use crate::domain::REVOCATIONS_PER_USER;
use crate::domain::{AuditRecord, Revocation, RevocationId, UserId};

/// Revocations of one commit.
#[derive(Clone, Debug)]
pub struct CommittedRevocations {
    /// Revocations that are new or got a later expiry.
    pub revocations: Vec<Revocation>,
    /// Time of the commit, by the clock of the database.
    pub committed_at: OffsetDateTime,
    /// Sessions that were skipped, since another transaction has locked them.
    pub locked: HashSet<RevocationId>,
}

/// Treatment of sessions that another transaction has locked. On SQLite there are none: a
/// transaction locks the whole database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockedSessions {
    /// They are waited for.
    Wait,
    /// They are left out of the work, and named in its result.
    Skip,
}

/// Storage of revocations.
#[async_trait]
pub trait RevocationStore {
    /// Inserts revocations, deletes the sessions with the same ids and inserts audit records, all
    /// in one commit. Returns the revocations as they are stored.
    ///
    /// Each revocation counts for the account beside it, if there is one, to which [`REVOCATIONS_PER_USER`] applies.
    /// The revocation of a session never expires before the tokens of the session, with the largest
    /// leeway. A revocation that exists already gets the later expiry, as a new entry of the feed.
    /// Nothing is written about a session in [`CommittedRevocations::locked`].
    ///
    /// Sends no notification: [`Self::notify_listeners`] does, after the commit.
    async fn revoke(
        &self,
        revocations: &[(Revocation, Option<UserId>)],
        records: &[AuditRecord],
        locked: LockedSessions,
    ) -> Result<CommittedRevocations, StoreError>;

    /// Notifies the listeners of all instances that there are revocations to read. Without it, they
    /// read them after their poll interval.
    async fn notify_listeners(&self) -> Result<(), StoreError>;

    /// Returns the ids that are revoked.
    async fn find_revoked(&self, ids: &[RevocationId])
    -> Result<HashSet<RevocationId>, StoreError>;

    /// Creates a feed of the revocations. Its first read is a full reload.
    fn feed(&self) -> Box<dyn Feed>;

    /// Creates a listener for new revocations; `None` if the database sends no notifications, or no
    /// connection for them is configured.
    fn listener(&self) -> Option<Box<dyn Listener>>;

    /// Deletes at most `limit` revocations that expired more than the clock-skew allowance ago,
    /// both by `now` and by the clock of the database: a single wrong clock deletes nothing.
    /// Returns their number.
    async fn delete_expired_revocations(
        &self,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<u64, StoreError>;
}
