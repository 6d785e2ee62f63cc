//! `UserActor`: accounts, and who may log in to them.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, Message};
use thiserror::Error;

use super::hasher::Place;
use super::{HashError, HashQueue, Unanswered, WhileAwaited};
use crate::clock::Clock;
use crate::domain::{
    AuditAction, AuditRecord, Initiator, Password, PasswordHash, Roles, User, UserId, UserVersion,
    Username,
};
use crate::hashing::HashingError;
use crate::store::{
    AuditEntry, AuditPage, Credentials, InsertUserError, Store, StoreError, UserPage,
};
use crate::telemetry::Chain;

/// Adds an account. Replies with it once it is committed.
pub struct Register {
    /// What the owner will log in with.
    pub username: Username,
    /// What will prove that it is the owner.
    pub password: Password,
    /// What it may do.
    pub roles: Roles,
    /// Who wants it: somebody who is logged in, or else its owner.
    pub by: Initiator,
}

/// Checks a username and a password. Replies with the account that they belong to, after the same
/// time whatever is wrong with them.
pub struct Login {
    /// What was given; `None` when it cannot be anybody's, being malformed.
    pub claimed: Option<(Username, Password)>,
}

/// Looks an account up. Replies with it.
pub struct FindUser {
    /// Which it is.
    pub id: UserId,
}

/// Lists accounts. Replies with a page of them.
pub struct ListUsers {
    /// Which page.
    pub page: UserPage,
}

/// Reads the audit log. Replies with a page of it.
pub struct ReadAudit {
    /// Which page.
    pub page: AuditPage,
}

/// Checks the password of a user who is logged in already. Replies with the account, which has just
/// been proved to be theirs.
pub struct ProvePassword {
    /// Whose it has to be.
    pub id: UserId,
    /// What was given; `None` when it cannot be anybody's, being malformed.
    pub password: Option<Password>,
}

/// Hashes a new password. Replies with the hash.
pub struct HashPassword {
    /// What is hashed.
    pub password: Password,
}

/// Finds out whether accounts can be reached. Replies when the database has answered.
pub struct Ping;

/// Why the actor did not do what it was asked.
#[derive(Debug, Error)]
pub enum UserError {
    /// Another account bears the username.
    #[error("the username is taken")]
    UsernameTaken,
    /// There is no such account any more.
    #[error("the account is gone")]
    Gone,
    /// The session of whoever wanted something has ended.
    #[error("the session of the initiator is over")]
    InitiatorOut,
    /// No account has this username and this password.
    #[error("the credentials are invalid")]
    InvalidCredentials,
    /// Too many passwords wait to be hashed.
    #[error("too many passwords wait to be hashed")]
    Overloaded {
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// There was no answer in time.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    /// The database did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Hashing failed.
    #[error(transparent)]
    Hashing(#[from] HashingError),
}

/// Owns the accounts: every handler is a future over shared parts, so that a slow query delays
/// nobody but its asker. What arrives at the same time is put in order by the database.
#[derive(Clone)]
pub struct UserActor {
    store: Arc<dyn Store>,
    hashing: HashQueue,
    clock: Arc<dyn Clock>,
}

impl UserActor {
    /// Puts the actor together from its parts.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, hashing: HashQueue, clock: Arc<dyn Clock>) -> Self {
        Self { store, hashing, clock }
    }

    async fn register(self, message: Register) -> Result<User, UserError> {
        let Register { username, password, roles, by } = message;
        let password_hash = self.hashing.hash(password).await?;
        let user = User {
            id: UserId::random(),
            username,
            roles,
            created_at: self.clock.now(),
            disabled_at: None,
            version: UserVersion::FIRST,
        };
        let action = match by.user_id {
            Some(_) => AuditAction::UserCreated,
            None => AuditAction::UserRegistered,
        };
        let record = AuditRecord::of_user(user.created_at, action, &user, by);
        let new = Credentials { user, password_hash };
        self.store.insert_user(&new, &record).await?;
        Ok(new.user)
    }

    async fn log_in(self, claimed: Option<(Username, Password)>) -> Result<User, UserError> {
        // First of all: a login that is shed costs the database nothing.
        let place = self.hashing.enter().await?;
        let Some((username, password)) = claimed else {
            return refuse(place).await;
        };
        let Some(stored) = self.store.find_credentials(&username).await? else {
            return refuse(place).await;
        };
        let attempt = (password.clone(), stored.password_hash.clone());
        let is_right = place.verify(Some(attempt)).await?;
        if !is_right || stored.user.disabled_at.is_some() {
            return Err(UserError::InvalidCredentials);
        }
        if !self.hashing.is_current(&stored.password_hash) {
            // On its own time: the login is good already, whatever becomes of this.
            actix::spawn(self.rehash(stored.user.id, password, stored.password_hash));
        }
        Ok(stored.user)
    }

    async fn find(self, id: UserId) -> Result<User, UserError> {
        self.store.find_user(id).await?.ok_or(UserError::Gone)
    }

    async fn prove(self, id: UserId, password: Option<Password>) -> Result<User, UserError> {
        let username = self.clone().find(id).await?.username;
        self.log_in(password.map(|password| (username, password))).await
    }

    /// Brings a hash to the configured cost. When that fails, the next login tries again.
    async fn rehash(self, id: UserId, password: Password, old: PasswordHash) {
        let replaced = async {
            let new = self.hashing.hash(password).await?;
            Ok::<_, UserError>(self.store.replace_password_hash(id, &old, &new).await?)
        };
        if let Err(error) = replaced.await {
            tracing::warn!(user.id = %id, error = %Chain(&error), "a password keeps its old cost");
        }
    }
}

/// Refuses after the time that checking a password takes.
async fn refuse(place: Place) -> Result<User, UserError> {
    place.verify(None).await?;
    Err(UserError::InvalidCredentials)
}

impl Actor for UserActor {
    type Context = Context<Self>;
}

impl Message for Register {
    type Result = Result<User, UserError>;
}

impl Handler<Register> for UserActor {
    type Result = WhileAwaited<Result<User, UserError>>;

