//! What the program can be told to do.

use clap::{Args, Subcommand};

/// What the program can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve the API (the default)
    Serve,
    /// Exit with 0 when the instance at HOST and PORT is ready, with 1 when it is not
    Healthcheck,
    /// Manage accounts, on the same database as a running service, which obeys within its bound
    User(UserArgs),
    /// Make secrets
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Bring the schema of the database up to date, as every start does
    Migrate,
    /// Print the OpenAPI document of the API
    Openapi,
}

/// How accounts are managed.
#[derive(Clone, Debug, Args)]
pub struct UserArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: UserCommand,

    /// Print a JSON object a line instead of a table
    #[arg(long, global = true)]
    pub json: bool,
}

/// What can be done to accounts. A password is asked for without echo, or read from standard input where
/// that is no terminal.
#[derive(Clone, Debug, Subcommand)]
pub enum UserCommand {
    /// Create an account; its password is asked for, or read from standard input
    Create {
        /// What its owner logs in with
        username: String,
        /// What it may do; may be repeated
        #[arg(long = "role", value_name = "ROLE", default_value = "user")]
        roles: Vec<String>,
    },
    /// List all accounts in the order of their usernames
    List {
        /// Only those whose usernames begin with this
        #[arg(long)]
        prefix: Option<String>,
    },
    /// Show an account with its sessions
    Show {
        /// Whose
        username: String,
    },
    /// Let nobody log in to an account any more, and end its sessions
    Disable {
        /// Whose
        username: String,
    },
    /// Let the owner of an account log in again
    Enable {
        /// Whose
        username: String,
    },
    /// Set the password, which is asked for or read from standard input, and end all sessions
    SetPassword {
        /// Whose
        username: String,
    },
    /// Set the roles, and end all sessions
    SetRoles {
        /// Whose
        username: String,
        /// All that it has from then on: user, admin, introspector
        #[arg(required = true)]
        roles: Vec<String>,
    },
    /// Delete an account, and free its name
    Delete {
        /// Whose
        username: String,
    },
    /// End all sessions of an account
    EndSessions {
        /// Whose
        username: String,
    },
}

/// What secrets can be made.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum SecretCommand {
    /// Print a random one that is good for JWT_SECRET_KEY
    Generate,
}
