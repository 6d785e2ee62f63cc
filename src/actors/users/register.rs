//! Creates an account.

use actix::{Handler, Message};
use tokio::time::sleep;

use super::UserActor;
use crate::actors::hash_queue::REFUSAL_DELAY;
use crate::actors::{ActorError, CancelOnDrop, Share};
use crate::domain::{
    AuditAction, AuditRecord, ExternalId, Metadata, Password, Requester, Roles, User, Username,
};
use crate::store::Credentials;

/// Creates an account. Replies with it once it is committed, or with
/// [`ActorError::TooManyRegistrations`].
#[derive(Message)]
#[rtype(result = "Result<User, ActorError>")]
pub struct Register {
    pub username: Username,
    pub password: Password,
    pub roles: Roles,
    pub external_id: Option<ExternalId>,
    pub metadata: Metadata,
    /// An administrator, or the anonymous future owner.
    pub requester: Requester,
}

impl Handler<Register> for UserActor {
    type Result = CancelOnDrop<Result<User, ActorError>>;

    fn handle(&mut self, message: Register, _: &mut Self::Context) -> Self::Result {
        let actor = self.clone();
        CancelOnDrop::new(async move {
            let share = Share::from(&message.requester);
            if let Err(error) = actor.require_registration_pace(share) {
                sleep(REFUSAL_DELAY).await;
                return Err(error);
            }
            let password_hash = actor.hashing.hash(message.password, share).await?;
            let now = actor.clock.now();
            let user = User {
                external_id: message.external_id,
                metadata: message.metadata,
                ..User::new(message.username, message.roles, now)
            };
            let action = match message.requester.session_id {
                Some(_) => AuditAction::UserCreated,
                None => AuditAction::UserRegistered,
            };
            let record = AuditRecord::for_user(user.created_at, action, &user, message.requester);
            let new = Credentials { user, password_hash };
            Ok(actor.store.insert_user(&new, &record).await?)
        })
    }
}

impl UserActor {
    /// Counts a registration of its network. Accounts that an administrator makes do not count.
    fn require_registration_pace(&self, share: Share) -> Result<(), ActorError> {
        let Some(network) = share.network.filter(|_| !share.is_known) else { return Ok(()) };
        let now = self.clock.uptime();
        let mut registrations = self.registrations.borrow_mut();
        if registrations.admit(network, now).is_some() {
            return Ok(());
        }
        let retry_after = registrations.wait(network, now);
        Err(ActorError::TooManyRegistrations { retry_after })
    }
}