    fn handle(&mut self, message: Register, _: &mut Self::Context) -> Self::Result {
        WhileAwaited::new(self.clone().register(message))
    }
}

impl Message for Login {
    type Result = Result<User, UserError>;
}

impl Handler<Login> for UserActor {
    type Result = WhileAwaited<Result<User, UserError>>;

    fn handle(&mut self, Login { claimed }: Login, _: &mut Self::Context) -> Self::Result {
        WhileAwaited::new(self.clone().log_in(claimed))
    }
}

impl Message for FindUser {
    type Result = Result<User, UserError>;
}

impl Handler<FindUser> for UserActor {
    type Result = WhileAwaited<Result<User, UserError>>;

    fn handle(&mut self, FindUser { id }: FindUser, _: &mut Self::Context) -> Self::Result {
        WhileAwaited::new(self.clone().find(id))
    }
}

impl Message for ListUsers {
    type Result = Result<Vec<User>, UserError>;
}

impl Handler<ListUsers> for UserActor {
    type Result = WhileAwaited<Result<Vec<User>, UserError>>;

    fn handle(&mut self, ListUsers { page }: ListUsers, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        WhileAwaited::new(async move { Ok(store.list_users(&page).await?) })
    }
}

impl Message for ReadAudit {
    type Result = Result<Vec<AuditEntry>, UserError>;
}

impl Handler<ReadAudit> for UserActor {
    type Result = WhileAwaited<Result<Vec<AuditEntry>, UserError>>;

    fn handle(&mut self, ReadAudit { page }: ReadAudit, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        WhileAwaited::new(async move { Ok(store.audit(&page).await?) })
    }
}

impl Message for ProvePassword {
    type Result = Result<User, UserError>;
}

impl Handler<ProvePassword> for UserActor {
    type Result = WhileAwaited<Result<User, UserError>>;

    fn handle(&mut self, message: ProvePassword, _: &mut Self::Context) -> Self::Result {
        let ProvePassword { id, password } = message;
        WhileAwaited::new(self.clone().prove(id, password))
    }
}

impl Message for HashPassword {
    type Result = Result<PasswordHash, UserError>;
}

impl Handler<HashPassword> for UserActor {
    type Result = WhileAwaited<Result<PasswordHash, UserError>>;

    fn handle(&mut self, message: HashPassword, _: &mut Self::Context) -> Self::Result {
        let hashing = self.hashing.clone();
        WhileAwaited::new(async move { Ok(hashing.hash(message.password).await?) })
    }
}

impl Message for Ping {
    type Result = Result<(), UserError>;
}

impl Handler<Ping> for UserActor {
    type Result = WhileAwaited<Result<(), UserError>>;

    fn handle(&mut self, _: Ping, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        WhileAwaited::new(async move { Ok(store.ping().await?) })
    }
}

impl From<InsertUserError> for UserError {
    fn from(error: InsertUserError) -> Self {
        match error {
            InsertUserError::UsernameTaken => Self::UsernameTaken,
            InsertUserError::InitiatorOut => Self::InitiatorOut,
            InsertUserError::Store(error) => Self::Store(error),
        }
    }
}

impl From<HashError> for UserError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            HashError::Unanswered(error) => Self::Unanswered(error),
            HashError::Hashing(error) => Self::Hashing(error),
        }
    }
}
