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
    /// Manage roles and their permissions in the database. A running service applies the changes
    /// within its staleness bound
    Role(RoleArgs),
    /// Manage the keys that sign access tokens. A running service applies the changes within its
    /// staleness bound
    Key(KeyArgs),
    /// Generate and retire values of JWT_SECRET_KEY
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
        /// Role of the account, such as user or admin; can be repeated. `portcullis role list` shows
        /// the roles
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
        /// New roles, such as user or admin. `portcullis role list` shows the roles
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

/// Arguments of `portcullis role`.
#[derive(Clone, Debug, Args)]
pub struct RoleArgs {
    /// Operation on the roles.
    #[command(subcommand)]
    pub command: RoleCommand,

    /// Print one JSON object per line instead of a table
    #[arg(long, global = true)]
    pub json: bool,
}

/// An operation on roles.
#[derive(Clone, Debug, Subcommand)]
pub enum RoleCommand {
    /// List all roles by name
    List,
    /// Show a role
    Show {
        /// Name of the role
        name: String,
    },
    /// Set the permissions of a role, and create it if there is none. A permission that is taken
    /// away ends the sessions of all accounts with the role
    Set {
        /// Name of the role: a-z, 0-9, `.`, `_` and `-`
        name: String,
        /// Permission of the role, such as orders:read; can be repeated. A built-in role keeps its
        /// first ones
        #[arg(long = "permission", value_name = "PERMISSION")]
        permissions: Vec<String>,
    },
    /// Delete a role that no account has
    Delete {
        /// Name of the role
        name: String,
    },
}

/// Arguments of `portcullis key`.
#[derive(Clone, Debug, Args)]
pub struct KeyArgs {
    /// Operation on the keys.
    #[command(subcommand)]
    pub command: KeyCommand,

    /// Print one JSON object per line instead of a table
    #[arg(long, global = true)]
    pub json: bool,
}

/// An operation on the signing keys.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyCommand {
    /// List the keys
    List,
    /// Activate the pending key and publish a new one. No token ends
    Rotate,
    /// Revoke a key and every access token that it signed. Refresh tokens remain valid
    Revoke {
        /// Id of the key
        #[arg(required_unless_present = "all", conflicts_with = "all", allow_hyphen_values = true)]
        kid: Option<String>,
        /// Revoke all keys
        #[arg(long)]
        all: bool,
    },
}

/// An operation on secrets.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum SecretCommand {
    /// Print a random value for JWT_SECRET_KEY
    Generate,
    /// Make the present JWT_SECRET_KEY the only one that can decrypt the keys, once every instance
    /// has it
    Retire,
}
