//! [`SharedState`]: the state of the database that every instance keeps in memory.

use std::sync::Arc;

use crate::clients::ClientDirectory;
use crate::revocation::Replica;
use crate::tokens::Tokens;

/// State of the database that every instance keeps in memory. The follower learns of the changes of
/// other instances.
#[derive(Clone)]
pub struct SharedState {
    pub replica: Arc<Replica>,
    /// The signing keys.
    pub tokens: Arc<Tokens>,
    pub clients: Arc<ClientDirectory>,
}
