//! The checked settings.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use strum::IntoStaticStr;
use thiserror::Error;
use time::OffsetDateTime;
use tracing_subscriber::filter::Targets;
use zeroize::Zeroizing;

use crate::domain::{Audience, FailureLimits, KeyPeriods, MAX_LEEWAY, PasswordPolicy, SecretKey};

/// All settings of the service.
#[derive(Clone, Debug)]
pub struct Config {
    /// URL under which clients reach the service, without a slash at its end.
    pub public_url: Option<String>,
    /// Whether everyone can register an account.
    pub is_registration_open: bool,
    pub http: HttpSettings,
    pub database: DatabaseSettings,
    pub tokens: TokenSettings,
    pub keys: KeySettings,
    pub hashing: HashSettings,
    /// Rules for new passwords.
    pub passwords: PasswordPolicy,
    pub throttle: ThrottleSettings,
    pub networks: NetworkSettings,
    /// Replica of the revocations.
    pub revocations: RevocationSettings,
    /// Retention of audit records.
    pub audit_retention: Duration,
    /// Time after the deletion of an account for which its name and addresses stay in the audit log.
    pub deleted_account_retention: Duration,
    pub log: LogSettings,
    /// Problems that do not keep the service from running.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// Returns the periods in the life of a signing key.
    #[must_use]
    pub fn key_periods(&self) -> KeyPeriods {
        let max_staleness = self.revocations.max_staleness;
        KeyPeriods::new(self.keys.jwks_max_age, max_staleness, self.tokens.lifetime)
    }
}

/// The settings of the commands that work on the database without a running service.
#[derive(Clone, Debug)]
pub struct ManagementConfig {
    pub database: DatabaseSettings,
    pub hashing: HashSettings,
    /// Rules for new passwords.
    pub passwords: PasswordPolicy,
    /// File beside an SQLite database with the secret that protects its keys; `None` if the secret is
    /// given.
    pub kept_secret: Option<PathBuf>,
    /// Problems that do not keep the command from running.
    pub warnings: Vec<Warning>,
}

/// The settings of a copy of a database.
#[derive(Clone, Debug)]
pub struct CopyConfig {
    /// Database to copy.
    pub from: DatabaseSettings,
    /// Database to copy into.
    pub to: DatabaseSettings,
    /// File beside an SQLite source with the secret that protects its keys; `None` if the secret is
    /// given.
    pub kept_secret: Option<PathBuf>,
    /// Problems that do not keep the command from running.
    pub warnings: Vec<Warning>,
}

/// Settings of the HTTP server.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// Address of the public listener.
    pub address: ListenAddress,
    /// Address of the listener for operators; `None` to serve everything on the public one.
    pub management_address: Option<ListenAddress>,
    /// Whether the documentation is served.
    pub serves_docs: bool,
    /// Number of worker threads.
    pub workers: usize,
    /// Trusted reverse proxies. `X-Forwarded-For` and `Forwarded` are honoured only from these
    /// networks.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins of browser applications that may call the API, as browsers send them.
    pub cors_allowed_origins: Vec<String>,
    /// Largest number of open connections.
    pub max_connections: u32,
    /// Largest number of open connections from one address that is not a trusted proxy.
    pub max_connections_per_address: u32,
    /// Longest time for the head of a request, from its first byte.
    pub head_timeout: Duration,
    /// Longest time in which a client takes no part of a reply.
    pub reply_timeout: Duration,
    /// Longest wait of a request for the database or for password hashing.
    pub request_timeout: Duration,
    /// Longest time for which a shutdown keeps answering, so that clients can reconnect to another
    /// instance.
    pub shutdown_drain: Duration,
    /// Longest wait for the requests in flight after the drain.
    pub shutdown_timeout: Duration,
}

/// Address that a listener binds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// IP address without brackets, or name of a host.
    pub host: String,
    /// Port; 0 selects a free one.
    pub port: u16,
}

impl ListenAddress {
    /// Returns `true` if only this machine can connect.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Returns the address at which this machine connects to the listener.
    #[must_use]
    pub fn from_this_machine(self) -> Self {
        let host = match self.host.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() && ip.is_ipv6() => "::1".to_owned(),
            Ok(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
            _ => self.host,
        };
        Self { host, port: self.port }
    }
}

/// Settings of the database of record.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// Location of the database.
    pub database: Database,
    /// Largest number of pooled connections.
    pub max_connections: u32,
    /// Longest wait for a pooled connection.
    pub acquire_timeout: Duration,
}

/// Location of the database of record.
#[derive(Clone, Debug)]
pub enum Database {
    Postgres(PostgresSettings),
    Sqlite(PathBuf),
}

/// Settings of the connections to a PostgreSQL server.
#[derive(Clone, Debug)]
pub struct PostgresSettings {
    /// URL of the server or of a pooler; contains a password.
    pub url: Secret,
    /// URL of a direct connection that receives notifications; `None` to poll instead.
    pub listen_url: Option<Secret>,
    /// Pool mode of the connections at `url`.
    pub pool_mode: PoolMode,
}

/// Time for which a pooler assigns a server connection to a client, in PgBouncer's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// Until the client disconnects; also the mode without a pooler.
    Session,
    /// Until the transaction ends.
    Transaction,
}

