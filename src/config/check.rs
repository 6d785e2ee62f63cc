//! From what was said to what is meant: every setting parsed, every problem reported at once, in words
//! that say the fix.

use std::env::VarError;
use std::fs;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use ipnet::IpNet;
use tracing_subscriber::filter::Targets;

use super::{
    Config, ConfigError, Database, DatabaseSettings, HashSettings, HttpSettings, LogFormat,
    LogSettings, ManagementConfig, PoolMode, PostgresSettings, RawSettings, RevocationSettings,
    Secret, SigningKeySource, TokenSettings,
};
use crate::domain::SigningKey;

/// The least that PBKDF2 may cost outside tests.
const MIN_ITERATIONS: u32 = 100_000;

/// More threads than any machine has cores.
const MAX_THREADS: usize = 1024;

impl RawSettings {
    /// Returns the host and the port of the instance on this machine.
    ///
    /// # Errors
    /// When the port is not one.
    pub fn local_address(&self) -> Result<(String, u16), ConfigError> {
        let mut problems = Problems::default();
        let port = problems.parse("PORT", &self.port, number);
        let host = match self.host.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() && ip.is_ipv6() => "::1",
            Ok(ip) if ip.is_unspecified() => "127.0.0.1",
            _ => &self.host,
        };
        problems.settle(port.map(|port| (host.to_owned(), port)))
    }

    /// Checks the settings that managing accounts past the service needs.
    ///
    /// # Errors
    /// All that is wrong with any of them.
    pub fn check_for_management(&self) -> Result<ManagementConfig, ConfigError> {
        let mut problems = Problems::default();
        let (database, hashing) = (self.database(&mut problems), self.hashing(&mut problems));
        let config = || Some(ManagementConfig { database: database?, hashing: hashing? });
        problems.settle(config())
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// All that is wrong with any of them.
    pub fn check(&self) -> Result<Config, ConfigError> {
        let mut problems = Problems::default();
        let http = self.http(&mut problems);
        let database = self.database(&mut problems);
        let signing_key = Self::signing_key(&mut problems, database.as_ref());
        let tokens = self.tokens(&mut problems);
        let hashing = self.hashing(&mut problems);
        let revocations = self.revocations(&mut problems);
        let audit_retention = problems.parse("AUDIT_RETENTION", &self.audit_retention, seconds);
        let log = self.log(&mut problems);
        problems.require_patience(http.as_ref(), hashing.as_ref());
        let config = || {
            Some(Config {
                http: http?,
                database: database?,
                tokens: tokens?,
                signing_key: signing_key?,
                hashing: hashing?,
                revocations: revocations?,
                audit_retention: audit_retention?,
                log: log?,
            })
        };
        problems.settle(config())
    }

    fn http(&self, problems: &mut Problems) -> Option<HttpSettings> {
        let host = problems.parse("HOST", &self.host, text);
        let port = problems.parse("PORT", &self.port, number);
        let workers = problems.parse("HTTP_WORKERS", &self.http_workers, threads);
        let trusted_proxies = problems.parse("TRUSTED_PROXIES", &self.trusted_proxies, networks);
        let request_timeout = problems.parse("REQUEST_TIMEOUT", &self.request_timeout, seconds);
        let shutdown_drain = problems.parse("SHUTDOWN_DRAIN", &self.shutdown_drain, whole_seconds);
        let shutdown_timeout =
            problems.parse("SHUTDOWN_TIMEOUT", &self.shutdown_timeout, whole_seconds);
        Some(HttpSettings {
            host: host?,
            port: port?,
            workers: workers?,
            trusted_proxies: trusted_proxies?,
            request_timeout: request_timeout?,
            shutdown_drain: shutdown_drain?,
            shutdown_timeout: shutdown_timeout?,
        })
    }

    fn database(&self, problems: &mut Problems) -> Option<DatabaseSettings> {
        let from_file = problems.secret_file("DATABASE_URL_FILE");
        let url = from_file.unwrap_or_else(|| self.database_url.clone());
        let database = self.database_at(&url, problems);
        let max_connections =
            problems.parse("DATABASE_MAX_CONNECTIONS", &self.database_max_connections, at_least(2));
        let acquire_timeout =
            problems.parse("DATABASE_ACQUIRE_TIMEOUT", &self.database_acquire_timeout, seconds);
        Some(DatabaseSettings {
            database: database?,
            max_connections: max_connections?,
            acquire_timeout: acquire_timeout?,
        })
    }

    fn database_at(&self, url: &Secret, problems: &mut Problems) -> Option<Database> {
        let pool_mode = problems.parse("DATABASE_POOL_MODE", &self.database_pool_mode, pool_mode);
        let listen_url = problems
            .secret_file("DATABASE_LISTEN_URL_FILE")
            .or_else(|| problems.variable("DATABASE_LISTEN_URL"));
        if listen_url.as_ref().is_some_and(|url| !is_postgres(url.expose())) {
            problems.add::<()>("DATABASE_LISTEN_URL", "must be postgres://USER:PASSWORD@HOST/NAME");
        }
        match problems.parse("DATABASE_URL", url.expose(), database)? {
            // Notifications do not come through a pooler that takes the connection back.
            None => Some(Database::Postgres(PostgresSettings {
                listen_url: listen_url
                    .or_else(|| (pool_mode == Some(PoolMode::Session)).then(|| url.clone())),
                url: url.clone(),
                pool_mode: pool_mode?,
            })),
            Some(path) => Some(Database::Sqlite(path)),
        }
    }

    fn signing_key(
        problems: &mut Problems,
        database: Option<&DatabaseSettings>,
    ) -> Option<SigningKeySource> {
        let given = problems
            .secret_file("JWT_SECRET_KEY_FILE")
            .or_else(|| problems.variable("JWT_SECRET_KEY"));
        match (given, database.map(|settings| &settings.database)) {
            (Some(secret), _) => problems
                .parse("JWT_SECRET_KEY", secret.expose(), |text| {
                    SigningKey::parse(text.as_bytes()).map_err(|error| error.to_string())
                })
                .map(SigningKeySource::Given),
            // Named, but it cannot be read: that has been reported.
            (None, _) if problems.variable("JWT_SECRET_KEY_FILE").is_some() => None,
            (None, Some(Database::Sqlite(path))) => {
                Some(SigningKeySource::KeptIn(path.with_extension("key")))
            }
            (None, Some(Database::Postgres(_))) => problems.add(
                "JWT_SECRET_KEY",
                "is needed with Postgres, the same on every instance: \
                 make one with `openssl rand -hex 32`",
            ),
            (None, None) => None,
        }
    }

    fn tokens(&self, problems: &mut Problems) -> Option<TokenSettings> {
        let issuer = problems.parse("JWT_ISSUER", &self.jwt_issuer, text);
        let lifetime =
            problems.parse("JWT_ACCESS_TOKEN_EXPIRES", &self.jwt_access_token_expires, seconds);
        let session_lifetime =
            problems.parse("JWT_REFRESH_TOKEN_EXPIRES", &self.jwt_refresh_token_expires, seconds);
        let idle_timeout =
            problems.parse("SESSION_IDLE_TIMEOUT", &self.session_idle_timeout, whole_seconds);
        let leeway = problems.parse("JWT_LEEWAY", &self.jwt_leeway, whole_seconds);
        Some(TokenSettings {
            issuer: issuer?,
            lifetime: lifetime?,
            session_lifetime: session_lifetime?,
            session_idle_timeout: Some(idle_timeout?).filter(|timeout| !timeout.is_zero()),
            leeway: leeway?,
        })
    }

    fn hashing(&self, problems: &mut Problems) -> Option<HashSettings> {
        let iterations =
            problems.parse("PBKDF2_ITERATIONS", &self.pbkdf2_iterations, at_least(MIN_ITERATIONS));
        let threads = problems.parse("HASH_THREADS", &self.hash_threads, threads);
        let max_wait = problems.parse("HASH_MAX_WAIT", &self.hash_max_wait, whole_seconds);
        Some(HashSettings {
            iterations: iterations.and_then(NonZeroU32::new)?,
            threads: threads?,
            max_wait: max_wait?,
        })
    }

    fn revocations(&self, problems: &mut Problems) -> Option<RevocationSettings> {
        let capacity =
            problems.parse("REVOCATION_CAPACITY", &self.revocation_capacity, at_least(1));
        let sweep_interval =
            problems.parse("REVOCATION_SWEEP_INTERVAL", &self.revocation_sweep_interval, seconds);
        let max_staleness =
            problems.parse("REVOCATION_MAX_STALENESS", &self.revocation_max_staleness, seconds);
        let poll_interval =
            problems.parse("REVOCATION_POLL_INTERVAL", &self.revocation_poll_interval, seconds);
        if let (Some(poll_interval), Some(max_staleness)) = (poll_interval, max_staleness)
            && poll_interval >= max_staleness
        {
            problems.add::<()>(
                "REVOCATION_POLL_INTERVAL",
                "must be less than REVOCATION_MAX_STALENESS: a third of it, say",
            );
        }
        Some(RevocationSettings {
            capacity: capacity?.into(),
            sweep_interval: sweep_interval?,
            max_staleness: max_staleness?,
            poll_interval: poll_interval?,
        })
    }

    fn log(&self, problems: &mut Problems) -> Option<LogSettings> {
        let format = problems.parse("LOG_FORMAT", &self.log_format, |raw| {
            LogFormat::from_str(raw, true).map_err(|_| "must be auto, json or pretty".to_owned())
        });
        let filter = problems.parse("RUST_LOG", &self.rust_log, |raw| {
            raw.parse::<Targets>().map_err(|error| format!("is no filter: {error}"))
        });
        Some(LogSettings { format: format?, filter: filter? })
    }
}

