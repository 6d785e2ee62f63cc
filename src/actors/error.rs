//! The reasons why an actor does not carry out a message.

use std::time::Duration;

use thiserror::Error;

use crate::domain::{AccountError, ClientError, KeyError, PasswordError, RoleError};
use crate::hashing::HashingError;
use crate::keys::KeysError;
use crate::store::{ClientWriteError, RoleWriteError, StoreError, WriteError};
use crate::tokens::CryptoError;

/// Reason why an actor did not carry out a message. It can be cloned, since one failure answers
/// every caller of a batch.
#[derive(Clone, Debug, Error)]
pub enum ActorError {
    /// The account cannot be created or changed.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The new password is not allowed for the account.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// No enabled account has this username and password.
    #[error("the credentials are invalid")]
    InvalidCredentials,
    /// Too many passwords were wrong.
    #[error("there were too many failed attempts")]
    TooManyAttempts {
        /// Time until the next attempt.
        retry_after: Duration,
    },
    /// The network registers too many accounts.
    #[error("the network registers too many accounts")]
    TooManyRegistrations {
        /// Time until the next registration.
        retry_after: Duration,
    },
    /// The session does not exist or has ended.
    #[error("the session does not exist or has ended")]
    SessionNotFound,
    /// The session belongs to another account.
    #[error("the session belongs to another account")]
    NotOwner,
    /// The signing keys do not allow the change.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The role cannot be changed.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// The client cannot be changed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The client requests tokens too often.
    #[error("the client requests too many tokens")]
    TooManyTokens {
        /// Time until the next token.
        retry_after: Duration,
    },
    /// The hashing queue is full.
    #[error("the hashing queue is full")]
    Overloaded {
        /// Time until the queue has probably drained.
        retry_after: Duration,
    },
    /// An actor did not reply.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Hashing failed.
    #[error(transparent)]
    Hashing(#[from] HashingError),
    /// No key could be made.
    #[error("failed to make a signing key")]
    Crypto(#[from] CryptoError),
}

/// Reason why an actor did not reply.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AskError {
    /// The deadline passed.
    #[error("no reply within {0:?}")]
    Timeout(Duration),
    /// The actor has stopped.
    #[error("the actor has stopped")]
    Stopped,
}

impl From<KeysError> for ActorError {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Key(error) => Self::Key(error),
            KeysError::Store(error) => Self::Store(error),
            KeysError::Crypto(error) => Self::Crypto(error),
        }
    }
}

impl From<RoleWriteError> for ActorError {
    fn from(error: RoleWriteError) -> Self {
        match error {
            RoleWriteError::Role(error) => Self::Role(error),
            RoleWriteError::Store(error) => Self::Store(error),
        }
    }
}

impl From<ClientWriteError> for ActorError {
    fn from(error: ClientWriteError) -> Self {
        match error {
            ClientWriteError::Client(error) => Self::Client(error),
            ClientWriteError::Store(error) => Self::Store(error),
        }
    }
}

impl From<WriteError> for ActorError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Account(error) => Self::Account(error),
            WriteError::Store(error) => Self::Store(error),
        }
    }
}
