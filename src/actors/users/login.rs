//! Logs a user in: checks the username and the password.

use std::time::Duration;

use actix::{Handler, Message};
use tokio::time::sleep;

use super::UserActor;
use super::authenticate::Refusal;
use super::throttle::ReservedAttempt;
use crate::actors::hash_queue::REFUSAL_DELAY;
use crate::actors::{ActorError, CancelOnDrop, HashPermit, Share};
use crate::domain::{AttemptResult, Device, Password, RequestOrigin, Requester, User, Username};
use crate::metrics::Door;
use crate::store::Credentials;

/// Time from a turn until the password is hashed. The account is read meanwhile, which takes longer if
/// there is one.
const READ_TIME: Duration = Duration::from_millis(5);

/// Interval at which a login that depends on the results of others asks for them.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);

/// Checks a username and a password. Replies with the account, with
/// [`ActorError::InvalidCredentials`] after the time of the slowest hash, or with
/// [`ActorError::TooManyAttempts`].
#[derive(Message)]
#[rtype(result = "Result<LoggedIn, ActorError>")]
pub struct Login {
    /// Parsed credentials; `None` for malformed ones, which are refused like wrong ones.
    pub credentials: Option<(Username, Password)>,
    /// Device of a valid device token.
    pub device: Option<Device>,
    pub origin: RequestOrigin,
}

/// Account whose password was right.
#[derive(Clone, Debug)]
pub struct LoggedIn {
    pub user: User,
    /// Device of the login; `None` if it is not known to the account.
    pub device: Option<Device>,
    /// Whether the account had no login from this network within 30 days.
    pub is_new_network: bool,
}

/// Login with well-formed credentials.
struct Attempted {
    username: Username,
    password: Password,
    /// Device of a valid device token.
    device: Option<Device>,
    share: Share,
}

impl Handler<Login> for UserActor {
    type Result = CancelOnDrop<Result<LoggedIn, ActorError>>;

    fn handle(&mut self, message: Login, _: &mut Self::Context) -> Self::Result {
        let Login { credentials, device, origin } = message;
        let actor = self.clone();
        CancelOnDrop::new(async move {
            // It began with the request, so that the time of the refusal does not tell why.
            let refusal_delay = sleep(REFUSAL_DELAY);
            let requester = Requester::anonymous(origin);
            let share = Share { is_known: device.is_some(), ..Share::from(&requester) };
            let Some((username, password)) = credentials else {
                return actor.refuse_malformed(share, &requester).await;
            };
            let login = Attempted { username, password, device, share };
            let checked = actor.log_in(&login, &requester).await;
            if let Err(ActorError::TooManyAttempts { .. }) = checked {
                refusal_delay.await;
            }
            checked
        })
    }
}

impl UserActor {
    /// Refuses credentials that no account has. They are not counted: they are no guesses.
    async fn refuse_malformed(
        &self,
        share: Share,
        requester: &Requester,
    ) -> Result<LoggedIn, ActorError> {
        let permit = self.hashing.acquire(share).await?;
        let checked = self.verify(permit, None, None, share).await?;
        let error = ActorError::InvalidCredentials;
        self.refusals.report(Door::Login, None, None, &error, requester);
        if let Err(refusal) = checked {
            self.wait_for(refusal).await;
        }
        Err(error)
    }

    /// Returns the account if the password is right. Comes back to the queue while the results of
    /// other logins decide about this one.
    async fn log_in(
        &self,
        login: &Attempted,
        requester: &Requester,
    ) -> Result<LoggedIn, ActorError> {
        self.require_pace(login, requester)?;
        loop {
            if let Some(logged_in) = self.try_to_log_in(login, requester).await? {
                return Ok(logged_in);
            }
            sleep(BUSY_INTERVAL).await;
        }
    }

    /// Waits for a turn, counts the attempt, and checks the password. Returns `None` if it cannot be
    /// counted yet.
    async fn try_to_log_in(
        &self,
        login: &Attempted,
        requester: &Requester,
    ) -> Result<Option<LoggedIn>, ActorError> {
        let Attempted { username, device, share, .. } = login;
        // Before the account is read: a login that is refused here costs the database nothing.
        let permit = self.hashing.acquire(*share).await?;
        let reading = sleep(READ_TIME);
        // Others may have failed while this one waited.
        self.require_pace(login, requester)?;
        let stored = self.store.find_credentials(username).await?;
        let user = stored.as_ref().map(|stored| stored.user.clone());
        let device =
            device.filter(|device| user.as_ref().is_some_and(|user| device.is_known_to(user)));
        let reserved =
            self.throttle.reserve_login(username, user.as_ref(), device, requester).await;
        let reserved =
            reserved.inspect_err(|error| self.report(login, user.as_ref(), error, requester));
        let Some(attempt) = reserved? else { return Ok(None) };
        reading.await;
        let refusal = match self.check(login, permit, attempt, stored, device).await? {
            Ok(logged_in) => return Ok(Some(logged_in)),
            Err(refusal) => refusal,
        };
        let (error, now) = (ActorError::InvalidCredentials, self.clock.uptime());
        self.network_pace.borrow_mut().record_failure(*share, username, now);
        self.report(login, user.as_ref(), &error, requester);
        self.wait_for(refusal).await;
        Err(error)
    }

    /// Hashes the password and counts the result.
    async fn check(
        &self,
        login: &Attempted,
        permit: HashPermit,
        attempt: ReservedAttempt,
        stored: Option<Credentials>,
        device: Option<Device>,
    ) -> Result<Result<LoggedIn, Refusal>, ActorError> {
        let is_new_network = !attempt.is_known_network;
        let checked =
            self.verify(permit, stored, Some(login.password.clone()), login.share).await?;
        let result = if checked.is_ok() { AttemptResult::Success } else { AttemptResult::Failure };
        attempt.settle(result).await?;
        Ok(checked.map(|user| LoggedIn { user, device, is_new_network }))
    }

    /// Checks the pace of the network.
    ///
    /// # Errors
    /// Returns [`ActorError::TooManyAttempts`], and reports it.
    fn require_pace(&self, login: &Attempted, requester: &Requester) -> Result<(), ActorError> {
        let now = self.clock.uptime();
        let admitted = self.network_pace.borrow_mut().admit(login.share, &login.username, now);
        admitted.inspect_err(|error| self.report(login, None, error, requester))
    }

    /// Reports a refusal.
    fn report(
        &self,
        login: &Attempted,
        account: Option<&User>,
        error: &ActorError,
        requester: &Requester,
    ) {
        let name_hash = Some(self.throttle.name_hash(&login.username));
        self.refusals.report(Door::Login, account, name_hash, error, requester);
    }
}
