//! The command line for administrators. It works directly on the database; running instances learn
//! of the changes as they learn of those of other instances.

mod accounts;
mod clients;
mod database;
mod doctor;
mod error;
mod export;
mod import;
mod import_row;
mod input;
mod keys;
mod lists;
mod output;
mod roles;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::{
    self, Cli, ClientArgs, Config, CopyConfig, DatabaseSettings, DoctorArgs, ImportArgs, KeyArgs,
    ManagementConfig, RawSettings, RoleArgs, Shell, UserArgs, UserCommand,
};
use crate::http;
use crate::store::{self, SchemaPolicy, Store};
use crate::tokens;
use accounts::Accounts;
use clients::Clients;
use output::Printer;

pub use error::CommandError;

/// Runs `portcullis user`. Only `user create` and `user import` create a missing database; a dry run
/// does not.
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
        UserCommand::Create { .. } | UserCommand::Import(ImportArgs { dry_run: false, .. }) => {
            SchemaPolicy::Migrate
        }
        _ => SchemaPolicy::Require,
    };
    on_database(&config.database, policy, async |store| {
        Accounts::new(store, &config.hashing, config.passwords, clock).run(args).await
    })
    .await
}

/// Runs `portcullis role`.
///
/// # Errors
/// Returns an error if the arguments are invalid, if the role does not allow the operation, or if
/// the database fails.
pub async fn role(args: RoleArgs, config: ManagementConfig) -> Result<(), CommandError> {
    on_database(&config.database, SchemaPolicy::Require, async |store| {
        roles::run(args.command, args.json, &*store).await
    })
    .await
}

/// Runs `portcullis client`.
///
/// # Errors
/// Returns an error if the arguments are invalid, if the client does not allow the operation, or if
/// the database fails.
pub async fn client(args: ClientArgs, config: Config) -> Result<(), CommandError> {
    on_database(&config.database, SchemaPolicy::Require, async |store| {
        let printer = Printer { json: args.json };
        let clients = Clients { store: &*store, tokens: &config.tokens, printer };
        clients.run(args.command).await
    })
    .await
}

/// Runs `portcullis key list`, which needs no secret.
///
/// # Errors
/// Returns an error if the database fails.
pub async fn list_keys(config: ManagementConfig, json: bool) -> Result<(), CommandError> {
    on_database(&config.database, SchemaPolicy::Require, async |store| {
        keys::list(&*store, json).await
    })
    .await
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
    on_database(&config.database, SchemaPolicy::Require, async |store| {
        keys::change(args.command, args.json, &config, &store, host).await
    })
    .await
}

/// Runs `portcullis secret retire`.
///
/// # Errors
/// Returns an error if the secret cannot decrypt the keys, or if the database fails.
pub async fn retire_secret(config: Config) -> Result<(), CommandError> {
    on_database(&config.database, SchemaPolicy::Require, async |store| {
        keys::retire(&config, &*store).await
    })
    .await
}

/// Migrates the schema of the database; creates a missing database.
///
/// # Errors
/// Returns an error if the database cannot be opened or its schema is that of a newer version.
pub async fn migrate(database: &DatabaseSettings) -> Result<(), CommandError> {
    open(database, SchemaPolicy::Migrate).await?.close().await;
    Ok(writeln!(io::stdout(), "the schema is up to date")?)
}

/// Runs `portcullis doctor`.
///
/// # Errors
/// Returns an error if it found errors, or, with `--strict`, warnings.
pub async fn doctor(
    args: DoctorArgs,
    settings: &RawSettings,
    host: Arc<dyn Clock>,
) -> Result<(), CommandError> {
    doctor::run(args, settings, &*host).await
}

/// Runs `portcullis database copy`.
///
/// # Errors
/// Returns an error if a database cannot be opened or fails, if one is in use, or if the target is
/// not empty.
pub async fn copy_database(config: CopyConfig) -> Result<(), CommandError> {
    database::copy(&config).await
}

/// Runs `portcullis database backup`.
///
/// # Errors
/// Returns an error if the database is not one of SQLite, if the file exists, or if it cannot be
/// written.
pub async fn back_up_database(config: ManagementConfig, file: &Path) -> Result<(), CommandError> {
    database::back_up(&config, file).await
}

/// Runs a command on the database, and closes the database afterwards.
async fn on_database(
    database: &DatabaseSettings,
    policy: SchemaPolicy,
    command: impl AsyncFnOnce(Arc<dyn Store>) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let store = open(database, policy).await?;
    let outcome = command(Arc::clone(&store)).await;
    store.close().await;
    outcome
}

/// Opens the database, and names it and what was done to it on standard error: a wrong one would
/// go unnoticed.
async fn open(
    database: &DatabaseSettings,
    policy: SchemaPolicy,
) -> Result<Arc<dyn Store>, CommandError> {
    let store = store::open(database, policy, &output::say).await?;
    output::say(&format!("using the database {}", store::describe(&database.database)));
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
    Ok(write!(io::stdout(), "{}", http::openapi(None))?)
}

/// Prints the script that completes the command line in a shell.
///
/// # Errors
/// Returns an error if standard output fails.
pub fn completions(shell: Shell) -> Result<(), CommandError> {
    Ok(io::stdout().write_all(&config::completions(shell))?)
}

/// Prints the list of the settings.
///
/// # Errors
/// Returns an error if standard output fails.
pub fn settings() -> Result<(), CommandError> {
    Ok(write!(io::stdout(), "{}", Cli::settings_help())?)
}
