//! The command line and its help text.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser};

use super::command::{Command, EXIT_CODES};
use super::env_file::EnvFile;
use super::names;
use super::settings::{Secret, SecretFile, Warning};
use super::version::VERSION;

/// Width of the help. Fixed, so that the output does not depend on the terminal: `docs/help.txt` is
/// a copy of it.
const HELP_WIDTH: usize = 80;

const AFTER_HELP: &str = "\
`portcullis help COMMAND` explains a command, and `portcullis help settings` the
settings, which every command accepts as options.";

const BEFORE_SETTINGS: &str = "\
Each setting is an option of every command, an environment variable, and a line
of the file `.env` in the working directory. Options take precedence over the
environment, and the environment over `.env`. An empty value means the default.

A DURATION is a whole number of seconds (90s), minutes (15m), hours (1h) or days
(30d). A number without a unit is one of seconds.";

const AFTER_SETTINGS: &str = "\
Secrets (not options, which every user of the machine can read):
  JWT_SECRET_KEY       Secret that protects the keys in the database: at least
                       32 bytes, the same on every instance. Required with
                       PostgreSQL. With SQLite, a secret is generated and stored
                       beside the database if none is set.
  JWT_SECRET_KEY_PREVIOUS
                       The secret before, while instances change to a new one.
  DATABASE_LISTEN_URL  Direct connection to the PostgreSQL server, past the
                       pooler at DATABASE_URL, that receives a notification of
                       each revocation. Without it, DATABASE_URL is used in
                       session mode, and revocations are polled in transaction
                       mode.

JWT_SECRET_KEY_FILE, JWT_SECRET_KEY_PREVIOUS_FILE, DATABASE_URL_FILE and
DATABASE_LISTEN_URL_FILE can name files that contain the values. They take
precedence over the variables without _FILE.

In `.env`, values with spaces, $ or \\ need single quotes; nothing is expanded.";

/// The file of settings, in the working directory.
const ENV_FILE: &str = ".env";

/// Settings with a secret value.
const SECRETS: &[&str] =
    &["JWT_SECRET_KEY", "JWT_SECRET_KEY_PREVIOUS", "DATABASE_URL", "DATABASE_LISTEN_URL"];

/// Authentication service for REST APIs: users, sessions, access tokens and their revocation
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version = VERSION,
    after_help = AFTER_HELP,
    after_long_help = format!("{AFTER_HELP}\n\n{EXIT_CODES}"),
    term_width = HELP_WIDTH,
    mut_args(|argument| setting(argument).hide(true)),
    mut_subcommand("settings", settings_page)
)]
pub struct Cli {
    /// Command to run; `None` for [`Command::Serve`].
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The settings as text.
    #[command(flatten)]
    pub settings: RawSettings,
}

/// The settings as text. Each doc comment is the help of an option, and the field's name in upper
/// case is the environment variable.
#[derive(Debug, Args)]
pub struct RawSettings {
    /// Address to listen on
    #[arg(long, env, help_heading = "HTTP", default_value = "127.0.0.1")]
    pub(super) host: String,

    /// Port to listen on; 0 selects a free one
    #[arg(long, env, help_heading = "HTTP", default_value = "5000")]
    pub(super) port: String,

    /// Second address to listen on, such as 127.0.0.1:5001, for operators: it alone then serves the
    /// metrics, the probes, the documentation and the administration
    #[arg(long, env, help_heading = "HTTP", default_value = "", value_name = "HOST:PORT")]
    pub(super) management_address: String,

    /// Whether everyone can register an account: open, or closed, which leaves it to administrators
    /// and the command line
    #[arg(long, env, help_heading = "HTTP", default_value = "open", value_name = "open|closed")]
    pub(super) registration: String,

    /// Whether the documentation is served: on, or off
    #[arg(long, env, help_heading = "HTTP", default_value = "on", value_name = "on|off")]
    pub(super) docs: String,

