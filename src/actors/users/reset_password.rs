//! Sets a new password with a reset code.

use actix::{Handler, Message};
use tokio::time::sleep;

use super::UserActor;
use crate::actors::hash_queue::REFUSAL_DELAY;
use crate::actors::limiter::RESETS;
use crate::actors::{ActorError, CancelOnDrop, Share};
use crate::domain::{
    AccountError, Network, NewPassword, RequestOrigin, Requester, ResetCodeHash, User, UserEdit,
};

/// Replaces the password of the account that has a reset code, uses the code up and ends all sessions
/// of the account. Replies with the account once that is committed and this instance refuses the
/// tokens of the sessions, or with [`ActorError::TooManyAttempts`],
/// [`AccountError::InvalidResetCode`] or
/// [`PasswordError::IsUsername`](crate::domain::PasswordError::IsUsername).
#[derive(Message)]
#[rtype(result = "Result<User, ActorError>")]
pub struct ResetPassword {
    pub code: ResetCodeHash,
    pub password: NewPassword,
    pub origin: RequestOrigin,
}

impl Handler<ResetPassword> for UserActor {
    type Result = CancelOnDrop<Result<User, ActorError>>;

    fn handle(&mut self, message: ResetPassword, _: &mut Self::Context) -> Self::Result {
        let ResetPassword { code, password, origin } = message;
        let actor = self.clone();
        CancelOnDrop::new(async move {
            let network = Network::from(&origin);
            if actor.resets.borrow_mut().admit(network, actor.clock.uptime()).is_none() {
                sleep(REFUSAL_DELAY).await;
                return Err(ActorError::TooManyAttempts { retry_after: RESETS.interval });
            }
            // Before the hash: a wrong code costs no more than a lookup.
            let user = actor.store.find_user_by_reset_code(&code).await?;
            let user = user.ok_or(AccountError::InvalidResetCode)?;
            let password = password.for_user(&user.username)?;
            let requester = Requester::anonymous(origin);
            let share = Share { is_known: true, ..Share::from(&requester) };
            let edit = UserEdit::ResetPassword(actor.hashing.hash(password, share).await?, code);
            let change = actor.revocations.new_change(user.id, edit, requester);
            match actor.revocations.change_user(change).await {
                // The account was deleted meanwhile.
                Err(ActorError::Account(AccountError::NotFound)) => {
                    Err(AccountError::InvalidResetCode.into())
                }
                outcome => outcome,
            }
        })
    }
}