/// Collects what is wrong instead of stopping at the first of it.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn parse<T>(
        &mut self,
        variable: &str,
        raw: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(raw).map_or_else(|problem| self.add(variable, &problem), Some)
    }

    fn add<T>(&mut self, variable: &str, problem: &str) -> Option<T> {
        self.0.push(format!("{variable} {problem}"));
        None
    }

    /// Refuses a hashing queue in which a login may wait until its request has timed out.
    fn require_patience(&mut self, http: Option<&HttpSettings>, hashing: Option<&HashSettings>) {
        if let (Some(http), Some(hashing)) = (http, hashing)
            && hashing.max_wait >= http.request_timeout
        {
            self.add::<()>("HASH_MAX_WAIT", "must be less than REQUEST_TIMEOUT");
        }
    }

    /// Reads a variable that may be secret. An empty one counts as none, as in a `.env` not filled
    /// in.
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    fn variable(&mut self, name: &str) -> Option<Secret> {
        match std::env::var(name) {
            Ok(value) => Some(value).filter(|value| !value.is_empty()).map(Secret::new),
            Err(VarError::NotPresent) => None,
            Err(VarError::NotUnicode(_)) => self.add(name, "must be text in UTF-8"),
        }
    }

    /// Reads the file that a variable names, if it names one.
    fn secret_file(&mut self, name: &str) -> Option<Secret> {
        let path = self.variable(name)?;
        match fs::read_to_string(path.expose()) {
            Ok(content) => Some(Secret::new(content.trim().to_owned())),
            Err(error) => self.add(name, &format!("names a file that cannot be read: {error}")),
        }
    }

    fn settle<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        value.filter(|_| self.0.is_empty()).ok_or(ConfigError(self.0))
    }
}