    /// Number of threads that serve HTTP; 0 means one per core
    #[arg(long, env, help_heading = "HTTP", default_value = "0", value_name = "THREADS")]
    pub(super) http_workers: String,

    /// Trusted reverse proxies, as networks separated by commas (10.0.0.0/8,::1). Behind them, the
    /// client address is taken from X-Forwarded-For or, without that header, from Forwarded
    #[arg(long, env, help_heading = "HTTP", default_value = "", value_name = "NETWORKS")]
    pub(super) trusted_proxies: String,

    /// Origins of browser applications that may call the API (CORS), separated by commas: scheme,
    /// host and port, such as `https://app.example.com`, without a path or `*`
    #[arg(long, env, help_heading = "HTTP", default_value = "", value_name = "ORIGINS")]
    pub(super) cors_allowed_origins: String,

    /// Largest number of open connections
    #[arg(long, env, help_heading = "HTTP", default_value = "10000", value_name = "COUNT")]
    pub(super) http_max_connections: String,

    /// Largest number of open connections from one address (/56 of IPv6), except from trusted
    /// proxies
    #[arg(long, env, help_heading = "HTTP", default_value = "2000", value_name = "COUNT")]
    pub(super) http_max_connections_per_address: String,

    /// Longest time for the head of a request; the connection is then closed
    #[arg(long, env, help_heading = "HTTP", default_value = "10s", value_name = "DURATION")]
    pub(super) http_head_timeout: String,

    /// Longest time in which a client takes less than 16 KiB of a waiting reply; the connection is
    /// then closed
    #[arg(long, env, help_heading = "HTTP", default_value = "30s", value_name = "DURATION")]
    pub(super) http_reply_timeout: String,

    /// Longest wait of a request for the database or for password hashing; it then gets 503
    #[arg(long, env, help_heading = "HTTP", default_value = "10s", value_name = "DURATION")]
    pub(super) request_timeout: String,

    /// Longest time for which a shutdown keeps answering, with `Connection: close`, before it
    /// disconnects idle clients
    #[arg(long, env, help_heading = "HTTP", default_value = "2s", value_name = "DURATION")]
    pub(super) shutdown_drain: String,

    /// Longest wait for the requests in flight after the drain
    #[arg(long, env, help_heading = "HTTP", default_value = "30s", value_name = "DURATION")]
    pub(super) shutdown_timeout: String,

