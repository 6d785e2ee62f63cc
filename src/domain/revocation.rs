//! Revocations: which tokens are dead, and until when that matters.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{SessionId, TokenId};

/// How much longer than it matters a revocation is kept, in memory and in the database, so that two
/// machines whose clocks differ, or one whose clock is set back, do not revive a token.
pub const RETENTION: Duration = Duration::from_mins(5);

/// What a revocation takes: one token (`jti`), or every token of a session (`sid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RevocationId(Uuid);

impl RevocationId {
    /// Returns the identifier as a plain UUID.
    #[must_use]
    pub fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for RevocationId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl From<TokenId> for RevocationId {
    fn from(id: TokenId) -> Self {
        Self(id.as_uuid())
    }
}

impl From<SessionId> for RevocationId {
    fn from(id: SessionId) -> Self {
        Self(id.as_uuid())
    }
}

/// The end of a token or of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What has ended.
    pub id: RevocationId,
    /// When the last token that bears `id` has expired by itself, leeway included.
    pub expires_at: OffsetDateTime,
}