fn text(raw: &str) -> Result<String, String> {
    if raw.is_empty() { Err("must not be empty".to_owned()) } else { Ok(raw.to_owned()) }
}

fn number<T: FromStr>(raw: &str) -> Result<T, String> {
    raw.parse().map_err(|_| format!("must be a whole number in range, not `{raw}`"))
}

fn at_least(least: u32) -> impl Fn(&str) -> Result<u32, String> {
    move |raw| match number(raw)? {
        value if value < least => Err(format!("must be at least {least}, not {value}")),
        value => Ok(value),
    }
}

fn seconds(raw: &str) -> Result<Duration, String> {
    at_least(1)(raw).map(|seconds| Duration::from_secs(seconds.into()))
}

fn whole_seconds(raw: &str) -> Result<Duration, String> {
    number::<u32>(raw).map(|seconds| Duration::from_secs(seconds.into()))
}

fn threads(raw: &str) -> Result<usize, String> {
    match number(raw)? {
        0 => Ok(thread::available_parallelism().map_or(1, Into::into)),
        count if count > MAX_THREADS => Err(format!("must be at most {MAX_THREADS}, not {count}")),
        count => Ok(count),
    }
}

/// Reads networks; a single address is one, too.
fn networks(raw: &str) -> Result<Vec<IpNet>, String> {
    let network = |text: &str| match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => {
            text.parse().map_err(|_| format!("must be networks like 10.0.0.0/8, not `{text}`"))
        }
    };
    raw.split(',').map(str::trim).filter(|text| !text.is_empty()).map(network).collect()
}

