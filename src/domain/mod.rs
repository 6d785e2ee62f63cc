//! The words of the service as types. A value that exists is valid: fields are private and `parse`
//! is the only way in.

mod audit;
mod ids;
mod labels;
mod password;
mod password_hash;
mod revocation;
mod session;
mod signing_key;
mod user;
mod username;

pub use audit::{AuditAction, AuditRecord, Initiator};
pub use ids::{SessionId, TokenId, UserId};
pub use labels::{Bit, Label, Permission, Permissions, Role, Roles, UnknownLabel, granted_by};
pub use password::{Password, PasswordError};
pub use password_hash::{PasswordHash, PasswordHashError};
pub use revocation::{RETENTION, Revocation, RevocationId};
pub use session::{Client, Generation, Session, UserAgent};
pub use signing_key::{SigningKey, SigningKeyError};
pub use user::{User, UserEdit, UserVersion};
pub use username::{Username, UsernameError};
