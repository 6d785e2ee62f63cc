//! The words of the service as types. A value that exists is valid: fields are private and `parse`
//! is the only way in.

mod ids;
mod labels;
mod password;
mod password_hash;
mod revocation;
mod session;
mod signing_key;
mod user;
mod username;

pub use ids::{SessionId, TokenId, UserId};
pub use labels::{Label, Permission, Permissions, Role, Roles, UnknownLabel, granted_by};
pub use password::{Password, PasswordError};
pub use password_hash::{PasswordHash, PasswordHashError};
pub use revocation::{RETENTION, Revocation, RevocationId};
pub use session::{Client, Generation, Session, UserAgent};
pub use signing_key::{SigningKey, SigningKeyError};
pub use user::{User, UserVersion};
pub use username::{Username, UsernameError};