    /// Database of record: postgres://USER:PASSWORD@HOST/NAME or sqlite://PATH
    #[arg(
        long,
        env,
        help_heading = "Database",
        default_value = "sqlite://data/portcullis.db",
        value_name = "URL"
    )]
    pub(super) database_url: Secret,

    /// Largest number of pooled database connections; at least 2
    #[arg(long, env, help_heading = "Database", default_value = "10", value_name = "COUNT")]
    pub(super) database_max_connections: String,

    /// Longest wait for a pooled database connection
    #[arg(long, env, help_heading = "Database", default_value = "3s", value_name = "DURATION")]
    pub(super) database_acquire_timeout: String,

    /// Pool mode of the connections at DATABASE_URL: session, or transaction behind a PgBouncer in
    /// that mode
    #[arg(long, env, help_heading = "Database", default_value = "session", value_name = "MODE")]
    pub(super) database_pool_mode: String,

    /// Lifetime of an access token. A shorter one also applies to tokens already issued
    #[arg(long, env, help_heading = "Tokens", default_value = "1h", value_name = "DURATION")]
    pub(super) jwt_access_token_expires: String,

    /// Lifetime of a session and its refresh tokens, regardless of use
    #[arg(long, env, help_heading = "Tokens", default_value = "30d", value_name = "DURATION")]
    pub(super) jwt_refresh_token_expires: String,

    /// Longest time between two uses of a session's refresh token; 0 means no limit
    #[arg(long, env, help_heading = "Tokens", default_value = "0", value_name = "DURATION")]
    pub(super) session_idle_timeout: String,

    /// Maximum number of sessions of an account; a further login ends the one longest unused
    #[arg(long, env, help_heading = "Tokens", default_value = "1000", value_name = "COUNT")]
    pub(super) sessions_per_user: String,

    /// URL at which clients reach the service: the `iss` claim of the tokens, which is `portcullis`
    /// without it. Tokens of another issuer are refused
    #[arg(long, env, help_heading = "Tokens", default_value = "", value_name = "URL")]
    pub(super) public_url: String,

    /// Names of your APIs, separated by commas: the `aud` claim of the tokens, beside the issuer
    #[arg(long, env, help_heading = "Tokens", default_value = "", value_name = "NAMES")]
    pub(super) jwt_audience: String,

    /// Signature of access tokens: ES256, which anyone can verify with the public keys, or HS256,
    /// which needs JWT_SECRET_KEY
    #[arg(long, env, help_heading = "Tokens", default_value = "ES256", value_name = "ES256|HS256")]
    pub(super) jwt_algorithm: String,

    /// Time for which a key signs before the next one does; 0 means for ever
    #[arg(long, env, help_heading = "Tokens", default_value = "30d", value_name = "DURATION")]
    pub(super) jwt_key_rotation_interval: String,

    /// Time for which verifiers may keep the public keys. A new key is published for twice as long
    /// before it signs
    #[arg(long, env, help_heading = "Tokens", default_value = "5m", value_name = "DURATION")]
    pub(super) jwks_max_age: String,

    /// Largest memory for verified access tokens; 0 means none. With ES256, a quarter is for
    /// signatures alone, 16 bytes each, which all threads share. Of the rest, each thread that
    /// serves HTTP has an equal share for the tokens that it has verified, about 1 KiB each
    #[arg(long, env, help_heading = "Tokens", default_value = "64", value_name = "MIB")]
    pub(super) token_cache_size: String,

    /// Tolerated difference between the clocks of two machines
    #[arg(long, env, help_heading = "Tokens", default_value = "5s", value_name = "DURATION")]
    pub(super) jwt_leeway: String,

    /// PBKDF2 iterations of a password hash, from 100000 to 5000000. A hash with fewer is replaced
    /// at the next login; one with more stays
    #[arg(long, env, help_heading = "Hashing", default_value = "600000", value_name = "COUNT")]
    pub(super) pbkdf2_iterations: String,

    /// Number of threads that hash passwords; 0 means one per core
    #[arg(long, env, help_heading = "Hashing", default_value = "0", value_name = "THREADS")]
    pub(super) hash_threads: String,

    /// Longest expected wait for a hashing thread; a login that would wait longer gets 503
    #[arg(long, env, help_heading = "Hashing", default_value = "3s", value_name = "DURATION")]
    pub(super) hash_max_wait: String,

    /// Minimum length of a new password, in characters: 8 to 64. At least 15 is recommended where
    /// the password is the only factor
    #[arg(long, env, help_heading = "Passwords", default_value = "8", value_name = "LENGTH")]
    pub(super) password_min_length: String,

    /// Words that are refused as new passwords: none, common (the most common passwords), or a file
    /// with one a line. With a list, the username, `portcullis` and the host of PUBLIC_URL are
    /// refused, too
    #[arg(
        long,
        env,
        help_heading = "Passwords",
        default_value = "none",
        value_name = "none|common|PATH"
    )]
    pub(super) password_blocklist: String,

    /// Failed logins in a row of one username without a delay. Further ones are delayed by 1, 3, 5,
    /// 10, 30 and then 60 seconds; a login meanwhile gets 429
    #[arg(long, env, help_heading = "Guessing", default_value = "5", value_name = "COUNT")]
    pub(super) login_free_failures: String,

    /// Failed logins in a row of one username after which strangers to the account are refused for a
    /// day. NIST SP 800-63B-4 allows at most 100
    #[arg(long, env, help_heading = "Guessing", default_value = "100", value_name = "COUNT")]
    pub(super) login_max_failures: String,

    /// Wrong passwords in a row, for a change of the password or a deletion of the account, that end
    /// the session
    #[arg(long, env, help_heading = "Guessing", default_value = "10", value_name = "COUNT")]
    pub(super) session_max_failures: String,

    /// Names with a failed login from one network (IPv4 address, /56 of IPv6) at once; then further
    /// names from it get 429. 0 means no limit, 1000 is the most
    #[arg(long, env, help_heading = "Networks", default_value = "20", value_name = "COUNT")]
    pub(super) login_network_burst: String,

    /// Time after which a network may fail with one more name
    #[arg(long, env, help_heading = "Networks", default_value = "10s", value_name = "DURATION")]
    pub(super) login_network_interval: String,

    /// Registrations from one network (IPv4 address, /56 of IPv6) at once; further ones get 429. 0
    /// means no limit
    #[arg(long, env, help_heading = "Networks", default_value = "10", value_name = "COUNT")]
    pub(super) registration_network_burst: String,

    /// Time after which a network may register one more account
    #[arg(long, env, help_heading = "Networks", default_value = "1m", value_name = "DURATION")]
    pub(super) registration_network_interval: String,

    /// Largest number of revocations in memory, about 45 bytes each when full; beyond
    /// it, tokens are checked against the database
    #[arg(
        long,
        env,
        help_heading = "Revocations",
        default_value = "4000000",
        value_name = "COUNT"
    )]
    pub(super) revocation_capacity: String,

    /// Staleness bound: no instance accepts a revoked token longer than this after another
    /// instance has acknowledged the logout. An instance that falls further behind checks every
    /// token against the database
    #[arg(long, env, help_heading = "Revocations", default_value = "5s", value_name = "DURATION")]
    pub(super) revocation_max_staleness: String,

    /// Longest time between two reads of the revocations of other instances. Without
    /// notifications, a logout takes up to this long to reach them
    #[arg(long, env, help_heading = "Revocations", default_value = "1s", value_name = "DURATION")]
    pub(super) revocation_poll_interval: String,

    /// Interval of the cleanup of expired revocations, sessions and audit records
    #[arg(long, env, help_heading = "Revocations", default_value = "1m", value_name = "DURATION")]
    pub(super) revocation_sweep_interval: String,

    /// Retention of audit records
    #[arg(long, env, help_heading = "Audit", default_value = "365d", value_name = "DURATION")]
    pub(super) audit_retention: String,

    /// Time after the deletion of an account for which its name and addresses stay in the audit log;
    /// 0 means until the next cleanup. Its id stays
    #[arg(long, env, help_heading = "Audit", default_value = "30d", value_name = "DURATION")]
    pub(super) deleted_account_retention: String,

    /// Log format; auto means pretty on a terminal and json elsewhere
    #[arg(
        long,
        env,
        help_heading = "Logs",
        default_value = "auto",
        value_name = "auto|json|pretty"
    )]
    pub(super) log_format: String,

    /// Log filter: TARGET=LEVEL,… and one level for all other targets. portcullis=debug logs every
    /// request
    #[arg(
        long,
        env,
        help_heading = "Logs",
        default_value = "info,actix_server=warn,actix_http=off",
        value_name = "FILTER"
    )]
    pub(super) rust_log: String,

    /// The `.env` file. Options have its values already; it has those of the secrets.
    #[arg(skip)]
    pub(super) env_file: EnvFile,

    /// Problems of the `.env` file, which then counts as empty.
    #[arg(skip)]
    pub(super) env_problems: Vec<String>,

    /// Problems that do not keep the program from running.
    #[arg(skip)]
    pub(super) warnings: Vec<Warning>,
}

