//! Domain types, valid by construction where `parse` creates them, and decisions on them.

mod audience;
mod audit;
mod feed_cursor;
mod ids;
mod key_change;
mod password;
mod password_hash;
mod requester;
mod revocation;
mod roles;
mod secret_key;
mod session;
mod signing_key;
mod snapshot;
mod user;
mod user_change;
mod username;

pub use audience::{Audience, AudienceError};
pub use audit::{AuditAction, AuditRecord};
pub use feed_cursor::{FeedCursor, FeedCursorError, ServerId};
pub use ids::{SessionId, TokenId, UserId};
pub use key_change::{ChangedKeys, KeyChange, KeyEdit, KeyError, KeyPeriods};
pub use password::{Password, PasswordError};
pub use password_hash::{PasswordHash, PasswordHashError};
pub use requester::{RequestOrigin, Requester, UserAgent};
pub use revocation::{
    CLOCK_SKEW_ALLOWANCE, MAX_LEEWAY, REVOCATIONS_PER_USER, Revocation, RevocationId,
};
pub use roles::{Permission, Permissions, Role, Roles, UnknownRole};
pub use secret_key::{SecretKey, SecretKeyError};
pub use session::{
    Generation, RETRY_PERIOD, REUSE_GRACE_PERIOD, Session, SessionPosition, SessionPositionError,
    TokenUse,
};
pub use signing_key::{KeyId, KeyIdError, KeySet, KeyState, NewKey, SigningKey, WrappedKey};
pub use snapshot::{Snapshot, SnapshotError};
pub use user::{User, UserVersion};
pub use user_change::{AccountError, EditOutcome, UserChange, UserEdit};
pub use username::{Username, UsernameError};