fn pool_mode(raw: &str) -> Result<PoolMode, String> {
    PoolMode::from_str(raw, true).map_err(|_| "must be session or transaction".to_owned())
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Returns the path of the file, or `None` where the URL is one of Postgres.
fn database(url: &str) -> Result<Option<PathBuf>, String> {
    match url.strip_prefix("sqlite://") {
        None if is_postgres(url) => Ok(None),
        Some(path) if !path.is_empty() && path != ":memory:" && !path.contains('?') => {
            Ok(Some(path.into()))
        }
        // The URL is not repeated: it may hold a password.
        _ => Err("must be postgres://USER:PASSWORD@HOST/NAME or sqlite://PATH, without options"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::Cli;
    use super::*;

    fn check(arguments: &[&str]) -> Result<Config, ConfigError> {
        let arguments = [&["portcullis"], arguments].concat();
        Cli::try_parse_from(arguments).unwrap().settings.check()
    }

    #[test]
    fn without_any_setting_it_is_sqlite_and_a_key_beside_it() {
        let config = check(&[]).unwrap();

        assert_eq!((config.http.host.as_str(), config.http.port), ("127.0.0.1", 5000));
        assert_eq!(config.hashing.iterations.get(), 600_000);
        assert_eq!(config.tokens.lifetime, Duration::from_hours(1));
        let Database::Sqlite(path) = config.database.database else { panic!("not SQLite") };
        assert_eq!(path, PathBuf::from("data/portcullis.db"));
        let SigningKeySource::KeptIn(path) = config.signing_key else { panic!("given") };
        assert_eq!(path, PathBuf::from("data/portcullis.key"));
    }

    #[test]
    fn all_problems_are_reported_at_once_with_their_fix() {
        let problems = check(&[
            "--port=http",
            "--database-url=postgres://localhost/portcullis",
            "--pbkdf2-iterations=1000",
            "--log-format=xml",
            "--hash-threads=9999",
            "--request-timeout=0",
        ]);

        let expected = [
            "PORT must be a whole number in range, not `http`",
            "REQUEST_TIMEOUT must be at least 1, not 0",
            "JWT_SECRET_KEY is needed with Postgres, the same on every instance: \
             make one with `openssl rand -hex 32`",
            "PBKDF2_ITERATIONS must be at least 100000, not 1000",
            "HASH_THREADS must be at most 1024, not 9999",
            "LOG_FORMAT must be auto, json or pretty",
        ];
        assert_eq!(problems.unwrap_err(), ConfigError(expected.map(str::to_owned).to_vec()));
    }

    #[test]
    fn revocations_have_to_be_looked_for_more_often_than_the_bound() {
        assert!(check(&["--revocation-poll-interval=4"]).is_ok());
        let problem = check(&["--revocation-poll-interval=5"]).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "REVOCATION_POLL_INTERVAL must be less than REVOCATION_MAX_STALENESS: a third of it, say"
        );
    }

    #[test]
    fn a_login_may_not_wait_for_hashing_until_its_request_times_out() {
        assert!(check(&["--hash-max-wait=9"]).is_ok());
        let problem = check(&["--hash-max-wait=10"]).unwrap_err();
        assert_eq!(problem.to_string(), "HASH_MAX_WAIT must be less than REQUEST_TIMEOUT");
    }

    #[test]
    fn a_database_url_that_is_refused_is_not_repeated() {
        let problem = check(&["--database-url=mysql://root:hunter2@localhost"]).unwrap_err();

        assert!(problem.to_string().starts_with("DATABASE_URL must be"), "{problem}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }

    #[test]
    fn debug_shows_no_password() {
        let url = Secret::new("postgres://portcullis:hunter2@localhost/portcullis".to_owned());
        assert_eq!(format!("{url:?}"), "Secret(..)");
        let cli = Cli::try_parse_from(["portcullis", "--database-url=postgres://a:hunter2@b/c"]);
        assert!(!format!("{:?}", cli.unwrap()).contains("hunter2"));
    }

    #[test]
    fn the_local_address_of_an_open_listener_is_loopback() {
        for (host, local) in [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.1.2.3", "10.1.2.3")] {
            let cli = Cli::try_parse_from(["portcullis", "healthcheck", "--host", host]).unwrap();
            assert_eq!(cli.settings.local_address().unwrap(), (local.to_owned(), 5000));
        }
    }
}
