//! Edits an account.

use std::sync::Arc;

use actix::{Handler, Message, ResponseFuture};

use super::UserActor;
use crate::actors::ActorError;
use crate::domain::{Requester, User, UserEdit, UserId};

/// Edits an account and ends its sessions, if the edit does so. Replies with the account once the edit is committed and
/// this instance refuses the tokens of the sessions.
#[derive(Message)]
#[rtype(result = "Result<User, ActorError>")]
pub struct ChangeUser {
    pub user_id: UserId,
    pub edit: UserEdit,
    pub requester: Requester,
}

impl Handler<ChangeUser> for UserActor {
    type Result = ResponseFuture<Result<User, ActorError>>;

    fn handle(&mut self, message: ChangeUser, _: &mut Self::Context) -> Self::Result {
        let ChangeUser { user_id, edit, requester } = message;
        let revocations = Arc::clone(&self.revocations);
        let details = self.details.clone();
        let change = revocations.new_change(user_id, edit, requester);
        Box::pin(async move {
            let changed = revocations.change_user(change).await;
            details.forget(user_id);
            changed
        })
    }
}
