//! Domain types, valid by construction where `parse` creates them, and decisions on them.

mod audience;
mod audit;
mod blocklist;
mod client;
mod client_change;
mod external_id;
mod feed_cursor;
mod grants;
mod ids;
mod key_change;
mod metadata;
mod network;
mod password;
mod password_hash;
mod password_policy;
mod permission;
mod requester;
mod reset_code;
mod revocation;
mod role_change;
mod roles;
mod secret_key;
mod session;
mod signing_key;
mod snapshot;
mod throttle;
mod user;
mod user_change;
mod username;

pub use audience::{Audience, AudienceError};
pub use audit::{AuditAction, AuditRecord};
pub use blocklist::Blocklist;
pub use client::{
    Client, ClientName, ClientNameError, ClientRights, ClientSecret, ClientSet, SECRETS_PER_CLIENT,
};
pub use client_change::{ChangedClient, ClientChange, ClientEdit, ClientError, NewSecret};
pub use external_id::{ExternalId, ExternalIdError};
pub use feed_cursor::{FeedCursor, FeedCursorError, ServerId};
pub use grants::{Grantable, LackingPermissions};
pub use ids::{ClientId, SecretId, SessionId, TokenId, UserId};
pub use key_change::{ChangedKeys, KeyChange, KeyEdit, KeyError, KeyPeriods};
pub use metadata::{Metadata, MetadataError};
pub use network::Network;
pub use password::{Password, PasswordError};
pub use password_hash::{
    Argon2Variant, HashCost, HashParts, MAX_ITERATIONS, PasswordHash, PasswordHashError,
    Pbkdf2Digest, Preparation,
};
pub use password_policy::{NewPassword, PasswordPolicy};
pub use permission::{Permission, PermissionError, Permissions};
pub use requester::{RequestOrigin, Requester, UserAgent};
pub use reset_code::{RESET_CODE_LIFETIME, ResetCodeHash};
pub use revocation::{
    CLOCK_SKEW_ALLOWANCE, MAX_LEEWAY, REVOCATIONS_PER_SESSION, REVOCATIONS_PER_USER, Revocation,
    RevocationId,
};
pub use role_change::{RoleChange, RoleEdit, RoleError, RoleOutcome};
pub use roles::{Role, RoleName, RoleNameError, Roles};
pub use secret_key::{SecretKey, SecretKeyError};
pub use session::{
    Generation, RETRY_PERIOD, REUSE_GRACE_PERIOD, Session, SessionPosition, SessionPositionError,
    TokenUse,
};
pub use signing_key::{KeyId, KeyIdError, KeySet, KeyState, NewKey, SigningKey, WrappedKey};
pub use snapshot::{Snapshot, SnapshotError};
pub use throttle::{
    ATTEMPT_TIMEOUT, ATTEMPTS_IN_FLIGHT, AttemptResult, CounterId, Device, FAILURE_DELAYS,
    FAILURE_RETENTION, FailureLimits, KNOWN_NETWORK_RETENTION, KNOWN_NETWORKS_PER_USER,
};
pub use user::{User, UserVersion};
pub use user_change::{AccountError, EditOutcome, Rights, UserChange, UserEdit};
pub use username::{Username, UsernameError};
