//! `UserActor`: registers, authenticates, reads and changes accounts.

mod actor;
mod authenticate;
mod change_password;
mod change_user;
mod delete_account;
mod details;
mod details_cache;
mod hash_costs;
mod login;
mod queries;
mod refusals;
mod register;
mod reset_password;
mod set_password;
mod throttle;
mod unthrottle;

pub use actor::UserActor;
pub use change_password::ChangeOwnPassword;
pub use change_user::ChangeUser;
pub use delete_account::DeleteOwnAccount;
pub use details::ReadDetails;
pub use details_cache::{Details, DetailsCache};
pub use login::{LoggedIn, Login};
pub use queries::{FindUser, ListAuditRecords, ListUsers, Ping};
pub use register::Register;
pub use reset_password::ResetPassword;
pub use set_password::SetPassword;
pub use unthrottle::Unthrottle;
