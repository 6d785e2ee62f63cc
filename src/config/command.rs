//! The subcommands of the program. The first paragraph of a doc comment is the short help (`-h`), and
//! all of it the long one (`--help`).

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::settings::Secret;

/// Exit codes of the commands that work on the database.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0    Success
  1    Failure, or a question that was answered with no
  2    Invalid arguments, or a command that needs --yes
  3    No such account, role, client or key
  4    Conflict, such as a username that is taken or the last administrator
  5    A part was left out: a row of an import, or a broken account of an export
  6    Warnings of `doctor --strict`
  141  The reader of the output has gone";

const USER_EXAMPLES: &str = "\
Examples:
  portcullis user create root --role admin
  portcullis user list --role admin --json
  portcullis user end-sessions alice";

const CREATE_EXAMPLES: &str = "\
Examples:
  portcullis user create root --role admin
  pwgen 20 1 | portcullis user create alice --role user --role clerk";

const LIST_EXAMPLES: &str = "\
Examples:
  portcullis user list --prefix al
  portcullis user list --role admin --disabled --json";

const SET_ROLES_EXAMPLES: &str = "\
Examples:
  portcullis user set-roles alice --role user --role clerk
  portcullis user set-roles alice --role user,clerk";

const SET_METADATA_EXAMPLES: &str = "\
Examples:
  portcullis user set-metadata alice '{\"team\": \"sales\"}'";

const IMPORT_EXAMPLES: &str = "\
Examples:
  portcullis user import accounts.csv --dry-run
  zcat accounts.jsonl.gz | portcullis user import -";

const EXPORT_EXAMPLES: &str = "\
Examples:
  portcullis user export > accounts.jsonl
  portcullis user export alice > alice.json";

const ROLE_EXAMPLES: &str = "\
Examples:
  portcullis role set clerk --permission orders:read --permission orders:write
  portcullis role show clerk";

const CLIENT_EXAMPLES: &str = "\
Examples:
  portcullis client create orders-api --permission tokens:introspect
  portcullis client create worker --permission orders:read --audience orders";

const KEY_EXAMPLES: &str = "\
Examples:
  portcullis key list
  portcullis key revoke -- KID";

const COPY_EXAMPLES: &str = "\
Examples:
  portcullis database copy --to postgres://portcullis:PASSWORD@db/portcullis";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  source <(portcullis completions bash)
  portcullis completions zsh > ~/.zfunc/_portcullis
  portcullis completions fish > ~/.config/fish/completions/portcullis.fish";

/// A subcommand of the program.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve the API (the default)
    ///
    /// It migrates the schema of the database first, and creates a missing SQLite database. A signal
    /// to stop (SIGTERM or SIGINT) lets the requests in flight end.
    #[command(after_help = "`portcullis help settings` explains the settings.")]
    Serve,
    /// Exit with 0 if the instance is ready, otherwise with 1
    ///
    /// Asks the instance at MANAGEMENT_ADDRESS or else at HOST and PORT.
    Healthcheck,
    /// Manage accounts
    ///
    /// Works on the database, with or without a running service. A running service applies the changes
    /// within its staleness bound.
    User(UserArgs),
    /// Manage roles and their permissions
    ///
    /// Works on the database, with or without a running service. A running service applies the changes
    /// within its staleness bound.
    Role(RoleArgs),
    /// Manage clients: machines with a secret instead of a password
    ///
    /// A client introspects tokens, follows the revocations or gets tokens of its own. The commands work
    /// on the database, with or without a running service. A running service applies the changes
    /// within its staleness bound.
    Client(ClientArgs),
    /// Manage the keys that sign access tokens
    ///
    /// Works on the database, with or without a running service. A running service applies the changes
    /// within its staleness bound.
    Key(KeyArgs),
    /// Generate and retire values of JWT_SECRET_KEY
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Copy databases and back them up
    #[command(subcommand)]
    Database(DatabaseCommand),
    /// Migrate the schema of the database
    ///
    /// Creates a missing SQLite database. Every start of the service does the same.
    Migrate,
    /// Check the settings, the files and the database of a deployment
    ///
    /// Runs beside the service or without it, and changes nothing. Exits with 1 if there are errors.
    Doctor(DoctorArgs),
    /// Print the OpenAPI document of the API
    Openapi,
    /// Print completions of the command line for a shell
    ///
    /// Needs no database and no secret.
    #[command(after_long_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// Shell that reads the completions
        shell: Shell,
    },
    /// Print the settings: options, environment variables, `.env`
    Settings,
}

