//! `RoleActor`: lists and changes roles, and ends the sessions of members that lost a permission.

mod actor;
mod change;
mod ending;
mod queries;

pub use actor::RoleActor;
pub use change::ChangeRole;
pub use queries::{FindRole, ListRoles};