impl RawSettings {
    /// Returns the `.env` file, if it contains secrets.
    pub(super) fn env_file_with_secrets(&self) -> Option<SecretFile> {
        let has_secret = SECRETS.iter().any(|name| self.env_file.get(name).is_some());
        let file = || SecretFile { name: ENV_FILE.to_owned(), path: PathBuf::from(ENV_FILE) };
        has_secret.then(file)
    }
}

impl Cli {
    /// Reads the `.env` file, if there is one, the environment and the command line. Prints the
    /// reason and exits if the command line is malformed. A check of the settings reports a `.env`
    /// file that is malformed or cannot be read.
    #[must_use]
    pub fn load() -> Self {
        // Without the values of `.env`, which the help must not show as defaults.
        Self::command().get_matches();
        let settings = setting_names();
        let is_setting = |name: &str| settings.iter().any(|setting| setting == name);
        let (env_file, env_problems) = match EnvFile::read(Path::new(ENV_FILE), is_setting) {
            Ok(file) => (file, Vec::new()),
            Err(error) => (EnvFile::default(), error.0),
        };
        let command = Self::command().mut_args(|argument| default_from(&env_file, argument));
        let mut cli = Self::from_arg_matches(&command.get_matches())
            .unwrap_or_else(|error| error.format(&mut Self::command()).exit());
        cli.settings.warnings = names::warnings(&settings, &env_file, environment_names());
        let is_readable = env_file.is_readable_by_others;
        cli.settings.env_file = env_file;
        cli.settings.env_problems = env_problems;
        if is_readable && cli.settings.env_file_with_secrets().is_some() {
            let warning = ".env contains secrets, and other users of this machine can read it";
            cli.settings.warnings.push(Warning::ReadableSecret(warning.to_owned()));
        }
        cli
    }

