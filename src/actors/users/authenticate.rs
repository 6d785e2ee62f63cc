//! Checks passwords. Every refusal takes the time of one hash, so that it does not tell why.

use super::UserActor;
use crate::actors::{ActorError, HashPermit};
use crate::domain::{AccountError, Password, PasswordHash, User, UserId, Username};
use crate::telemetry::ErrorChain;

impl UserActor {
    /// Returns the account that the credentials belong to; `None` stands for malformed ones.
    ///
    /// # Errors
    /// Returns [`ActorError::InvalidCredentials`] for unknown users, wrong passwords and disabled
    /// accounts, [`ActorError::Overloaded`] if the hashing queue is full.
    pub(super) async fn authenticate(
        &self,
        credentials: Option<(Username, Password)>,
    ) -> Result<User, ActorError> {
        // Before the account is read: a login that is refused here costs the database nothing.
        let permit = self.hashing.acquire().await?;
        let Some((username, password)) = credentials else {
            return refuse(permit).await;
        };
        let Some(stored) = self.store.find_credentials(&username).await? else {
            return refuse(permit).await;
        };
        let attempt = (password.clone(), stored.password_hash.clone());
        let is_right = permit.verify(Some(attempt)).await?;
        if !is_right || stored.user.disabled_at.is_some() {
            return Err(ActorError::InvalidCredentials);
        }
        if !self.hashing.is_current(&stored.password_hash) {
            // Not awaited: the login succeeds whether or not this does.
            actix::spawn(self.clone().rehash(stored.user.id, password, stored.password_hash));
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
    ) -> Result<User, ActorError> {
        let user = self.store.find_user(id).await?.ok_or(AccountError::NotFound)?;
        self.authenticate(password.map(|password| (user.username, password))).await
    }

    /// Replaces a hash by one of the configured cost. After a failure the next login tries again.
    async fn rehash(self, id: UserId, password: Password, old: PasswordHash) {
        let replaced = async {
            let new = self.hashing.hash(password).await?;
            Ok::<_, ActorError>(self.store.replace_password_hash(id, &old, &new).await?)
        };
        if let Err(error) = replaced.await {
            let error = ErrorChain(&error);
            tracing::warn!(user.id = %id, %error, "failed to rehash a password at the configured cost");
        }
    }
}

/// Refuses after the time that checking a password takes.
async fn refuse(permit: HashPermit) -> Result<User, ActorError> {
    permit.verify(None).await?;
    Err(ActorError::InvalidCredentials)
}
