//! Every setting, checked. Nothing outside this module reads the environment.

mod check;
mod cli;
mod command;

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use ipnet::IpNet;
use thiserror::Error;
use time::OffsetDateTime;
use tracing_subscriber::filter::Targets;
use zeroize::Zeroizing;

use crate::domain::SigningKey;

pub use cli::{Cli, RawSettings};
pub use command::{Command, SecretCommand, UserArgs, UserCommand};

/// The settings, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// How HTTP is served.
    pub http: HttpSettings,
    /// Where things are remembered.
    pub database: DatabaseSettings,
    /// What the tokens look like.
    pub tokens: TokenSettings,
    /// Where the key comes from that signs them.
    pub signing_key: SigningKeySource,
    /// What hashing may cost.
    pub hashing: HashSettings,
    /// How revocations are held.
    pub revocations: RevocationSettings,
    /// How long audit records are kept.
    pub audit_retention: Duration,
    /// What is logged.
    pub log: LogSettings,
}

/// The settings that managing accounts past the service needs.
#[derive(Clone, Debug)]
pub struct ManagementConfig {
    /// Where things are remembered.
    pub database: DatabaseSettings,
    /// What hashing may cost.
    pub hashing: HashSettings,
}

/// How HTTP is served.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Address or name of the interface to listen on.
    pub host: String,
    /// Port to listen on; 0 takes any free one.
    pub port: u16,
    /// Number of threads.
    pub workers: usize,
    /// Whose word is taken for where a request comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// Longest wait for an answer from behind the handlers.
    pub request_timeout: Duration,
    /// Longest wait at the end for clients to go elsewhere.
    pub shutdown_drain: Duration,
    /// Longest wait for requests in flight after that.
    pub shutdown_timeout: Duration,
}

/// Where things are remembered.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// The database of record.
    pub database: Database,
    /// Most connections to it.
    pub max_connections: u32,
    /// Longest wait for one of them.
    pub acquire_timeout: Duration,
}

/// A database of record.
#[derive(Clone, Debug)]
pub enum Database {
    /// A server.
    Postgres(PostgresSettings),
    /// An embedded one, by the path of its file.
    Sqlite(PathBuf),
}

/// How a Postgres server is reached.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// Where it is; holds a password.
    pub url: Secret,
    /// Where to listen for notifications, if anywhere.
    pub listen_url: Option<Secret>,
    /// What a connection to `url` is.
    pub pool_mode: PoolMode,
}

/// For how long a connection to Postgres is ours, in the words of PgBouncer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PoolMode {
    /// Until we close it.
    Session,
    /// Until the transaction ends; then a pooler lends it to others.
    Transaction,
}

/// What an issuer and its checkers agree on, beside the key.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// The `iss` claim.
    pub issuer: String,
    /// How long an access token lives.
    pub lifetime: Duration,
    /// How long a session lives, however much it is used.
    pub session_lifetime: Duration,
    /// How long a session lives unused, where that is limited.
    pub session_idle_timeout: Option<Duration>,
    /// How far the clocks of two machines may differ.
    pub leeway: Duration,
}

impl TokenSettings {
    /// Returns when the last token that is issued by now has expired, leeway included.
    #[must_use]
    pub fn last_expiry(&self, now: OffsetDateTime) -> OffsetDateTime {
        now + self.lifetime + self.leeway
    }
}

/// Where the signing key comes from.
#[derive(Clone, Debug)]
pub enum SigningKeySource {
    /// From the settings.
    Given(SigningKey),
    /// From a file, where it is made when there is none.
    KeptIn(PathBuf),
}

/// What hashing may cost.
#[derive(Clone, Copy, Debug)]
pub struct HashSettings {
    /// PBKDF2 iterations.
    pub iterations: NonZeroU32,
    /// Number of threads.
    pub threads: usize,
    /// Longest expected wait for one of them.
    pub max_wait: Duration,
}

/// How revocations are held.
#[derive(Clone, Copy, Debug)]
pub struct RevocationSettings {
    /// Most entries in memory.
    pub capacity: u64,
    /// Time between two sweeps of expired ones.
    pub sweep_interval: Duration,
    /// Oldest knowledge by which a token is accepted without asking the database.
    pub max_staleness: Duration,
    /// Longest time between two looks at what others have revoked.
    pub poll_interval: Duration,
}

impl RevocationSettings {
    /// Longest wait for the database to say anything about revocations: half of the bound, so that
    /// a connection that hangs is replaced before the bound is reached.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.max_staleness / 2
    }
}

/// What is logged.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// The form of a line.
    pub format: LogFormat,
    /// Which lines. Not an `EnvFilter`, which takes a lock whenever a span is entered or left.
    pub filter: Targets,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// A text that no log and no `Debug` shows.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Returns the text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Everything that is wrong with the settings, a line each, each with its fix.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(Vec<String>);
