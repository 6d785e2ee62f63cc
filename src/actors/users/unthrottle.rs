//! Clears the failure counters of an account.

use actix::{Handler, Message};

use super::UserActor;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::{AccountError, AuditAction, AuditRecord, Requester, User, UserId};

/// Clears the failure counters of an account, on behalf of an administrator. Replies with the
/// account, or with [`AccountError::NotFound`].
#[derive(Message)]
#[rtype(result = "Result<User, ActorError>")]
pub struct Unthrottle {
    pub user_id: UserId,
    pub requester: Requester,
}

impl Handler<Unthrottle> for UserActor {
    type Result = CancelOnDrop<Result<User, ActorError>>;

    fn handle(&mut self, message: Unthrottle, _: &mut Self::Context) -> Self::Result {
        let Unthrottle { user_id, requester } = message;
        let actor = self.clone();
        CancelOnDrop::new(async move {
            let user = actor.store.find_user(user_id).await?.ok_or(AccountError::NotFound)?;
            let now = actor.clock.now();
            let action = AuditAction::UserUnthrottled;
            let record = AuditRecord::for_user(now, action, &user, requester);
            actor.store.delete_failures(user_id, &record).await?;
            Ok(user)
        })
    }
}
