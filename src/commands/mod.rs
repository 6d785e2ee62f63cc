//! The command line for administrators. It works on the database of the service, past the service, which
//! follows as it follows other instances.

mod accounts;
mod input;
mod output;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use thiserror::Error;

use crate::clock::Clock;
use crate::config::{DatabaseSettings, ManagementConfig, UserArgs};
use crate::domain::{PasswordError, UnknownLabel, UsernameError};
use crate::hashing::HashingError;
use crate::http;
use crate::store::{self, ChangeUserError, InsertUserError, OpenError, StoreError};
use crate::tokens;
use accounts::Accounts;

/// Why a command was not carried out.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The username breaks a rule.
    #[error("bad username")]
    Username(#[from] UsernameError),
    /// The password breaks a rule.
    #[error("bad password")]
    Password(#[from] PasswordError),
    /// A role is none of those that there are.
    #[error("bad role")]
    Role(#[from] UnknownLabel),
    /// The password was not typed twice the same.
    #[error("the passwords differ")]
    PasswordsDiffer,
    /// No account bears the username.
    #[error("there is no account `{0}`")]
    NoSuchUser(String),
    /// The account was not added.
    #[error(transparent)]
    Insert(#[from] InsertUserError),
    /// The account was not changed.
    #[error(transparent)]
    Change(#[from] ChangeUserError),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Hashing failed.
    #[error(transparent)]
    Hashing(#[from] HashingError),
    /// Nothing could be read or written.
    #[error("cannot read or write")]
    Io(#[from] io::Error),
}

impl CommandError {
    /// Returns what the program exits with: 2 for what was asked wrongly, 3 for an account that is not
    /// there, 4 for one that stands in the way, 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Username(_) | Self::Password(_) | Self::Role(_) | Self::PasswordsDiffer => 2,
            Self::NoSuchUser(_) | Self::Change(ChangeUserError::Gone) => 3,
            Self::Insert(InsertUserError::UsernameTaken)
            | Self::Change(ChangeUserError::LastAdmin) => 4,
            _ => 1,
        }
        .into()
    }
}

/// Manages accounts.
///
/// # Errors
/// When that is not done.
pub async fn user(
    args: UserArgs,
    config: ManagementConfig,
    clock: Arc<dyn Clock>,
) -> Result<(), CommandError> {
    let accounts = Accounts::open(&config, clock).await?;
    let outcome = accounts.run(args).await;
    accounts.close().await;
    outcome
}

/// Brings the schema of the database up to date.
///
/// # Errors
/// When the database cannot be opened, or its schema is not one of ours.
pub async fn migrate(database: &DatabaseSettings) -> Result<(), CommandError> {
    store::open(database).await?.close().await;
    Ok(writeln!(io::stdout(), "the schema is up to date")?)
}

/// Prints a random secret that is good for signing tokens.
///
/// # Errors
/// When the operating system has no random bytes to give.
pub fn generate_secret() -> Result<(), CommandError> {
    Ok(writeln!(io::stdout(), "{}", *tokens::generate_secret()?)?)
}

/// Prints the OpenAPI document of the API.
///
/// # Errors
/// When it cannot be written.
pub fn openapi() -> Result<(), CommandError> {
    Ok(writeln!(io::stdout(), "{}", http::openapi())?)
}
