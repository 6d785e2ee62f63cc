//! Deletes the requester's own account.

use actix::{Handler, Message};

use super::UserActor;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::{Password, Requester, User, UserChange, UserEdit, UserId};
use crate::metrics::Door;

/// Checks the password, deletes the account and ends its sessions. Replies like
/// [`ChangeUser`](super::ChangeUser), or with [`ActorError::InvalidCredentials`].
#[derive(Message)]
#[rtype(result = "Result<User, ActorError>")]
pub struct DeleteOwnAccount {
    pub user_id: UserId,
    /// Password; `None` for a malformed one, which is refused like a wrong one.
    pub password: Option<Password>,
    pub requester: Requester,
}

impl Handler<DeleteOwnAccount> for UserActor {
    type Result = CancelOnDrop<Result<User, ActorError>>;

    fn handle(&mut self, message: DeleteOwnAccount, _: &mut Self::Context) -> Self::Result {
        let DeleteOwnAccount { user_id, password, requester } = message;
        let actor = self.clone();
        CancelOnDrop::new(async move {
            let user = actor
                .authenticate_again(Door::AccountDeletion, user_id, password, &requester)
                .await?;
            let change = UserChange {
                expected_version: Some(user.version),
                ..actor.revocations.new_change(user_id, UserEdit::Delete, requester)
            };
            actor.revocations.change_user(change).await
        })
    }
}
