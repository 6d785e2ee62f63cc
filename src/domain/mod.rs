//! Domain types. Fields are private and `parse` validates: every value is valid.

mod audit;
mod ids;
mod password;
mod password_hash;
mod requester;
mod revocation;
mod roles;
mod session;
mod signing_key;
mod user;
mod user_change;
mod username;

pub use audit::{AuditAction, AuditRecord};
pub use ids::{SessionId, TokenId, UserId};
pub use password::{Password, PasswordError};
pub use password_hash::{PasswordHash, PasswordHashError};
pub use requester::{RequestOrigin, Requester, UserAgent};
pub use revocation::{CLOCK_SKEW_ALLOWANCE, Revocation, RevocationId};
pub use roles::{Permission, Permissions, Role, Roles, UnknownRole};
pub use session::{Generation, Session, TokenUse};
pub use signing_key::{SigningKey, SigningKeyError};
pub use user::{User, UserVersion};
pub use user_change::{AccountError, EditOutcome, UserChange, UserEdit};
pub use username::{Username, UsernameError};
