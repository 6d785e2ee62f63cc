//! The clients: authentication from memory, tokens, administration.

mod actor;
mod admission;
mod change;
mod issue;
mod reader;
mod reload;
mod revoke;
mod writer;

pub use actor::ClientActor;
pub use change::{ChangeClient, ListClients};
pub use issue::AdmitClientToken;
pub use reload::ReloadClients;
pub use revoke::RevokeClientToken;