/// A shell with completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
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
#[command(after_long_help = format!("{USER_EXAMPLES}\n\n{EXIT_CODES}"))]
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
    /// Create an account
    ///
    /// Prompts for the password or, without a terminal, reads it from the first line of standard input.
    /// Creates the database if there is none.
    #[command(after_long_help = CREATE_EXAMPLES)]
    Create {
        /// Username of the new account
        username: String,
        /// Role of the account; can be repeated
        ///
        /// `portcullis role list` shows the roles.
        #[arg(long = "role", value_name = "ROLE", default_value = "user", value_delimiter = ',')]
        roles: Vec<String>,
    },
    /// List accounts by username
    ///
    /// Lists all accounts, or those that all filters match.
    #[command(after_long_help = LIST_EXAMPLES)]
    List(UserFilterArgs),
    /// Show an account and its sessions
    Show {
        /// Username or id of the account
        user: String,
    },
    /// Disable logins to an account and end its sessions
    Disable {
        /// Username or id of the account
        user: String,
        /// Do not ask before an administrator is disabled
        #[arg(long)]
        yes: bool,
    },
    /// Enable logins to a disabled account
    Enable {
        /// Username or id of the account
        user: String,
    },
    /// Set the password of an account and end its sessions
    ///
    /// Prompts for the password or, without a terminal, reads it from the first line of standard input.
    SetPassword {
        /// Username or id of the account
        user: String,
    },
    /// Print a code with which the user can set a new password
    ///
    /// The code is not shown again. Its bearer sets a new password with it at /auth/reset, once, within
    /// an hour.
    ResetCode {
        /// Username or id of the account
        user: String,
    },
    /// Replace the roles of an account and end its sessions
    #[command(after_long_help = SET_ROLES_EXAMPLES)]
    SetRoles {
        /// Username or id of the account
        user: String,
        /// Role of the account; can be repeated
        ///
        /// `portcullis role list` shows the roles.
        #[arg(long = "role", value_name = "ROLE", required = true, value_delimiter = ',')]
        roles: Vec<String>,
        /// Do not ask before the role admin is taken away
        #[arg(long)]
        yes: bool,
    },
    /// Set the id of an account in another system
    SetExternalId {
        /// Username or id of the account
        user: String,
        /// New id, unique among all accounts; none by default
        external_id: Option<String>,
    },
    /// Set the metadata of an account
    ///
    /// Its owner and the APIs can read them.
    #[command(after_long_help = SET_METADATA_EXAMPLES)]
    SetMetadata {
        /// Username or id of the account
        user: String,
        /// New metadata: a JSON object of at most 4 KiB
        metadata: String,
    },
    /// Delete an account; its username becomes available again
    Delete {
        /// Username or id of the account
        user: String,
        /// Do not ask before an administrator is deleted
        #[arg(long)]
        yes: bool,
    },
    /// End all sessions of an account, or of all accounts
    #[command(group(ArgGroup::new("target").args(["user", "all"]).required(true)))]
    EndSessions {
        /// Username or id of the account
        user: Option<String>,
        /// End the sessions of all accounts
        #[arg(long)]
        all: bool,
        /// Do not ask before the sessions of all accounts end
        #[arg(long)]
        yes: bool,
    },
    /// Import accounts with the password hashes of another system
    ///
    /// Creates the database if there is none. Accounts that are there already are left as they are, so
    /// that an interrupted import can be repeated. Exits with 5 if a row was refused.
    #[command(after_long_help = IMPORT_EXAMPLES)]
    Import(ImportArgs),
    /// Print accounts for `user import`, or all data of one
    ///
    /// Prints all accounts with their password hashes, one JSON object a line. With a user: the account,
    /// its open sessions and its audit records, without its hash.
    #[command(after_long_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// Clear the failed logins of an account
    ///
    /// They delay its next logins.
    Unthrottle {
        /// Username or id of the account
        user: String,
    },
}

/// Filters of `portcullis user list`.
#[derive(Clone, Debug, Args)]
pub struct UserFilterArgs {
    /// List only usernames with this prefix
    #[arg(long)]
    pub prefix: Option<String>,
    /// List only accounts with this role
    #[arg(long)]
    pub role: Option<String>,
    /// List only disabled accounts
    #[arg(long)]
    pub disabled: bool,
    /// List only the account with this id in another system
    #[arg(long, value_name = "ID")]
    pub external_id: Option<String>,
}

