//! The command line, which is also the manual that `--help` prints.

use clap::{Args, Parser};

use super::{Command, ConfigError, Secret};

const SECRETS_HELP: &str = "\
Secrets, from the environment alone:
  JWT_SECRET_KEY       Signs the tokens; at least 32 bytes, the same on every instance.
                       Needed with Postgres; with SQLite one is made and kept beside the database.
  DATABASE_LISTEN_URL  Where to be told of revocations at once: a direct connection to the Postgres
                       server behind the pooler at DATABASE_URL. Without one, DATABASE_URL serves in
                       session mode, and in transaction mode revocations are polled for.

JWT_SECRET_KEY_FILE, DATABASE_URL_FILE and DATABASE_LISTEN_URL_FILE may name files that hold the
values, and win over the variables without _FILE. A `.env` file in the working directory is read too; the
environment wins over it.

Exit codes: 0 done; 1 failed; 2 asked wrongly; 3 no such account; 4 refused, since the name is taken
or the account is the last administrator.";

const MALFORMED_LINE: &str = ".env has a malformed line: quote values that hold spaces or #";

/// An authentication service for REST clients.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, after_help = SECRETS_HELP)]
pub struct Cli {
    /// What to do; `serve` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The settings as they were given.
    #[command(flatten)]
    pub settings: RawSettings,
}

/// The settings as text. Their doc comments are the manual that `--help` prints.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
pub struct RawSettings {
    /// Address to listen on
    #[arg(long, env, default_value = "127.0.0.1", global = true)]
    pub(super) host: String,

    /// Port to listen on; 0 takes any free one
    #[arg(long, env, default_value = "5000", global = true)]
    pub(super) port: String,

    /// Threads that serve HTTP; 0 means one a core
    #[arg(long, env, default_value = "0", value_name = "THREADS", global = true)]
    pub(super) http_workers: String,

    /// Reverse proxies, as networks separated by commas (10.0.0.0/8,::1): behind one, the address of a
    /// client is what X-Forwarded-For or, without it, Forwarded says
    #[arg(long, env, default_value = "", value_name = "NETWORKS", global = true)]
    pub(super) trusted_proxies: String,

    /// Longest that a request waits for the database or for hashing before it gets 503
    #[arg(long, env, default_value = "10", value_name = "SECONDS", global = true)]
    pub(super) request_timeout: String,

    /// Longest that a shutdown goes on answering, sending clients elsewhere, before it disconnects
    /// the idle ones
    #[arg(long, env, default_value = "2", value_name = "SECONDS", global = true)]
    pub(super) shutdown_drain: String,

    /// Longest that a shutdown then waits for requests in flight
    #[arg(long, env, default_value = "30", value_name = "SECONDS", global = true)]
    pub(super) shutdown_timeout: String,