    /// Returns the text of `portcullis help settings`.
    #[must_use]
    pub fn settings_help() -> String {
        let mut command = Self::command();
        command.build();
        let page = command.find_subcommand_mut("settings");
        page.map(|page| page.render_help().to_string()).unwrap_or_default()
    }
}

/// Returns the environment variables of all settings.
fn setting_names() -> Vec<String> {
    let command = Cli::command();
    let options = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
    options.chain(names::VARIABLES.iter().copied()).map(str::to_owned).collect()
}

/// Makes the `.env` file the default of an option.
fn default_from(env_file: &EnvFile, argument: Arg) -> Arg {
    let name = argument.get_env().and_then(|name| name.to_str());
    match name.and_then(|name| env_file.get(name)) {
        Some(value) => argument.default_value(value.expose().to_owned()),
        None => argument,
    }
}

/// Adds what all settings have in common.
fn setting(argument: Arg) -> Arg {
    let has_default = !argument.get_default_values().iter().all(|value| value.is_empty());
    empty_means_default(argument)
        .global(true)
        .hide_env_values(true)
        .hide_default_value(!has_default)
}

/// Returns the options of all settings.
pub(super) fn setting_options() -> Vec<Arg> {
    let command = RawSettings::augment_args(clap::Command::default());
    command.get_arguments().cloned().map(setting).collect()
}

/// Returns the default of a setting, unless it is empty.
pub(super) fn default_of(variable: &str) -> Option<String> {
    let options = setting_options();
    let option =
        options.iter().find(|option| option.get_env().is_some_and(|env| env == variable))?;
    let default = option.get_default_values().first()?.to_str()?;
    Some(default.to_owned()).filter(|default| !default.is_empty())
}

/// Makes the help of `portcullis settings` the list of the settings, which no other help shows.
fn settings_page(page: clap::Command) -> clap::Command {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help).hide(true);
    page.disable_help_flag(true)
        .args(setting_options())
        .arg(help)
        .help_template("{before-help}{all-args}{after-help}")
        .before_help(BEFORE_SETTINGS)
        .after_help(AFTER_SETTINGS)
}

