//! Replaces the password of the requester's own account.

use actix::{Handler, Message};

use super::UserActor;
use crate::actors::limiter::REPORTS;
use crate::actors::{ActorError, CancelOnDrop, Share};
use crate::domain::{
    AccountError, NewPassword, Password, Requester, SessionId, User, UserChange, UserEdit, UserId,
};
use crate::metrics::Door;

/// Checks the current password, replaces it, and ends every other session of the account. Replies
/// like [`ChangeUser`](super::ChangeUser), with [`ActorError::InvalidCredentials`],
/// [`ActorError::TooManyAttempts`], [`PasswordError::IsUsername`](crate::domain::PasswordError::IsUsername) or
/// [`AccountError::TooManyPasswordChanges`].
#[derive(Message)]
#[rtype(result = "Result<User, ActorError>")]
pub struct ChangeOwnPassword {
    pub user_id: UserId,
    /// Current password; `None` for a malformed one, which is refused like a wrong one.
    pub current: Option<Password>,
    pub new: NewPassword,
    /// Session that stays open.
    pub keep_session: SessionId,
    pub requester: Requester,
}

impl Handler<ChangeOwnPassword> for UserActor {
    type Result = CancelOnDrop<Result<User, ActorError>>;

    fn handle(&mut self, message: ChangeOwnPassword, _: &mut Self::Context) -> Self::Result {
        let ChangeOwnPassword { user_id, current, new, keep_session, requester } = message;
        let actor = self.clone();
        CancelOnDrop::new(async move {
            let user = actor
                .authenticate_again(Door::PasswordChange, user_id, current, &requester)
                .await?;
            let new = new.for_user(&user.username)?;
            if actor.password_changes.borrow_mut().admit(user_id, actor.clock.uptime()).is_none() {
                let retry_after = REPORTS.interval;
                return Err(AccountError::TooManyPasswordChanges { retry_after }.into());
            }
            let edit = UserEdit::Password(actor.hashing.hash(new, Share::from(&requester)).await?);
            let change = UserChange {
                expected_version: Some(user.version),
                keep_session: Some(keep_session),
                ..actor.revocations.new_change(user_id, edit, requester)
            };
            actor.revocations.change_user(change).await
        })
    }
}
