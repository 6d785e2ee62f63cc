//! The subcommands of the program.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::settings::Secret;

/// A subcommand of the program.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve the API (the default)
    Serve,
    /// Exit with 0 if the instance at MANAGEMENT_ADDRESS, or else at HOST and PORT, is ready, otherwise
    /// with 1
    Healthcheck,
    /// Manage accounts in the database. A running service applies the changes within its staleness
    /// bound
    User(UserArgs),
    /// Manage roles and their permissions in the database. A running service applies the changes
    /// within its staleness bound
    Role(RoleArgs),
    /// Manage clients: machines that introspect tokens or get tokens of their own. A running service
    /// applies the changes within its staleness bound
    Client(ClientArgs),
    /// Manage the keys that sign access tokens. A running service applies the changes within its
    /// staleness bound
    Key(KeyArgs),
    /// Generate and retire values of JWT_SECRET_KEY
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Copy databases and back them up
    #[command(subcommand)]
    Database(DatabaseCommand),
    /// Migrate the schema of the database, as every start of the service does
    Migrate,
    /// Check the settings, the files and the database of a deployment, beside the running service or
    /// without it, and change nothing. Exits with 1 if there are errors
    Doctor(DoctorArgs),
    /// Print the OpenAPI document of the API
    Openapi,
}

/// Arguments of `portcullis doctor`.
#[derive(Clone, Copy, Debug, Args)]
pub struct DoctorArgs {
    /// Print one JSON object a finding instead of text
    #[arg(long)]
    pub json: bool,
    /// Exit with 6 if there are warnings and no errors
    #[arg(long)]
    pub strict: bool,
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
        /// List only the account with this id in another system
        #[arg(long, value_name = "ID")]
        external_id: Option<String>,
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
    /// Print a reset code, which is not shown again. Its bearer sets a new password with it at
    /// /auth/reset, once, within an hour
    ResetCode {
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
    /// Set the id of an account in another system
    SetExternalId {
        /// Username of the account
        username: String,
        /// New id, unique among all accounts; none by default
        external_id: Option<String>,
    },
    /// Set the metadata of an account, which its owner and the APIs can read
    SetMetadata {
        /// Username of the account
        username: String,
        /// New metadata: a JSON object of at most 4 KiB
        metadata: String,
    },
    /// Delete an account; its username becomes available again
    Delete {
        /// Username of the account
        username: String,
    },
    /// End all sessions of an account, or those of all accounts
    EndSessions {
        /// Username of the account
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        username: Option<String>,
        /// End the sessions of all accounts
        #[arg(long)]
        all: bool,
    },
    /// Import accounts with the password hashes of another system, and create the database if there is
    /// none. Accounts that are there already are left as they are, so that an interrupted import can be
    /// repeated. Exits with 5 if a row was refused
    Import(ImportArgs),
    /// Print all accounts with their password hashes, one JSON object a line, for `user import`. With
    /// a username: the account, its open sessions and its audit records, without its hash
    Export(ExportArgs),
    /// Clear the failed logins of an account, which delay its next ones
    Unthrottle {
        /// Username of the account
        username: String,
    },
}

/// Arguments of `portcullis user import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// File with one account a line, or `-` for standard input
    pub file: PathBuf,
    /// Format of the file: JSON objects, or CSV with a header. By default csv for a name that ends in
    /// .csv, otherwise jsonl
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<RowFormat>,
    /// Report what an import would do, and change nothing; the database must exist
    #[arg(long)]
    pub dry_run: bool,
}

/// Format of a file of accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    Jsonl,
    Csv,
}

/// Arguments of `portcullis user export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// Username of an account; all accounts by default
    pub username: Option<String>,
    /// Format of the password hashes: as they are stored, as another system writes them, or none
    #[arg(long, value_name = "FORMAT", default_value = "stored", conflicts_with = "username")]
    pub hashes: HashFormat,
}

/// Format of exported password hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HashFormat {
    Stored,
    Werkzeug,
    Django,
    None,
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

/// Arguments of `portcullis client`.
#[derive(Clone, Debug, Args)]
pub struct ClientArgs {
    /// Operation on the clients.
    #[command(subcommand)]
    pub command: ClientCommand,

    /// Print one JSON object per line instead of a table
    #[arg(long, global = true)]
    pub json: bool,
}

/// An operation on clients. A client is given by its name or its id.
#[derive(Clone, Debug, Subcommand)]
pub enum ClientCommand {
    /// Create a client and print its secret, which is not shown again
    Create {
        /// Name of the new client
        name: String,
        #[command(flatten)]
        rights: ClientRightsArgs,
    },
    /// List all clients by name
    List,
    /// Show a client and the ids of its secrets
    Show {
        /// Name or id of the client
        client: String,
    },
    /// Replace the rights of a client. If they are narrower in any way, its tokens end
    Set {
        /// Name or id of the client
        client: String,
        #[command(flatten)]
        rights: ClientRightsArgs,
    },
    /// Add a second secret and print it. Both are valid until one is removed
    AddSecret {
        /// Name or id of the client
        client: String,
    },
    /// Remove a secret and end the tokens that were issued for it
    RemoveSecret {
        /// Name or id of the client
        client: String,
        /// Id of the secret
        secret: String,
    },
    /// Refuse a client and end its tokens
    Disable {
        /// Name or id of the client
        client: String,
    },
    /// Accept a disabled client again
    Enable {
        /// Name or id of the client
        client: String,
    },
    /// Delete a client and end its tokens
    Delete {
        /// Name or id of the client
        client: String,
    },
}

/// Rights of a client on the command line.
#[derive(Clone, Debug, Args)]
pub struct ClientRightsArgs {
    /// Permission of the client, such as tokens:introspect; can be repeated
    #[arg(long = "permission", value_name = "PERMISSION")]
    pub permissions: Vec<String>,
    /// Audience of its tokens, one of JWT_AUDIENCE or the issuer; can be repeated; all by default
    #[arg(long, value_name = "NAME")]
    pub audience: Vec<String>,
    /// Audience of the tokens that it may introspect; can be repeated; all tokens by default
    #[arg(long, value_name = "NAME")]
    pub resource: Vec<String>,
    /// Expiry of the client, such as 2027-05-01T09:30:00Z; never by default
    #[arg(long, value_name = "TIME")]
    pub expires_at: Option<String>,
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

/// An operation on a whole database.
#[derive(Clone, Debug, Subcommand)]
pub enum DatabaseCommand {
    /// Copy a database into an empty one, on SQLite or PostgreSQL. No instance may run on either
    Copy(CopyArgs),
    /// Write a copy of the SQLite database to a new file, while the service runs
    Backup {
        /// File to create
        file: PathBuf,
    },
}

/// Arguments of `portcullis database copy`.
#[derive(Clone, Debug, Args)]
pub struct CopyArgs {
    /// Database to copy: postgres://USER:PASSWORD@HOST/NAME or sqlite://PATH. The one at DATABASE_URL
    /// by default
    #[arg(long, value_name = "URL")]
    pub from: Option<Secret>,
    /// Database to copy into, which gets its tables if it has none; as the owner, with PostgreSQL
    #[arg(long, value_name = "URL")]
    pub to: Secret,
}