    /// Database of record: postgres://USER:PASSWORD@HOST/NAME or sqlite://PATH
    #[arg(
        long,
        env,
        default_value = "sqlite://data/portcullis.db",
        value_name = "URL",
        hide_env_values = true,
        global = true
    )]
    pub(super) database_url: Secret,

    /// Most connections to the database
    #[arg(long, env, default_value = "10", value_name = "COUNT", global = true)]
    pub(super) database_max_connections: String,

    /// Longest wait for a connection to the database
    #[arg(long, env, default_value = "3", value_name = "SECONDS", global = true)]
    pub(super) database_acquire_timeout: String,

    /// For how long a connection at DATABASE_URL is lent: session, or transaction behind PgBouncer in that mode
    #[arg(long, env, default_value = "session", value_name = "MODE", global = true)]
    pub(super) database_pool_mode: String,

    /// Life of an access token; a shorter one applies to tokens already issued
    #[arg(long, env, default_value = "3600", value_name = "SECONDS", global = true)]
    pub(super) jwt_access_token_expires: String,

    /// Life of a session, and so of its refresh tokens, however much it is used
    #[arg(long, env, default_value = "2592000", value_name = "SECONDS", global = true)]
    pub(super) jwt_refresh_token_expires: String,

    /// Longest time between two uses of a session's refresh token; 0 means no limit
    #[arg(long, env, default_value = "0", value_name = "SECONDS", global = true)]
    pub(super) session_idle_timeout: String,

    /// The `iss` claim of the tokens; tokens with another one are refused
    #[arg(long, env, default_value = "portcullis", value_name = "NAME", global = true)]
    pub(super) jwt_issuer: String,

    /// How far the clocks of two machines may differ
    #[arg(long, env, default_value = "5", value_name = "SECONDS", global = true)]
    pub(super) jwt_leeway: String,

    /// Cost of a password hash; at least 100000. Older hashes follow at the next login; while they
    /// are dearer than this, their owners' names can be told by the time that a refusal takes
    #[arg(long, env, default_value = "600000", value_name = "COUNT", global = true)]
    pub(super) pbkdf2_iterations: String,

    /// Threads that hash passwords; 0 means one a core
    #[arg(long, env, default_value = "0", value_name = "THREADS", global = true)]
    pub(super) hash_threads: String,

    /// Longest expected wait for a hashing thread; a login that would wait longer gets 503
    #[arg(long, env, default_value = "3", value_name = "SECONDS", global = true)]
    pub(super) hash_max_wait: String,

    /// Most revocations held in memory, about 310 bytes each; beyond it the database is asked
    #[arg(long, env, default_value = "4000000", value_name = "COUNT", global = true)]
    pub(super) revocation_capacity: String,

    /// Bound of a logout: no instance accepts its token longer than this after it was acknowledged by
    /// another. An instance that knows nothing newer asks the database about every token
    #[arg(long, env, default_value = "5", value_name = "SECONDS", global = true)]
    pub(super) revocation_max_staleness: String,

    /// Longest time between two looks at what other instances have revoked; without a listener, the
    /// time that a logout takes to get there
    #[arg(long, env, default_value = "1", value_name = "SECONDS", global = true)]
    pub(super) revocation_poll_interval: String,

    /// Time between two sweeps of what has expired: revocations, sessions, audit records
    #[arg(long, env, default_value = "60", value_name = "SECONDS", global = true)]
    pub(super) revocation_sweep_interval: String,

    /// How long audit records are kept
    #[arg(long, env, default_value = "31536000", value_name = "SECONDS", global = true)]
    pub(super) audit_retention: String,

    /// Form of the log; auto is pretty on a terminal and json elsewhere
    #[arg(long, env, default_value = "auto", value_name = "auto|json|pretty", global = true)]
    pub(super) log_format: String,

    /// What to log, as TARGET=LEVEL,… with one level for the rest; portcullis=debug adds a line a request
    #[arg(
        long,
        env,
        default_value = "info,actix_server=warn,actix_http=off",
        value_name = "FILTER",
        global = true
    )]
    pub(super) rust_log: String,
}

impl Cli {
    /// Reads the command line and the environment, and before them a `.env` file where there is
    /// one. On a malformed command line it prints why and exits.
    ///
    /// # Errors
    /// When the `.env` file cannot be read.
    pub fn load() -> Result<Self, ConfigError> {
        match dotenvy::from_path(".env") {
            // The line itself is not repeated: it may hold a secret.
            Err(dotenvy::Error::LineParse(..)) => Err(ConfigError(vec![MALFORMED_LINE.to_owned()])),
            Err(error) if !error.not_found() => Err(ConfigError(vec![format!(".env: {error}")])),
            _ => Ok(Self::parse()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_example_file_lists_every_variable_with_its_default() {
        let example = include_str!("../../.env.example");
        let command = Cli::command();
        for argument in command.get_arguments() {
            let Some(variable) = argument.get_env() else { continue };
            let default = argument.get_default_values().first().and_then(|value| value.to_str());
            let line = format!("# {}={}", variable.display(), default.unwrap_or_default());
            assert!(example.lines().any(|given| given == line), "no line `{line}`");
        }
    }
}
