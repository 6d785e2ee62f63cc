//! Checks passwords. A refusal takes as long as the slowest hash in the database, so that it does
//! not tell why.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::sleep;
use tracing::Instrument;

use super::UserActor;
use crate::actors::hash_queue::{HashJobResult, REFUSAL_DELAY};
use crate::actors::{ActorError, HashPermit, RevocationTarget, Share};
use crate::domain::{
    AccountError, AttemptResult, AuditAction, HashCost, Password, PasswordHash, Requester, User,
    UserId,
};
use crate::metrics::Door;
use crate::store::Credentials;
use crate::telemetry::ErrorChain;

/// Result of the check of a password: the account, if the password is right.
pub(super) type Checked = Result<User, Refusal>;

/// Refusal of a password. It is counted and reported before it is waited for: a requester that left
/// meanwhile would have learnt that the password is wrong, since a right one is accepted sooner.
#[must_use]
pub(super) struct Refusal {
    /// Uptime of the reply.
    at: Duration,
}

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
        let (error, refusal) = match checked {
            Ok(Ok(user)) => return Ok(user),
            Ok(Err(refusal)) => (ActorError::InvalidCredentials, refusal),
            Err(error @ ActorError::TooManyAttempts { .. }) => {
                (error, Refusal { at: self.clock.uptime() + REFUSAL_DELAY })
            }
            Err(error) => return Err(error),
        };
        self.refusals.report(door, Some(&user), None, &error, requester);
        self.wait_for(refusal).await;
        Err(error)
    }

    /// Checks the password and counts the result.
    async fn check_in_session(
        &self,
        permit: HashPermit,
        user: &User,
        password: Option<Password>,
        requester: &Requester,
    ) -> Result<Checked, ActorError> {
        let session = requester.session_id.ok_or(ActorError::SessionNotFound)?;
        let attempt = self.throttle.reserve_in_session(session, user.id).await?;
        let stored = self.store.find_credentials(&user.username).await?;
        let checked = self.verify(permit, stored, password, requester.into()).await?;
        if checked.is_ok() {
            attempt.settle(AttemptResult::Success).await?;
            return Ok(checked);
        }
        let failures = attempt.settle(AttemptResult::Failure).await?;
        if failures >= self.throttle.settings.session.max {
            let target = RevocationTarget::Session(session);
            let requester = requester.clone();
            let action = AuditAction::SessionEnded;
            self.revocations.revoke(target, action, Some(user.id), requester).await?;
        }
        Ok(checked)
    }

    /// Accepts a right password of an enabled account. `None`, for an unknown user or a malformed
    /// password, is refused at the same time as a wrong password.
    ///
    /// # Errors
    /// Returns [`ActorError::Ask`] if the hashing threads do not reply.
    pub(super) async fn verify(
        &self,
        permit: HashPermit,
        stored: Option<Credentials>,
        password: Option<Password>,
        share: Share,
    ) -> Result<Checked, ActorError> {
        let forms = password.as_ref().map_or(1, Password::count_forms);
        let attempted = stored.zip(password);
        let hashes = attempted
            .as_ref()
            .map(|(stored, password)| (password.clone(), stored.password_hash.clone()));
        let cost = attempted.as_ref().and_then(|(stored, _)| stored.password_hash.cost());
        let refusal_time = self.refusal_time(cost, forms);
        let HashJobResult { result: is_right, time } = permit.verify(hashes, forms).await?;
        if forms == 1 {
            self.hash_times.borrow_mut().observe(cost, time);
        }
        let is_accepted =
            |(stored, _): &(Credentials, _)| is_right && stored.user.disabled_at.is_none();
        let Some((Credentials { user, password_hash }, password)) = attempted.filter(is_accepted)
        else {
            return Ok(Err(Refusal { at: time.started_at + refusal_time }));
        };
        if let Some(iterations) = self.hashing.replacement(&password_hash) {
            // Not awaited: the login succeeds whether or not this does.
            let rehash = self.clone().rehash(user.id, password, password_hash, iterations, share);
            actix::spawn(rehash.in_current_span());
        }
        Ok(Ok(user))
    }

    /// Waits for the time of a refusal, without a turn: others hash meanwhile.
    pub(super) async fn wait_for(&self, refusal: Refusal) {
        sleep(refusal.at.saturating_sub(self.clock.uptime())).await;
    }

    /// Returns the time after which a password is refused, counted from the start of its hash. It
    /// leaves half of the time of a request for the rest.
    fn refusal_time(&self, cost: Option<HashCost>, forms: u32) -> Duration {
        let refusal_time = self.hash_times.borrow_mut().refusal_time(cost);
        (refusal_time * forms).min(self.timeout / 2)
    }

    /// Replaces a hash by one of this service. After a failure the next login tries again.
    async fn rehash(
        self,
        id: UserId,
        password: Password,
        old: PasswordHash,
        iterations: NonZeroU32,
        share: Share,
    ) {
        let replaced = async {
            let new = self.hashing.hash_with(iterations, password, share).await?;
            Ok::<_, ActorError>(self.store.replace_password_hash(id, &old, &new).await?)
        };
        if let Err(error) = replaced.await {
            let error = ErrorChain(&error);
            tracing::warn!(user.id = %id, %error, "failed to replace a password hash");
        }
    }
}