/// Settings of tokens and sessions, shared by the issuer and the verifiers of a token.
#[derive(Clone, Debug)]
pub struct TokenSettings {
    /// The `iss` claim of the tokens: PUBLIC_URL, or `portcullis` without one.
    pub issuer: String,
    /// Recipients of the tokens: the service itself, and those in JWT_AUDIENCE.
    pub audience: Audience,
    /// Lifetime of an access token.
    pub lifetime: Duration,
    /// Lifetime of a session, regardless of its use.
    pub session_lifetime: Duration,
    /// Longest time between two uses of a session; `None` for no limit.
    pub session_idle_timeout: Option<Duration>,
    /// Maximum number of sessions of an account. Beyond it the session longest unused ends.
    pub sessions_per_user: u32,
    /// Tolerated difference between the clocks of two machines.
    pub leeway: Duration,
    /// Largest memory for verified access tokens, in bytes.
    pub cache_size: usize,
}

impl TokenSettings {
    /// Returns the time at which every access token issued until `now` has expired, with the
    /// largest leeway of any instance.
    #[must_use]
    pub fn last_expiry(&self, now: OffsetDateTime) -> OffsetDateTime {
        now + self.lifetime + MAX_LEEWAY
    }

    /// Returns the time since which a session must have been used to be open; `None` for no limit.
    #[must_use]
    pub fn used_since(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        self.session_idle_timeout.map(|timeout| now - timeout)
    }
}

/// Settings of the keys that sign access tokens.
#[derive(Clone, Debug)]
pub struct KeySettings {
    /// Source of the secret that unwraps the root key.
    pub secret: SecretKeySource,
    /// Secret that has been replaced on some instances.
    pub previous_secret: Option<SecretKey>,
    pub algorithm: SigningAlgorithm,
    /// Time for which verifiers may keep the public keys.
    pub jwks_max_age: Duration,
    /// Time for which a key signs; `None` for ever.
    pub rotation_interval: Option<Duration>,
}

/// Algorithm of the signatures of access tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "UPPERCASE", const_into_str)]
pub enum SigningAlgorithm {
    /// Key pairs, which the service makes and rotates.
    Es256,
    /// The secret itself.
    Hs256,
}

/// Source of the secret.
#[derive(Clone, Debug)]
pub enum SecretKeySource {
    /// The secret itself, from `JWT_SECRET_KEY`.
    Given(SecretKey),
    /// File that contains the secret; created at the first start.
    KeptIn(PathBuf),
}

/// Settings of password hashing.
#[derive(Clone, Copy, Debug)]
pub struct HashSettings {
    /// PBKDF2 iterations of new hashes.
    pub iterations: NonZeroU32,
    /// Number of hashing threads.
    pub threads: usize,
    /// Longest expected wait for a hashing thread; a job that would wait longer is refused.
    pub max_wait: Duration,
}

/// Limits of the attempts to guess a password.
#[derive(Clone, Copy, Debug)]
pub struct ThrottleSettings {
    /// Limits of the logins to one account from strangers, one known device or one known network.
    pub login: FailureLimits,
    /// Limits of the checks in one session, which the last failure ends.
    pub session: FailureLimits,
}

/// Limits of each network, on each instance; `None` for no limit.
#[derive(Clone, Copy, Debug)]
pub struct NetworkSettings {
    /// Names that fail to log in.
    pub failed_names: Option<Rate>,
    /// Registrations.
    pub registrations: Option<Rate>,
}

/// Limit of a token bucket: `burst` events at once, and one more after each interval.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub burst: u32,
    pub interval: Duration,
}

impl Rate {
    /// Returns the rate, or `None` for a burst of 0, which means no limit.
    #[must_use]
    pub fn unless_zero(self) -> Option<Self> {
        (self.burst > 0).then_some(self)
    }
}

/// Settings of the replica of the revocations.
#[derive(Clone, Copy, Debug)]
pub struct RevocationSettings {
    /// Largest number of entries in memory.
    pub capacity: u64,
    /// Interval of the cleanup of expired rows.
    pub sweep_interval: Duration,
    /// Staleness up to which the replica is trusted. Beyond it, every token is checked against the
    /// database.
    pub max_staleness: Duration,
    /// Longest time between two reads of the feed.
    pub poll_interval: Duration,
    /// Bytes a second of complete and of long replies to receivers. No variable sets it.
    pub receiver_rate: u32,
}

impl RevocationSettings {
    /// 128 MiB a second, about what a network of 1 Gbit/s carries.
    pub const RECEIVER_RATE: u32 = 128 * 1024 * 1024;

    /// Returns the timeout of a read from the database: half of the staleness bound, so that a
    /// hanging connection is replaced before the bound is reached.
    #[must_use]
    pub fn read_timeout(&self) -> Duration {
        self.max_staleness / 2
    }
}

/// Settings of logging.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Format of a line.
    pub format: LogFormat,
    /// Filter by target and level. Not an `EnvFilter`, which takes a lock whenever a span is
    /// entered or left.
    pub filter: Targets,
}

/// Format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// [`Pretty`](Self::Pretty) on a terminal, otherwise [`Json`](Self::Json).
    Auto,
    /// One JSON object a line.
    Json,
    /// Text for people.
    Pretty,
}

/// A text that `Debug` does not show and that is erased from memory on drop.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a text.
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

/// All problems of the settings, one a line, each with its fix.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub(super) Vec<String>);

impl ConfigError {
    /// Returns the problems.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

/// Problem that does not keep the program from running.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Warning {
    /// A setting is unknown, or a part of it has no effect.
    #[error("{0}")]
    Setting(String),
    /// Every user of the machine can read a file with secrets.
    #[error("{0}")]
    ReadableSecret(String),
}

/// File that contains a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile {
    /// Variable that names the file, or the name of the file itself.
    pub name: String,
    pub path: PathBuf,
}
