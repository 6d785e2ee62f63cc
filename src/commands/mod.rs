//! The command line for administrators. It works directly on the database; running instances learn
//! of the changes as they learn of those of other instances.

mod accounts;
mod error;
mod input;
mod keys;
mod output;

use std::io::{self, Write};
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{Config, DatabaseSettings, KeyArgs, ManagementConfig, UserArgs, UserCommand};
use crate::http;
use crate::store::{self, SchemaPolicy, Store};
use crate::tokens;
use accounts::Accounts;

pub use error::CommandError;

/// Runs `portcullis user`. Only `user create` creates a missing database.
///
/// # Errors
/// Returns an error if the arguments are invalid, if the account does not allow the operation, or
/// if the database fails.
pub async fn user(
    args: UserArgs,
    config: ManagementConfig,
    clock: Arc<dyn Clock>,
) -> Result<(), CommandError> {
    let policy = match args.command {
        UserCommand::Create { .. } => SchemaPolicy::Migrate,
        _ => SchemaPolicy::Require,
    };
    let store = open(&config.database, policy).await?;
    let accounts = Accounts::new(store, &config.hashing, clock);
    let outcome = accounts.run(args).await;
    accounts.close().await;
    outcome
}

/// Runs `portcullis key list`, which needs no secret.
///
/// # Errors
/// Returns an error if the database fails.
pub async fn list_keys(config: ManagementConfig, json: bool) -> Result<(), CommandError> {
    let store = open(&config.database, SchemaPolicy::Require).await?;
    let outcome = keys::list(&*store, json).await;
    store.close().await;
    outcome
}

/// Runs the other commands of `portcullis key`.
///
/// # Errors
/// Returns an error if the arguments are invalid, if the keys do not allow the operation, or if the
/// secret or the database fails.
pub async fn change_keys(
    args: KeyArgs,
    config: Config,
    host: Arc<dyn Clock>,
) -> Result<(), CommandError> {
    let store = open(&config.database, SchemaPolicy::Require).await?;
    let outcome = keys::change(args.command, args.json, &config, &store, host).await;
    store.close().await;
    outcome
}

/// Runs `portcullis secret retire`.
///
/// # Errors
/// Returns an error if the secret cannot decrypt the keys, or if the database fails.
pub async fn retire_secret(config: Config) -> Result<(), CommandError> {
    let store = open(&config.database, SchemaPolicy::Require).await?;
    let outcome = keys::retire(&config, &*store).await;
    store.close().await;
    outcome
}

/// Migrates the schema of the database; creates a missing database.
///
/// # Errors
/// Returns an error if the database cannot be opened or its schema is that of a newer version.
pub async fn migrate(database: &DatabaseSettings) -> Result<(), CommandError> {
    open(database, SchemaPolicy::Migrate).await?.close().await;
    Ok(writeln!(io::stdout(), "the schema is up to date")?)
}

/// Opens the database, and names it and what was done to it on standard error: a wrong one would
/// go unnoticed.
async fn open(
    database: &DatabaseSettings,
    policy: SchemaPolicy,
) -> Result<Arc<dyn Store>, CommandError> {
    let say = |sentence: &str| {
        // A command does not fail because its comments cannot be read.
        let _ = writeln!(io::stderr(), "{sentence}");
    };
    let store = store::open(database, policy, &say).await?;
    say(&format!("using the database {}", store::describe(&database.database)));
    Ok(store)
}

/// Prints a random value for `JWT_SECRET_KEY`.
///
/// # Errors
/// Returns an error if the operating system provides no random bytes, or if standard output fails.
pub fn generate_secret() -> Result<(), CommandError> {
    Ok(writeln!(io::stdout(), "{}", *tokens::generate_secret()?)?)
}

/// Prints the OpenAPI document of the API.
///
/// # Errors
/// Returns an error if standard output fails.
pub fn openapi() -> Result<(), CommandError> {
    Ok(writeln!(io::stdout(), "{}", http::openapi(None))?)
}