/// Arguments of `portcullis user import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// File with one account a line, or `-` for standard input
    pub file: PathBuf,
    /// Format of the file
    ///
    /// JSON objects, or CSV with a header. By default csv for a name that ends in .csv, otherwise jsonl.
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<RowFormat>,
    /// Report what an import would do, and change nothing
    ///
    /// The database must exist.
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
    /// Username or id of an account; all accounts by default
    pub user: Option<String>,
    /// Format of the password hashes
    ///
    /// As they are stored, as another system writes them, or without them.
    #[arg(long, value_name = "FORMAT", default_value = "stored", conflicts_with = "user")]
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
#[command(after_long_help = format!("{ROLE_EXAMPLES}\n\n{EXIT_CODES}"))]
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
    /// Set the permissions of a role, and create a missing role
    ///
    /// A permission that is taken away ends the sessions of all accounts with the role.
    Set {
        /// Name of the role: a-z, 0-9, `.`, `_` and `-`
        name: String,
        /// Permission, such as orders:read; can be repeated
        ///
        /// A built-in role keeps its first ones.
        #[arg(long = "permission", value_name = "NAME")]
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
#[command(after_long_help = format!("{CLIENT_EXAMPLES}\n\n{EXIT_CODES}"))]
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
    /// Replace the rights of a client
    ///
    /// If they are narrower in any way, its tokens end.
    Set {
        /// Name or id of the client
        client: String,
        #[command(flatten)]
        rights: ClientRightsArgs,
    },
    /// Add a second secret and print it, which is not shown again
    ///
    /// Both secrets are valid until one is removed.
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
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Rights of a client on the command line.
#[derive(Clone, Debug, Args)]
pub struct ClientRightsArgs {
    /// Permission, such as orders:read; can be repeated
    #[arg(long = "permission", value_name = "NAME")]
    pub permissions: Vec<String>,
    /// Audience of its tokens; can be repeated
    ///
    /// One of JWT_AUDIENCE, or the issuer; all by default.
    #[arg(long, value_name = "NAME")]
    pub audience: Vec<String>,
    /// Audience that it may introspect; can be repeated
    ///
    /// It may introspect the tokens of these audiences; all tokens by default.
    #[arg(long, value_name = "NAME")]
    pub resource: Vec<String>,
    /// Expiry, such as 2027-05-01T09:30:00Z
    ///
    /// Never by default.
    #[arg(long, value_name = "TIME")]
    pub expires_at: Option<String>,
}

/// Arguments of `portcullis key`.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = format!("{KEY_EXAMPLES}\n\n{EXIT_CODES}"))]
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
    /// Activate the pending key and publish a new one
    ///
    /// No token ends.
    Rotate,
    /// Revoke a key and every access token that it signed
    ///
    /// Refresh tokens remain valid: clients get new access tokens with them.
    #[command(group(ArgGroup::new("target").args(["kid", "all"]).required(true)))]
    Revoke {
        /// Id of the key; one that begins with `-` comes after `--`
        #[arg(allow_hyphen_values = true)]
        kid: Option<String>,
        /// Revoke all keys
        #[arg(long)]
        all: bool,
        /// Do not ask before all keys are revoked
        #[arg(long)]
        yes: bool,
    },
}

/// An operation on secrets.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum SecretCommand {
    /// Print a random value for JWT_SECRET_KEY
    Generate,
    /// Make the present JWT_SECRET_KEY the only one
    ///
    /// No other secret can then decrypt the keys in the database. Run it when every instance has the
    /// present one.
    Retire,
}

/// An operation on a whole database.
#[derive(Clone, Debug, Subcommand)]
pub enum DatabaseCommand {
    /// Copy a database into an empty one
    ///
    /// Both can be on SQLite or PostgreSQL. No instance may run on either.
    #[command(after_long_help = COPY_EXAMPLES)]
    Copy(CopyArgs),
    /// Write a copy of the SQLite database to a new file
    ///
    /// The service may run meanwhile.
    Backup {
        /// File to create
        file: PathBuf,
    },
}

/// Arguments of `portcullis database copy`.
#[derive(Clone, Debug, Args)]
pub struct CopyArgs {
    /// Database to copy; the one at DATABASE_URL by default
    ///
    /// postgres://USER:PASSWORD@HOST/NAME or sqlite://PATH.
    #[arg(long, value_name = "URL")]
    pub from: Option<Secret>,
    /// Database to copy into, as the owner with PostgreSQL
    ///
    /// It gets its tables if it has none.
    #[arg(long, value_name = "URL")]
    pub to: Secret,
}
