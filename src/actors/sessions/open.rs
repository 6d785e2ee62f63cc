//! Opens a session after a login.

use std::sync::Arc;

use actix::{Handler, Message};
use futures_util::future::try_join_all;

use super::{SessionActor, TokenGrant};
use crate::actors::{ActorError, CancelOnDrop, RevocationTarget};
#[cfg(doc)]
use crate::domain::AccountError;
use crate::domain::{
    Audience, AuditAction, AuditRecord, Generation, RequestOrigin, Requester, Session, SessionId,
    User,
};

/// Detail of the record of a login from a network that is not known to the account.
const NEW_NETWORK: &str = "new network";

/// Opens a session for a user whose password was just checked. If the account has too many, those
/// longest unused end.
///
/// Replies with the grant of its first tokens once the session is committed, with
/// [`AccountError::Changed`] if the account has changed since the check, or with
/// [`AccountError::TooManyRevocations`].
#[derive(Message)]
#[rtype(result = "Result<TokenGrant, ActorError>")]
pub struct OpenSession {
    /// Account in the state that the password was checked against.
    pub user: User,
    /// Audience of the access tokens; `None` for the default one.
    pub audience: Option<Audience>,
    /// Whether the account had no login from this network within 30 days.
    pub is_new_network: bool,
    pub origin: RequestOrigin,
}

impl Handler<OpenSession> for SessionActor {
    type Result = CancelOnDrop<Result<TokenGrant, ActorError>>;

    fn handle(&mut self, message: OpenSession, _: &mut Self::Context) -> Self::Result {
        let OpenSession { user, audience, is_new_network, origin } = message;
        let now = self.clock.now();
        let expires_at = now + self.tokens.session_lifetime;
        let session = Session {
            id: SessionId::random(),
            user_id: user.id,
            created_at: now,
            last_used_at: now,
            expires_at,
            tokens_expire_at: expires_at.min(now + self.tokens.lifetime),
            audience,
            last_origin: origin.clone(),
            origin,
        };
        let record = AuditRecord {
            at: now,
            action: AuditAction::SessionOpened,
            requester: Requester {
                user_id: Some(user.id),
                ..Requester::anonymous(session.origin.clone())
            },
            subject: Some(user.id),
            session_id: Some(session.id),
            detail: is_new_network.then(|| NEW_NETWORK.to_owned()),
        };
        let store = Arc::clone(&self.store);
        let revocations = Arc::clone(&self.revocations);
        let sessions_per_user = self.tokens.sessions_per_user;
        CancelOnDrop::new(async move {
            let opened =
                store.insert_session(&session, user.version, sessions_per_user, &record).await?;
            try_join_all(opened.excess.into_iter().map(|excess| {
                let target = RevocationTarget::Session(excess);
                let requester = record.requester.clone();
                revocations.revoke(target, AuditAction::SessionEnded, Some(user.id), requester)
            }))
            .await?;
            let generation = Generation::FIRST;
            Ok(TokenGrant {
                user: User { permissions: opened.permissions, ..user },
                session_id: session.id,
                audience: session.audience,
                issued_at: now,
                token_expires_at: session.tokens_expire_at,
                generation,
            })
        })
    }
}
