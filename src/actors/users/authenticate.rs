//! Checks passwords. Every refusal takes the time of one hash, so that it does not tell why, and is
//! reported.

use super::UserActor;
use crate::actors::{ActorError, HashPermit, Share};
use crate::domain::{AccountError, Password, PasswordHash, Requester, User, UserId, Username};
use crate::telemetry::ErrorChain;

impl UserActor {
    /// Returns the account that the credentials belong to; `None` stands for malformed ones.
    ///
    /// # Errors
    /// Returns [`ActorError::InvalidCredentials`] for unknown users, wrong passwords and disabled
    /// accounts, [`ActorError::Overloaded`] if the hashing queue is full, and
    /// [`ActorError::TooManyAttempts`] if too many names have failed from the network.
    pub(super) async fn authenticate(
        &self,
        credentials: Option<(Username, Password)>,
        requester: &Requester,
    ) -> Result<User, ActorError> {
        // Before the account is read: a login that is refused here costs the database nothing.
        let share = Share::from(requester);
        let permit = self.hashing.acquire(share).await?;
        let Some((username, password)) = credentials else {
            return self.refuse(permit, requester).await;
        };
        // Others may have failed while this one waited.
        self.require_pace(share, &username)?;
        let Some(stored) = self.store.find_credentials(&username).await? else {
            return self.refuse(permit, requester).await;
        };
        let attempt = (password.clone(), stored.password_hash.clone());
        let is_right = permit.verify(Some(attempt)).await?;
        if !is_right || stored.user.disabled_at.is_some() {
            self.refusals.report(Some(&stored.user), requester);
            return Err(ActorError::InvalidCredentials);
        }
        if !self.hashing.is_current(&stored.password_hash) {
            // Not awaited: the login succeeds whether or not this does.
            actix::spawn(self.clone().rehash(
                stored.user.id,
                password,
                stored.password_hash,
                share,
            ));
        }
        Ok(stored.user)
    }

    /// Returns the account of a logged-in user after checking its password again.
    ///
    /// # Errors
    /// Returns [`AccountError::NotFound`] if the account has been deleted, or an error of
    /// [`Self::authenticate`].
    pub(super) async fn authenticate_again(
        &self,
        id: UserId,
        password: Option<Password>,
        requester: &Requester,
    ) -> Result<User, ActorError> {
        let user = self.store.find_user(id).await?.ok_or(AccountError::NotFound)?;
        let Some(password) = password else {
            let permit = self.hashing.acquire(requester.into()).await?;
            permit.verify(None).await?;
            self.refusals.report(Some(&user), requester);
            return Err(ActorError::InvalidCredentials);
        };
        self.authenticate(Some((user.username, password)), requester).await
    }

    /// Refuses after the time that checking a password takes.
    async fn refuse(&self, permit: HashPermit, requester: &Requester) -> Result<User, ActorError> {
        permit.verify(None).await?;
        self.refusals.report(None, requester);
        Err(ActorError::InvalidCredentials)
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
