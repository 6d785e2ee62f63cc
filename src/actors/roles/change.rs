//! Changes a role.

use std::sync::Arc;

use actix::{Handler, Message, ResponseFuture};

use super::RoleActor;
use crate::actors::ActorError;
use crate::actors::deadline::with_deadline;
use crate::domain::RoleChange;
use crate::store::ChangedRole;

/// Changes a role. Replies with it once the change is committed.
///
/// If a permission is taken away, the sessions of the members end soon after the reply.
#[derive(Message)]
#[rtype(result = "Result<ChangedRole, ActorError>")]
pub struct ChangeRole {
    pub change: RoleChange,
}

impl Handler<ChangeRole> for RoleActor {
    type Result = ResponseFuture<Result<ChangedRole, ActorError>>;

    fn handle(&mut self, message: ChangeRole, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        let changed = Arc::clone(&self.changed);
        let timeout = self.timeout;
        Box::pin(async move {
            let outcome = with_deadline(timeout, store.change_role(&message.change)).await;
            // After a failure, too: the change may be committed.
            changed.notify_one();
            outcome
        })
    }
}
