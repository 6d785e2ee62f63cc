//! Opens a session after a login.

use std::sync::Arc;

use actix::{Handler, Message};

use super::SessionActor;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::{
    AuditAction, AuditRecord, RequestOrigin, Requester, Session, SessionId, UserId, UserVersion,
};

/// Opens a session for a user whose password was just checked. Replies with the session once it is
/// committed, or with [`ActorError::InvalidCredentials`] if the account has changed since the check.
#[derive(Message)]
#[rtype(result = "Result<Session, ActorError>")]
pub struct OpenSession {
    pub user_id: UserId,
    /// Version of the account that the password was checked against.
    pub version: UserVersion,
    pub origin: RequestOrigin,
}

impl Handler<OpenSession> for SessionActor {
    type Result = CancelOnDrop<Result<Session, ActorError>>;

    fn handle(&mut self, message: OpenSession, _: &mut Self::Context) -> Self::Result {
        let now = self.clock.now();
        let session = Session {
            id: SessionId::random(),
            user_id: message.user_id,
            created_at: now,
            last_used_at: now,
            expires_at: now + self.tokens.session_lifetime,
            origin: message.origin,
        };
        let record = AuditRecord {
            at: now,
            action: AuditAction::SessionOpened,
            requester: Requester {
                user_id: Some(session.user_id),
                session_id: None,
                origin: Some(session.origin.clone()),
            },
            subject: session.user_id,
            session_id: Some(session.id),
            detail: None,
        };
        let store = Arc::clone(&self.store);
        CancelOnDrop::new(async move {
            if store.insert_session(&session, message.version, &record).await? {
                Ok(session)
            } else {
                Err(ActorError::InvalidCredentials)
            }
        })
    }
}
