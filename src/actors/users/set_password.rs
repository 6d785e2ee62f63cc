//! Replaces the password of an account on behalf of an administrator.

use actix::{Handler, Message};

use super::UserActor;
use crate::actors::{ActorError, CancelOnDrop, Share};
use crate::domain::{AccountError, NewPassword, Requester, User, UserEdit, UserId};

/// Replaces the password of an account and ends all its sessions. Replies like
/// [`ChangeUser`](super::ChangeUser), or with
/// [`PasswordError::IsUsername`](crate::domain::PasswordError::IsUsername).
#[derive(Message)]
#[rtype(result = "Result<User, ActorError>")]
pub struct SetPassword {
    pub user_id: UserId,
    pub password: NewPassword,
    pub requester: Requester,
}

impl Handler<SetPassword> for UserActor {
    type Result = CancelOnDrop<Result<User, ActorError>>;

    fn handle(&mut self, message: SetPassword, _: &mut Self::Context) -> Self::Result {
        let SetPassword { user_id, password, requester } = message;
        let actor = self.clone();
        CancelOnDrop::new(async move {
            let user = actor.store.find_user(user_id).await?.ok_or(AccountError::NotFound)?;
            let password = password.for_user(&user.username)?;
            let edit =
                UserEdit::Password(actor.hashing.hash(password, Share::from(&requester)).await?);
            let change = actor.revocations.new_change(user_id, edit, requester);
            actor.revocations.change_user(change).await
        })
    }
}
