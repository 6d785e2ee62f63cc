//! `SessionActor`: opens, refreshes, lists and ends sessions, and keeps the replica up to date.

mod actor;
mod check;
mod cleanup;
mod drain;
mod end;
mod exchange;
mod grant;
mod list;
mod lookup;
mod open;
mod read_revocations;
mod refresh;
mod reports;
mod require_open;
mod revoke;

pub use actor::SessionActor;
pub use check::IsRevoked;
pub use drain::Drain;
pub use end::EndSession;
pub use grant::TokenGrant;
pub use list::{ListSessions, SessionPage};
pub use open::OpenSession;
pub use read_revocations::ReadRevocations;
pub use refresh::Refresh;
pub use require_open::RequireOpen;
pub use revoke::{LogOut, RevokeToken};
