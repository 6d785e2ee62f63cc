//! `KeyActor`: rotates, revokes and deletes the signing keys.

mod actor;
mod change;
mod maintain;
mod reader;
mod reload;
#[cfg(test)]
mod simulation;
mod writer;

pub use actor::KeyActor;
pub use change::{ListKeys, RevokeKeys, RotateKeys};
pub use reload::ReloadKeys;
