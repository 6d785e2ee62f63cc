//! The actors for accounts, sessions, roles and keys, and the parts they share. Each message documents its
//! reply; a refusal is part of the reply and never stops an actor.

mod batcher;
mod clients;
mod deadline;
mod error;
mod fair_queue;
mod follower;
mod hash_queue;
mod hash_times;
mod keys;
mod limiter;
mod mailbox;
mod network_pace;
mod reply;
mod revocation_writer;
mod roles;
mod sessions;
mod shared_state;
mod users;

pub use clients::{
    AdmitClientToken, ChangeClient, ClientActor, ListClients, ReloadClients, RevokeClientToken,
};
pub use error::{ActorError, AskError};
pub use fair_queue::Share;
pub use hash_queue::{HashPermit, HashQueue};
pub use keys::{KeyActor, ListKeys, ReloadKeys, RevokeKeys, RotateKeys};
pub use mailbox::Mailbox;
pub use reply::CancelOnDrop;
use revocation_writer::RevocationTarget;
pub use revocation_writer::RevocationWriter;
pub use roles::{ChangeRole, FindRole, ListRoles, RoleActor};
pub use sessions::{
    Drain, EndSession, IsRevoked, ListSessions, LogOut, OpenSession, ReadRevocations, Refresh,
    RequireOpen, RevokeToken, SessionActor, SessionPage, TokenGrant,
};
pub use shared_state::SharedState;
pub use users::{
    ChangeOwnPassword, ChangeUser, DeleteOwnAccount, Details, DetailsCache, FindUser,
    ListAuditRecords, ListUsers, LoggedIn, Login, Ping, ReadDetails, Register, ResetPassword,
    SetPassword, Unthrottle, UserActor,
};
