//! The subcommands of the program.

use clap::{Args, Subcommand};

/// A subcommand of the program.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve the API (the default)
    Serve,
    /// Exit with 0 if the instance at HOST and PORT is ready, otherwise with 1
    Healthcheck,
    /// Manage accounts in the database. A running service applies the changes within its staleness
    /// bound
    User(UserArgs),
    /// Generate secrets
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Migrate the schema of the database, as every start of the service does
    Migrate,
    /// Print the OpenAPI document of the API
    Openapi,
}

/// Arguments of `portcullis user`.
#[derive(Clone, Debug, Args)]
pub struct UserArgs {
    /// Operation on the accounts.
    #[command(subcommand)]
    pub command: UserCommand,

    /// Print one JSON object per line instead of a table
    #[arg(long, global = true)]
    pub json: bool,
}

/// An operation on accounts. On a terminal, a password is prompted for without echo; otherwise it
/// is the first line of standard input.
#[derive(Clone, Debug, Subcommand)]
pub enum UserCommand {
    /// Create an account, and the database if there is none; prompts for the password or reads it
    /// from standard input
    Create {
        /// Username of the new account
        username: String,
        /// Role of the account: user, admin or introspector; can be repeated
        #[arg(long = "role", value_name = "ROLE", default_value = "user")]
        roles: Vec<String>,
    },
    /// List all accounts by username
    List {
        /// List only the usernames with this prefix
        #[arg(long)]
        prefix: Option<String>,
    },
    /// Show an account and its sessions
    Show {
        /// Username of the account
        username: String,
    },
    /// Disable logins to an account and end its sessions
    Disable {
        /// Username of the account
        username: String,
    },
    /// Enable logins to a disabled account
    Enable {
        /// Username of the account
        username: String,
    },
    /// Set the password, prompted for or read from standard input, and end all sessions
    SetPassword {
        /// Username of the account
        username: String,
    },
    /// Replace the roles and end all sessions
    SetRoles {
        /// Username of the account
        username: String,
        /// New roles: user, admin, introspector
        #[arg(required = true)]
        roles: Vec<String>,
    },
    /// Delete an account; its username becomes available again
    Delete {
        /// Username of the account
        username: String,
    },
    /// End all sessions of an account
    EndSessions {
        /// Username of the account
        username: String,
    },
}

/// A kind of secret to generate.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum SecretCommand {
    /// Print a random value for JWT_SECRET_KEY
    Generate,
}