/// Replaces an empty value of a setting by its default: variables that are not set are often passed
/// on as empty ones.
fn empty_means_default(argument: Arg) -> Arg {
    let default = argument.get_default_values().first().and_then(|value| value.to_str());
    let Some(default) = default.map(str::to_owned).filter(|_| argument.get_env().is_some()) else {
        return argument;
    };
    let value = move |raw: &str| if raw.is_empty() { default.clone() } else { raw.to_owned() };
    if argument.get_id() == "database_url" {
        argument.value_parser(move |raw: &str| Ok::<_, Infallible>(Secret::new(value(raw))))
    } else {
        argument.value_parser(move |raw: &str| Ok::<_, Infallible>(value(raw)))
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
fn environment_names() -> impl Iterator<Item = String> {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_variable_is_named_like_its_field() {
        for argument in Cli::command().get_arguments() {
            let Some(variable) = argument.get_env() else { continue };
            assert_eq!(variable.to_str(), Some(argument.get_id().as_str().to_uppercase().as_str()));
        }
    }

    #[test]
    fn empty_value_means_the_default() {
        let command = Cli::command();
        let options = command.get_arguments().filter(|argument| argument.get_env().is_some());
        let empty: Vec<_> =
            options.map(|option| format!("--{}=", option.get_long().unwrap())).collect();
        let program = || std::iter::once("portcullis");

        let with_empty = program().chain(empty.iter().map(String::as_str));
        let with_empty = Cli::try_parse_from(with_empty).unwrap().settings;
        let without = Cli::try_parse_from(program()).unwrap().settings;

        assert_eq!(format!("{with_empty:?}"), format!("{without:?}"));
        assert_eq!(with_empty.database_url.expose(), without.database_url.expose());
    }

    #[test]
    fn example_file_lists_every_variable_with_its_default() {
        let example = include_str!("../../.env.example");
        let command = Cli::command();
        for argument in command.get_arguments() {
            let Some(variable) = argument.get_env() else { continue };
            let default = argument.get_default_values().first().and_then(|value| value.to_str());
            let line = format!("# {}={}", variable.display(), default.unwrap_or_default());
            assert!(example.lines().any(|given| given == line), "no line `{line}`");
        }
    }
    #[test]
    fn help_file_is_current() {
        let help = Cli::command().render_long_help();
        let current = format!("{help}\n{}", Cli::settings_help());
        assert_eq!(include_str!("../../docs/help.txt"), current, "run `make generated`");
    }

    #[test]
    fn help_of_a_command_leaves_the_settings_out() {
        let help = |arguments: &[&str]| {
            let arguments = [&["portcullis"], arguments].concat();
            Cli::try_parse_from(arguments).unwrap_err().to_string()
        };
        for arguments in
            [&["--help"][..], &["user", "create", "--help"], &["help", "user", "create"]]
        {
            assert!(!help(arguments).contains("DATABASE_URL"), "{arguments:?}");
        }
        assert_eq!(help(&["help", "settings"]), Cli::settings_help());
        for option in setting_options() {
            let name = option.get_env().unwrap().to_str().unwrap();
            assert!(Cli::settings_help().contains(&format!("{name}]")), "{name}");
        }
    }

    #[test]
    fn short_help_has_a_line_for_each_command_and_option() {
        fn check(command: &mut clap::Command) {
            let help = command.render_help().to_string();
            // Values of an option may have a line of their own.
            let is_wrapped =
                |line: &&str| line.starts_with("        ") && !line.trim().starts_with('[');
            let wrapped = help.lines().find(is_wrapped);
            assert_eq!(wrapped, None, "{help}");
            command
                .get_subcommands_mut()
                .filter(|sub| sub.get_name() != "settings")
                .for_each(check);
        }
        let mut command = Cli::command();
        command.build();
        check(&mut command);
    }

    #[test]
    fn settings_are_options_of_every_command() {
        for arguments in [&["user", "list", "--port=1"][..], &["--port=1", "user", "list"]] {
            let cli = Cli::try_parse_from([&["portcullis"], arguments].concat()).unwrap();
            assert_eq!(cli.settings.port, "1");
        }
    }
}
