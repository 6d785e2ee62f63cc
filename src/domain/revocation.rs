//! Revocations of access tokens, sessions and signing keys.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{SessionId, TokenId};

/// Time for which a revocation is kept after its expiry, in memory and in the database. Clocks that
/// differ by less, or are set back by less, revive no token.
pub const CLOCK_SKEW_ALLOWANCE: Duration = Duration::from_mins(5);

/// Largest leeway that an instance may grant to an expired token. Revocations outlive their tokens
/// by it, since other instances may grant more than this one.
pub const MAX_LEEWAY: Duration = Duration::from_mins(1);

/// Maximum number of single tokens revoked in one session, or of a client's secret. Beyond it all of
/// them end: new ones are issued without limit, and each revocation takes memory on every instance.
pub const REVOCATIONS_PER_SESSION: u32 = 20;

/// Maximum number of live revocations of an account at which it can still log in. Each takes memory
/// on every instance, so one account must not make them without limit.
pub const REVOCATIONS_PER_USER: u32 = 2_000;

/// Identifier of a revoked token (`jti`), session (`sid`) or signing key (`kid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RevocationId(Uuid);

impl RevocationId {
    /// Returns the identifier as a UUID.
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

/// Revocation of a token, a session or a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub id: RevocationId,
    /// Expiry of the last token with this id, with the largest leeway.
    pub expires_at: OffsetDateTime,
}
