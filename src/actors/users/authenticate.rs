//! Checks passwords. A refusal takes the time of one hash, so that it does not tell why.

use tokio::time::sleep;

use super::UserActor;
use crate::actors::hash_queue::REFUSAL_DELAY;
use crate::actors::{ActorError, HashPermit, RevocationTarget, Share};
use crate::domain::{
    AccountError, AttemptResult, AuditAction, Password, PasswordHash, Requester, User, UserId,
};
use crate::metrics::Door;
use crate::store::Credentials;
use crate::telemetry::ErrorChain;

impl UserActor {
    /// Returns the account of a session after checking its password again. The failure that is one
    /// too many ends the session. `None` stands for a malformed password.
    ///
    /// # Errors
    /// Returns [`AccountError::NotFound`] if the account has been deleted,
    /// [`ActorError::InvalidCredentials`] for a wrong password, [`ActorError::TooManyAttempts`] after
    /// too many of them, and [`ActorError::Overloaded`] if the hashing queue is full.
    pub(super) async fn authenticate_again(
        &self,
        door: Door,
        id: UserId,
        password: Option<Password>,
        requester: &Requester,
    ) -> Result<User, ActorError> {
        let permit = self.hashing.acquire(requester.into()).await?;
        let user = self.store.find_user(id).await?.ok_or(AccountError::NotFound)?;
        let checked = self.check_in_session(permit, &user, password, requester).await;
        if let Err(error) = &checked {
            self.refusals.report(door, Some(&user), None, error, requester);
            if let ActorError::TooManyAttempts { .. } = error {
                sleep(REFUSAL_DELAY).await;
            }
        }
        checked
    }

    async fn check_in_session(
        &self,
        permit: HashPermit,
        user: &User,
        password: Option<Password>,
        requester: &Requester,
    ) -> Result<User, ActorError> {
        let session = requester.session_id.ok_or(ActorError::SessionNotFound)?;
        let attempt = self.throttle.reserve_in_session(session, user.id).await?;
        let stored = self.store.find_credentials(&user.username).await?;
        let attempted = stored.zip(password);
        if let Some(user) = self.verify(permit, attempted, requester.into()).await? {
            attempt.settle(AttemptResult::Success).await?;
            return Ok(user);
        }
        let failures = attempt.settle(AttemptResult::Failure).await?;
        if failures >= self.throttle.settings.session.max {
            let target = RevocationTarget::Session(session);
            let requester = requester.clone();
            let action = AuditAction::SessionEnded;
            self.revocations.revoke(target, action, Some(user.id), requester).await?;
        }
        Err(ActorError::InvalidCredentials)
    }

    /// Returns the account if the password is right and the account is enabled. `None`, for an
    /// unknown user or a malformed password, takes the same time.
    ///
    /// # Errors
    /// Returns [`ActorError::Ask`] if the hashing threads do not reply.
    pub(super) async fn verify(
        &self,
        permit: HashPermit,
        attempted: Option<(Credentials, Password)>,
        share: Share,
    ) -> Result<Option<User>, ActorError> {
        let Some((Credentials { user, password_hash }, password)) = attempted else {
            permit.verify(None).await?;
            return Ok(None);
        };
        let is_right = permit.verify(Some((password.clone(), password_hash.clone()))).await?;
        if !is_right || user.disabled_at.is_some() {
            return Ok(None);
        }
        if !self.hashing.is_current(&password_hash) {
            // Not awaited: the login succeeds whether or not this does.
            actix::spawn(self.clone().rehash(user.id, password, password_hash, share));
        }
        Ok(Some(user))
    }

    /// Replaces a hash by one of the configured cost. After a failure the next login tries again.
    async fn rehash(self, id: UserId, password: Password, old: PasswordHash, share: Share) {
        let replaced = async {
            let new = self.hashing.hash(password, share).await?;
            Ok::<_, ActorError>(self.store.replace_password_hash(id, &old, &new).await?)
        };
        if let Err(error) = replaced.await {
            let error = ErrorChain(&error);
            tracing::warn!(user.id = %id, %error, "failed to rehash a password at the configured cost");
        }
    }
}
