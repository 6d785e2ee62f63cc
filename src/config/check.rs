//! Checks of the settings. Every problem is reported at once, each with its fix.

use std::env::VarError;
use std::fs;
use std::io;
use std::mem;
use std::path::PathBuf;

use url::Url;

use super::cli::{RawSettings, default_of};
use super::command::CopyArgs;
use super::database_url::{URL_PARAMETERS, UrlParts, is_postgres, key_path, sqlite_path, trimmed};
use super::env_file::is_readable_by_others;
use super::names::VARIABLES;
use super::settings::{
    Config, ConfigError, CopyConfig, Database, DatabaseSettings, HashSettings, HttpSettings,
    KeySettings, ListenAddress, LogFormat, LogSettings, ManagementConfig, NetworkSettings,
    PoolMode, PostgresSettings, Rate, RevocationSettings, Secret, SecretFile, SecretKeySource,
    SigningAlgorithm, ThrottleSettings, TokenSettings, Warning,
};
use super::values::{
    acquire_timeout, audience, blocklist, count, duration, duration_or_unlimited, host,
    human_duration, iterations, leeway, listen_address, log_filter, mebibytes, networks, number,
    one_of, origins, port, positive_duration, public_url, threads,
};
use crate::domain::{Audience, FailureLimits, KeyPeriods, PasswordPolicy, SecretKey};

/// Largest number of names for each of up to 10,000 networks in memory.
const MAX_FAILED_NAMES: u32 = 1_000;

/// Name of the service, which is the issuer of the tokens without a public URL.
const SERVICE_NAME: &str = "portcullis";

const ALGORITHMS: &[(&str, SigningAlgorithm)] =
    &[("ES256", SigningAlgorithm::Es256), ("HS256", SigningAlgorithm::Hs256)];

const POOL_MODES: &[(&str, PoolMode)] =
    &[("session", PoolMode::Session), ("transaction", PoolMode::Transaction)];

const LOG_FORMATS: &[(&str, LogFormat)] =
    &[("auto", LogFormat::Auto), ("json", LogFormat::Json), ("pretty", LogFormat::Pretty)];

/// Parses a field of [`RawSettings`]. A problem is reported under the name of the environment
/// variable, which is the field's name in upper case.
macro_rules! setting {
    ($checker:ident, $field:ident, $parse:expr) => {
        $checker.setting(&stringify!($field).to_uppercase(), &$checker.raw.$field, $parse)
    };
}

/// Builds a struct from fields that are `Result<_, Reported>`. Evaluates all of them before it
/// returns the first error, so that every problem is reported.
macro_rules! build {
    ($type:ident { $($field:ident $(: $value:expr)?),+ $(,)? }) => {{
        $($(let $field = $value;)?)+
        Ok($type { $($field: $field?),+ })
    }};
}

impl RawSettings {
    /// Returns the address at which the probes of an instance with these settings are reached from
    /// the same machine.
    ///
    /// # Errors
    /// Returns an error if an address is malformed.
    pub fn local_address(&self) -> Result<ListenAddress, ConfigError> {
        let mut checker = Checker::new(self);
        let public = checker.address();
        let management = setting!(checker, management_address, listen_address);
        let addresses = public.and_then(|public| Ok((public, management?)));
        let (public, management) = checker.finish(addresses)?;
        Ok(management.unwrap_or(public).from_this_machine())
    }

    /// Returns the address at which the public routes are reached from the same machine.
    ///
    /// # Errors
    /// Returns an error if the address is malformed.
    pub fn local_public_address(&self) -> Result<ListenAddress, ConfigError> {
        let mut checker = Checker::new(self);
        let public = checker.address();
        Ok(checker.finish(public)?.from_this_machine())
    }

    /// Checks the settings of the commands that work on the database without a running service.
    ///
    /// # Errors
    /// Returns all problems of these settings.
    pub fn check_for_management(&self) -> Result<ManagementConfig, ConfigError> {
        let mut checker = Checker::new(self);
        let config = checker.management_config();
        checker.finish(config)
    }

    /// Checks the settings of a copy of a database.
    ///
    /// # Errors
    /// Returns all problems of these settings.
    pub fn check_for_copy(&self, args: &CopyArgs) -> Result<CopyConfig, ConfigError> {
        let mut checker = Checker::new(self);
        let config = checker.copy_config(args);
        checker.finish(config)
    }

    /// Returns the files with secrets: those that variables name, and the `.env` file.
    ///
    /// # Errors
    /// Returns an error if a variable is not text.
    pub fn secret_files(&self) -> Result<Vec<SecretFile>, ConfigError> {
        let mut checker = Checker::new(self);
        let files = checker.secret_files();
        checker.finish(files)
    }

    /// Checks all settings.
    ///
    /// # Errors
    /// Returns all problems of the settings.
    pub fn check(&self) -> Result<Config, ConfigError> {
        let mut checker = Checker::new(self);
        let config = checker.config();
        checker.finish(config)
    }
}

/// Error of a setting whose problem is in [`Checker::problems`].
#[derive(Clone, Copy, Debug)]
struct Reported;

/// Checks settings and collects their problems.
struct Checker<'a> {
    raw: &'a RawSettings,
    problems: Vec<String>,
    warnings: Vec<Warning>,
}

impl<'a> Checker<'a> {
    fn new(raw: &'a RawSettings) -> Self {
        Self { raw, problems: Vec::new(), warnings: raw.warnings.clone() }
    }

    /// Returns the value, or all problems if there are any. Without the `.env` file, others would
    /// only be its consequences.
    fn finish<T>(self, value: Result<T, Reported>) -> Result<T, ConfigError> {
        match value {
            _ if !self.raw.env_problems.is_empty() => {
                Err(ConfigError(self.raw.env_problems.clone()))
            }
            Ok(value) if self.problems.is_empty() => Ok(value),
            _ => Err(ConfigError(self.problems)),
        }
    }

    fn config(&mut self) -> Result<Config, Reported> {
        let http = self.http();
        let database = self.database();
        let keys = self.keys(database.as_ref().ok());
        let public_url = setting!(self, public_url, public_url);
        let tokens = self.tokens(public_url.as_ref().ok());
        let revocations = self.revocations();
        if let (Ok(keys), Ok(revocations), Ok(tokens)) = (&keys, &revocations, &tokens) {
            self.check_rotation(keys, revocations, tokens);
        }
        let hashing = self.hashing();
        if let (Ok(http), Ok(hashing)) = (&http, &hashing)
            && hashing.max_wait >= http.request_timeout
        {
            let wait = human_duration(hashing.max_wait);
            let timeout = human_duration(http.request_timeout);
            let problem = format!("must be less than REQUEST_TIMEOUT ({timeout}), not {wait}");
            self.report("HASH_MAX_WAIT", &problem);
        }
        build!(Config {
            http,
            database,
            tokens,
            public_url,
            is_registration_open: setting!(
                self,
                registration,
                one_of(&[("open", true), ("closed", false)])
            ),
            keys,
            hashing,
            passwords: self.passwords(),
            throttle: self.throttle(),
            networks: self.networks(),
            revocations,
            audit_retention: setting!(self, audit_retention, positive_duration),
            deleted_account_retention: setting!(self, deleted_account_retention, duration),
            log: self.log(),
            warnings: Ok(mem::take(&mut self.warnings)),
        })
    }

    fn management_config(&mut self) -> Result<ManagementConfig, Reported> {
        let database = self.database();
        build!(ManagementConfig {
            kept_secret: self.kept_secret(database.as_ref().ok()),
            database,
            hashing: self.hashing(),
            passwords: self.passwords(),
            warnings: Ok(mem::take(&mut self.warnings)),
        })
    }

    fn copy_config(&mut self, args: &CopyArgs) -> Result<CopyConfig, Reported> {
        let from = match &args.from {
            Some(url) => self.copied_database("--from", url),
            None => self.database(),
        };
        build!(CopyConfig {
            kept_secret: self.kept_secret(from.as_ref().ok()),
            from,
            to: self.copied_database("--to", &args.to),
            warnings: Ok(mem::take(&mut self.warnings)),
        })
    }

    fn http(&mut self) -> Result<HttpSettings, Reported> {
        build!(HttpSettings {
            address: self.address(),
            management_address: setting!(self, management_address, listen_address),
            serves_docs: setting!(self, docs, one_of(&[("on", true), ("off", false)])),
            workers: setting!(self, http_workers, threads),
            trusted_proxies: setting!(self, trusted_proxies, networks),
            cors_allowed_origins: setting!(self, cors_allowed_origins, origins),
            max_connections: setting!(self, http_max_connections, count("connections")),
            max_connections_per_address: setting!(
                self,
                http_max_connections_per_address,
                count("connections")
            ),
            head_timeout: setting!(self, http_head_timeout, positive_duration),
            reply_timeout: setting!(self, http_reply_timeout, positive_duration),
            request_timeout: setting!(self, request_timeout, positive_duration),
            shutdown_drain: setting!(self, shutdown_drain, duration),
            shutdown_timeout: setting!(self, shutdown_timeout, duration),
        })
    }

    fn address(&mut self) -> Result<ListenAddress, Reported> {
        build!(ListenAddress { host: setting!(self, host, host), port: setting!(self, port, port) })
    }

    fn throttle(&mut self) -> Result<ThrottleSettings, Reported> {
        let free = setting!(self, login_free_failures, count("failures"))?;
        let max = setting!(self, login_max_failures, count("failures"))?;
        if max < free {
            let problem = format!("must be at least LOGIN_FREE_FAILURES ({free}), not {max}");
            return Err(self.report("LOGIN_MAX_FAILURES", &problem));
        }
        let max_in_session = setting!(self, session_max_failures, count("failures"))?;
        Ok(ThrottleSettings {
            login: FailureLimits { free, max },
            session: FailureLimits { free: free.min(max_in_session), max: max_in_session },
        })
    }

    fn database(&mut self) -> Result<DatabaseSettings, Reported> {
        build!(DatabaseSettings {
            database: self.database_location(),
            max_connections: setting!(
                self,
                database_max_connections,
                number(2..=u32::MAX, "connections")
            ),
            acquire_timeout: setting!(self, database_acquire_timeout, acquire_timeout),
        })
    }

    fn database_location(&mut self) -> Result<Database, Reported> {
        let url_from_file = self.secret_file("DATABASE_URL_FILE");
        let listen_url = self.listen_url();
        let pool_mode = setting!(self, database_pool_mode, one_of(POOL_MODES));

        let url = url_from_file?.unwrap_or_else(|| trimmed(&self.raw.database_url));
        let postgres = match self.parse_location("DATABASE_URL", url)? {
            Database::Postgres(postgres) => postgres,
            Database::Sqlite(path) => return Ok(Database::Sqlite(path)),
        };
        let pool_mode = pool_mode?;
        let listen_url = match listen_url? {
            // Notifications do not arrive through a pooler in transaction mode.
            None if pool_mode == PoolMode::Session => Some(postgres.url.clone()),
            listen_url => listen_url,
        };
        Ok(Database::Postgres(PostgresSettings { listen_url, pool_mode, ..postgres }))
    }

    /// Parses the URL of a database that is used without a pooler and without notifications.
    fn parse_location(&mut self, name: &str, url: Secret) -> Result<Database, Reported> {
        if let Some(path) = self.parse(name, url.expose(), sqlite_path)? {
            return Ok(Database::Sqlite(path));
        }
        self.check_escapes(name, url.expose())?;
        let pool_mode = PoolMode::Session;
        Ok(Database::Postgres(PostgresSettings { url, listen_url: None, pool_mode }))
    }

    /// Checks one end of a copy.
    fn copied_database(&mut self, name: &str, url: &Secret) -> Result<DatabaseSettings, Reported> {
        build!(DatabaseSettings {
            database: self.parse_location(name, trimmed(url)),
            max_connections: setting!(
                self,
                database_max_connections,
                number(2..=u32::MAX, "connections")
            ),
            acquire_timeout: setting!(self, database_acquire_timeout, acquire_timeout),
        })
    }

    fn listen_url(&mut self) -> Result<Option<Secret>, Reported> {
        let url = self.secret("DATABASE_LISTEN_URL")?.as_ref().map(trimmed);
        if url.as_ref().is_some_and(|url| !is_postgres(url.expose())) {
            let problem = "must be postgres://USER:PASSWORD@HOST/NAME";
            return Err(self.report("DATABASE_LISTEN_URL", problem));
        }
        if let Some(url) = &url {
            self.check_escapes("DATABASE_LISTEN_URL", url.expose())?;
        }
        Ok(url)
    }

    /// Checks the URL of a PostgreSQL server for parts of a password outside the place of the
    /// password, where they would be shown, as the name of the database for example.
    fn check_escapes(&mut self, variable: &str, url: &str) -> Result<(), Reported> {
        let parts = UrlParts::new(url);
        if parts.has_misplaced_password() {
            let problem = "has a misplaced @ or #: write @ as %40, / as %2F, ? as %3F, # as %23 \
                           and % as %25 in the username and the password";
            return Err(self.report(variable, problem));
        }
        if parts.has_unsupported_parameter() {
            // Without its name, which may be part of a password, too.
            let supported = URL_PARAMETERS.join(", ");
            self.warnings.push(Warning::Setting(format!(
                "{variable} has a parameter that is ignored; these are supported: {supported}"
            )));
        }
        Ok(())
    }

    fn keys(&mut self, database: Option<&DatabaseSettings>) -> Result<KeySettings, Reported> {
        build!(KeySettings {
            secret: self.secret_key_source(database),
            previous_secret: self.secret_key("JWT_SECRET_KEY_PREVIOUS"),
            algorithm: setting!(self, jwt_algorithm, one_of(ALGORITHMS)),
            jwks_max_age: setting!(self, jwks_max_age, positive_duration),
            rotation_interval: setting!(self, jwt_key_rotation_interval, duration_or_unlimited),
        })
    }

    fn check_rotation(
        &mut self,
        keys: &KeySettings,
        revocations: &RevocationSettings,
        tokens: &TokenSettings,
    ) {
        let periods =
            KeyPeriods::new(keys.jwks_max_age, revocations.max_staleness, tokens.lifetime);
        let shortest = periods.shortest_interval();
        if let Some(interval) = keys.rotation_interval.filter(|interval| *interval <= shortest) {
            let problem = format!(
                "must be more than {}, not {}: twice JWKS_MAX_AGE plus REVOCATION_MAX_STALENESS, in \
                 which a new key is published, and a fiftieth of the life of an access token, so \
                 that the keys of all tokens are few",
                human_duration(shortest),
                human_duration(interval)
            );
            self.report("JWT_KEY_ROTATION_INTERVAL", &problem);
        }
    }

    fn secret_key(&mut self, name: &str) -> Result<Option<SecretKey>, Reported> {
        let Some(secret) = self.secret(name)? else { return Ok(None) };
        let key = self.parse(name, secret.expose(), |text| {
            SecretKey::parse(text.as_bytes()).map_err(|error| error.to_string())
        })?;
        Ok(Some(key))
    }

    fn secret_key_source(
        &mut self,
        database: Option<&DatabaseSettings>,
    ) -> Result<SecretKeySource, Reported> {
        if let Some(key) = self.secret_key("JWT_SECRET_KEY")? {
            return Ok(SecretKeySource::Given(key));
        }
        match &database.ok_or(Reported)?.database {
            Database::Sqlite(path) => Ok(SecretKeySource::KeptIn(key_path(path))),
            Database::Postgres(_) => Err(self.report(
                "JWT_SECRET_KEY",
                "is needed with Postgres, the same on every instance: \
                 make one with `openssl rand -hex 32`",
            )),
        }
    }

    /// Returns the file beside an SQLite database that has its secret; `None` if the secret is given,
    /// or if there is no such file.
    fn kept_secret(
        &mut self,
        database: Option<&DatabaseSettings>,
    ) -> Result<Option<PathBuf>, Reported> {
        let is_given = self.secret("JWT_SECRET_KEY")?.is_some();
        Ok(match database.map(|settings| &settings.database) {
            Some(Database::Sqlite(path)) if !is_given => {
                Some(key_path(path)).filter(|key| key.exists())
            }
            _ => None,
        })
    }

    fn tokens(&mut self, public_url: Option<&Option<String>>) -> Result<TokenSettings, Reported> {
        let issuer = public_url.map(|url| url.as_deref().unwrap_or(SERVICE_NAME)).ok_or(Reported);
        build!(TokenSettings {
            audience: setting!(self, jwt_audience, audience).map(Audience::new),
            issuer: issuer.map(str::to_owned),
            lifetime: setting!(self, jwt_access_token_expires, positive_duration),
            session_lifetime: setting!(self, jwt_refresh_token_expires, positive_duration),
            session_idle_timeout: setting!(self, session_idle_timeout, duration_or_unlimited),
            sessions_per_user: setting!(self, sessions_per_user, count("sessions")),
            leeway: setting!(self, jwt_leeway, leeway),
            cache_size: setting!(self, token_cache_size, mebibytes),
        })
    }

    fn hashing(&mut self) -> Result<HashSettings, Reported> {
        build!(HashSettings {
            iterations: setting!(self, pbkdf2_iterations, iterations),
            threads: setting!(self, hash_threads, threads),
            max_wait: setting!(self, hash_max_wait, duration),
        })
    }

    fn passwords(&mut self) -> Result<PasswordPolicy, Reported> {
        let min_length = setting!(
            self,
            password_min_length,
            number(
                PasswordPolicy::LEAST_MIN_LENGTH..=PasswordPolicy::GREATEST_MIN_LENGTH,
                "characters"
            )
        );
        let mut blocklist = setting!(self, password_blocklist, blocklist)?;
        if let Some(blocklist) = &mut blocklist {
            blocklist.insert(SERVICE_NAME);
            // A malformed URL is reported where the service needs it.
            let url = public_url(&self.raw.public_url).ok().flatten();
            let url = url.and_then(|url| Url::parse(&url).ok());
            if let Some(host) = url.as_ref().and_then(Url::host_str) {
                blocklist.insert(host);
            }
        }
        Ok(PasswordPolicy::new(min_length?, blocklist))
    }

    fn networks(&mut self) -> Result<NetworkSettings, Reported> {
        build!(NetworkSettings {
            failed_names: self.failed_names(),
            registrations: self.registrations(),
        })
    }

    fn failed_names(&mut self) -> Result<Option<Rate>, Reported> {
        let rate: Result<_, Reported> = build!(Rate {
            burst: setting!(self, login_network_burst, number(0..=MAX_FAILED_NAMES, "names")),
            interval: setting!(self, login_network_interval, positive_duration),
        });
        rate.map(Rate::unless_zero)
    }

    fn registrations(&mut self) -> Result<Option<Rate>, Reported> {
        let rate: Result<_, Reported> = build!(Rate {
            burst: setting!(
                self,
                registration_network_burst,
                number(0..=u32::MAX, "registrations")
            ),
            interval: setting!(self, registration_network_interval, positive_duration),
        });
        rate.map(Rate::unless_zero)
    }

    fn revocations(&mut self) -> Result<RevocationSettings, Reported> {
        let max_staleness = setting!(self, revocation_max_staleness, positive_duration);
        let poll_interval = setting!(self, revocation_poll_interval, positive_duration);
        if let (Ok(poll_interval), Ok(max_staleness)) = (poll_interval, max_staleness)
            && poll_interval >= max_staleness
        {
            let (interval, bound) = (human_duration(poll_interval), human_duration(max_staleness));
            let problem = format!(
                "must be less than REVOCATION_MAX_STALENESS ({bound}), not {interval}: a third of \
                 it, say"
            );
            self.report("REVOCATION_POLL_INTERVAL", &problem);
        }
        build!(RevocationSettings {
            capacity: setting!(self, revocation_capacity, count("revocations")).map(u64::from),
            sweep_interval: setting!(self, revocation_sweep_interval, positive_duration),
            max_staleness,
            poll_interval,
            receiver_rate: Ok(RevocationSettings::RECEIVER_RATE),
        })
    }

    fn log(&mut self) -> Result<LogSettings, Reported> {
        build!(LogSettings {
            format: setting!(self, log_format, one_of(LOG_FORMATS)),
            filter: setting!(self, rust_log, log_filter),
        })
    }

    fn secret_files(&mut self) -> Result<Vec<SecretFile>, Reported> {
        let mut files = Vec::from_iter(self.raw.env_file_with_secrets());
        for name in VARIABLES.iter().filter(|name| name.ends_with("_FILE")) {
            if let Some(path) = self.variable(name)? {
                files.push(SecretFile { name: (*name).to_owned(), path: path.expose().into() });
            }
        }
        Ok(files)
    }

    /// Reads a secret from the file that the variable `{name}_FILE` names or, if that is not set,
    /// from the variable `name`.
    fn secret(&mut self, name: &str) -> Result<Option<Secret>, Reported> {
        match self.secret_file(&format!("{name}_FILE"))? {
            Some(secret) => Ok(Some(secret)),
            None => self.variable(name),
        }
    }

    /// Reads the file that a variable names. Warns if other users can read it, too.
    fn secret_file(&mut self, name: &str) -> Result<Option<Secret>, Reported> {
        let Some(path) = self.variable(name)? else { return Ok(None) };
        let read = || {
            let content = Secret::new(fs::read_to_string(path.expose())?);
            Ok::<_, io::Error>((content, fs::metadata(path.expose())?))
        };
        let (content, metadata) = read().map_err(|error| {
            self.report(name, &format!("names a file that cannot be read: {error}"))
        })?;
        if content.expose().contains('\0') {
            return Err(self.report(name, "names a file that contains the character NUL"));
        }
        if is_readable_by_others(&metadata) {
            let warning = "names a file that other users of this machine can read";
            self.warnings.push(Warning::ReadableSecret(format!("{name} {warning}")));
        }
        Ok(Some(Secret::new(content.expose().trim().to_owned())))
    }

    /// Reads a variable that is not an option of the command line, from the environment or else
    /// from the `.env` file. An empty one counts as unset: `.env.example` contains such lines.
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    fn variable(&mut self, name: &str) -> Result<Option<Secret>, Reported> {
        match std::env::var(name) {
            Ok(value) if value.is_empty() => Ok(None),
            Ok(value) => Ok(Some(Secret::new(value))),
            Err(VarError::NotPresent) => Ok(self.raw.env_file.get(name).cloned()),
            Err(VarError::NotUnicode(_)) => Err(self.report(name, "must be text in UTF-8")),
        }
    }

    /// Parses a setting. A problem names the default, as an example of a value.
    fn setting<T>(
        &mut self,
        variable: &str,
        raw: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Reported> {
        self.parse(variable, raw, |raw| {
            parse(raw).map_err(|problem| match default_of(variable) {
                Some(default) => format!("{problem} (default: {default})"),
                None => problem,
            })
        })
    }

    fn parse<T>(
        &mut self,
        variable: &str,
        raw: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Reported> {
        parse(raw).map_err(|problem| self.report(variable, &problem))
    }

    fn report(&mut self, variable: &str, problem: &str) -> Reported {
        self.problems.push(format!("{variable} {problem}"));
        Reported
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use clap::Parser;

    use super::super::cli::Cli;
    use super::*;

    fn check(arguments: &[&str]) -> Result<Config, ConfigError> {
        let arguments = [&["portcullis"], arguments].concat();
        Cli::try_parse_from(arguments).unwrap().settings.check()
    }

    fn listen(host: &str, port: u16) -> ListenAddress {
        ListenAddress { host: host.to_owned(), port }
    }

    #[test]
    fn defaults_are_sqlite_and_a_key_beside_it() {
        let config = check(&[]).unwrap();

        assert_eq!(config.http.address, listen("127.0.0.1", 5000));
        assert_eq!(config.http.management_address, None);
        assert!(config.is_registration_open && config.http.serves_docs);
        assert_eq!(config.hashing.iterations.get(), 600_000);
        assert_eq!(config.tokens.lifetime, Duration::from_hours(1));
        let Database::Sqlite(path) = config.database.database else { panic!("not SQLite") };
        assert_eq!(path, PathBuf::from("data/portcullis.db"));
        let SecretKeySource::KeptIn(path) = config.keys.secret else { panic!("given") };
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
            "--jwt-leeway=61",
        ]);

        let expected = [
            "PORT must be a port from 0 to 65535, not `http` (default: 5000)",
            "REQUEST_TIMEOUT must be a duration from 1s to 49710d in whole seconds, minutes, hours \
             or days, not `0` (default: 10s)",
            "JWT_SECRET_KEY is needed with Postgres, the same on every instance: \
             make one with `openssl rand -hex 32`",
            "JWT_LEEWAY must be a duration from 0 to 1m in whole seconds, minutes, hours or days, \
             not `61` (default: 5s)",
            "PBKDF2_ITERATIONS must be a whole number of iterations from 100000 to 5000000, not \
             `1000` (default: 600000)",
            "HASH_THREADS must be a whole number of threads from 0 to 1024, not `9999` (default: 0)",
            "LOG_FORMAT must be auto, json or pretty, not `xml` (default: auto)",
        ];
        assert_eq!(problems.unwrap_err(), ConfigError(expected.map(str::to_owned).to_vec()));
    }

    #[test]
    fn poll_interval_must_be_below_the_staleness_bound() {
        assert!(check(&["--revocation-poll-interval=4"]).is_ok());
        let problem = check(&["--revocation-poll-interval=5"]).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "REVOCATION_POLL_INTERVAL must be less than REVOCATION_MAX_STALENESS (5s), not 5s: a \
             third of it, say"
        );
    }

    #[test]
    fn rotation_must_leave_time_for_publication_and_for_tokens() {
        let shortest = |lifetime: &str, interval: &str| {
            let error = check(&[
                "--jwt-access-token-expires",
                lifetime,
                "--jwt-key-rotation-interval",
                interval,
            ]);
            error.err().map(|error| error.0[0].split(',').next().unwrap().to_owned())
        };
        let name = "JWT_KEY_ROTATION_INTERVAL";

        assert_eq!(shortest("3600", "605"), Some(format!("{name} must be more than 605s")));
        assert_eq!(shortest("3600", "606"), None);
        let month = "2592000";
        assert_eq!(shortest(month, "3600"), Some(format!("{name} must be more than 51871s")));
        assert_eq!(shortest(month, "86400"), None);
        assert_eq!(shortest(month, "0"), None);
    }

    #[test]
    fn token_cache_size_is_given_in_mebibytes() {
        let size = |argument| check(&[argument]).map(|config| config.tokens.cache_size);

        assert_eq!(size("--token-cache-size=2"), Ok(2 * 1024 * 1024));
        assert_eq!(size("--token-cache-size=0"), Ok(0));
        assert!(size("--token-cache-size=65536").is_err());
    }

    #[test]
    fn hash_wait_must_be_below_the_request_timeout() {
        assert!(check(&["--hash-max-wait=9"]).is_ok());
        let problem = check(&["--hash-max-wait=10"]).unwrap_err();
        assert_eq!(
            problem.to_string(),
            "HASH_MAX_WAIT must be less than REQUEST_TIMEOUT (10s), not 10s"
        );
    }

    #[test]
    fn password_settings_are_bounded() {
        let problem = |arguments: &[&str]| check(arguments).err().map(|error| error.to_string());

        assert_eq!(problem(&["--password-min-length=64", "--password-blocklist=common"]), None);
        for length in ["7", "65"] {
            let argument = format!("--password-min-length={length}");
            let expected = format!(
                "PASSWORD_MIN_LENGTH must be a whole number of characters from 8 to 64, not \
                 `{length}` (default: 8)"
            );
            assert_eq!(problem(&[&argument]), Some(expected));
        }
        let expected = "PASSWORD_BLOCKLIST names `/dev/null`, a file without words (default: none)";
        assert_eq!(problem(&["--password-blocklist=/dev/null"]).as_deref(), Some(expected));
        let unreadable = problem(&["--password-blocklist=Common"]).unwrap();
        let expected =
            "PASSWORD_BLOCKLIST must be none, common or a file of words: `Common` cannot be read: ";
        assert!(unreadable.starts_with(expected), "{unreadable}");
    }

    #[test]
    fn names_of_the_service_are_refused_with_a_blocklist() {
        let url = "--public-url=https://Auth.example.com:8443/login";
        let is_accepted = |blocklist, password| {
            check(&[url, blocklist]).unwrap().passwords.parse(password).is_ok()
        };

        for name in ["portcullis", "auth.example.com"] {
            assert!(!is_accepted("--password-blocklist=common", name), "{name}");
            assert!(is_accepted("--password-blocklist=none", name), "{name}");
        }
    }

    #[test]
    fn limits_of_networks_can_be_switched_off() {
        let networks = |arguments: &[&str]| check(arguments).map(|config| config.networks);
        let burst = |rate: Option<Rate>| rate.map(|rate| (rate.burst, rate.interval.as_secs()));

        let defaults = networks(&[]).unwrap();
        assert_eq!(burst(defaults.failed_names), Some((20, 10)));
        assert_eq!(burst(defaults.registrations), Some((10, 60)));
        let off = networks(&["--login-network-burst=0", "--registration-network-burst=0"]).unwrap();
        assert!(off.failed_names.is_none() && off.registrations.is_none());
        assert!(networks(&["--login-network-burst=1001"]).is_err());
        assert!(networks(&["--registration-network-interval=0"]).is_err());
    }

    #[test]
    fn refused_database_url_is_not_repeated() {
        let problem = check(&["--database-url=mysql://root:hunter2@localhost"]).unwrap_err();

        assert!(problem.to_string().starts_with("DATABASE_URL must be"), "{problem}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }

    #[test]
    fn password_that_is_not_escaped_is_refused_and_not_shown() {
        for password in ["hun/ter2", "1/hunter2", "1?hunter2", "1?hun=ter2", "hun#ter2", "x@y/ter2"]
        {
            let url = format!("--database-url=postgres://portcullis:{password}@localhost/db");
            let problem = check(&[&url]).unwrap_err().to_string();
            let line =
                problem.lines().find(|line| line.starts_with("DATABASE_URL has a misplaced"));
            assert!(line.is_some(), "{password}: {problem}");
            assert!(!problem.contains("ter2"), "{password}: {problem}");
        }
        for url in [
            "postgres://u:a%2Fb%40c@localhost/db",
            "postgres://u:a@b@localhost:5432/db?sslmode=require",
            "postgres://localhost/db?user=me@server&password=x",
            "postgres://[::1]:5432/my%40db",
            "postgres:///db?host=/run/postgresql",
        ] {
            let problem = check(&[&format!("--database-url={url}")]).unwrap_err().to_string();
            assert!(problem.starts_with("JWT_SECRET_KEY is needed"), "{url}: {problem}");
            assert_eq!(problem.lines().count(), 1, "{url}: {problem}");
        }
    }

    #[test]
    fn ignored_parameter_causes_a_warning_without_its_value() {
        let url = "--database-url=postgres://u:p@localhost/db?sslpassword=hunter2&sslmode=require";
        let arguments = ["portcullis", url];
        let settings = Cli::try_parse_from(arguments).unwrap().settings;

        let warnings = settings.check_for_management().unwrap().warnings;
        let [Warning::Setting(warnings)] = warnings.as_slice() else { panic!("{warnings:?}") };

        assert!(warnings.starts_with("DATABASE_URL has a parameter that is ignored"), "{warnings}");
        assert!(!warnings.contains("hunter2"), "{warnings}");
    }

    #[test]
    fn mapped_networks_are_those_of_ipv4() {
        let proxies =
            "::ffff:10.0.0.0/104, ::ffff:192.0.2.1, ::ffff:0:0/96, 2001:db8::/32, 127.0.0.1";
        let config = check(&["--trusted-proxies", proxies]).unwrap();

        let expected = ["10.0.0.0/8", "192.0.2.1/32", "0.0.0.0/0", "2001:db8::/32", "127.0.0.1/32"];
        let networks: Vec<_> =
            config.http.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(networks, expected);
    }

    #[test]
    fn allowed_origins_are_those_that_browsers_send() {
        let origins = |value| check(&["--cors-allowed-origins", value]);

        let config = origins("https://app.example.com, http://[::1]:8080,capacitor://localhost,");
        let expected = ["https://app.example.com", "http://[::1]:8080", "capacitor://localhost"];
        assert_eq!(config.unwrap().http.cors_allowed_origins, expected);
        assert!(check(&[]).unwrap().http.cors_allowed_origins.is_empty());
        for refused in [
            "*",
            "null",
            "app.example.com",
            "https://*.example.com",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://app.example.com:443",
            "https://App.example.com",
            "https://user@app.example.com",
            "https://bücher.example",
            "https://",
            "file://",
        ] {
            let expected = format!(
                "CORS_ALLOWED_ORIGINS must be origins as browsers send them, like \
                 https://app.example.com, not `{refused}`"
            );
            assert_eq!(origins(refused).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn white_space_around_urls_is_ignored() {
        let config = check(&["--database-url= sqlite://data/a.db\n"]).unwrap();
        let Database::Sqlite(path) = config.database.database else { panic!("not SQLite") };
        assert_eq!(path, PathBuf::from("data/a.db"));
    }

    #[test]
    fn databases_in_one_folder_have_different_keys() {
        let folder = tempfile::tempdir().unwrap();
        let key_of = |name: &str| {
            let url = format!("--database-url=sqlite://{}/{name}", folder.path().display());
            let SecretKeySource::KeptIn(path) = check(&[&url]).unwrap().keys.secret else {
                panic!("given")
            };
            path.file_name().unwrap().to_str().unwrap().to_owned()
        };
        let create = |name: &str| fs::write(folder.path().join(name), "").unwrap();
        let names = ["a.db", "a.sqlite", "a.sqlite3", "a", "a.key"];
        let keys = ["a.key", "a.sqlite-key", "a.sqlite3-key", "a-key", "a.key-key"];
        assert_eq!(names.map(key_of), keys);

        for name in ["a.sqlite", "a.key"] {
            create(name);
        }
        assert_eq!(key_of("a.sqlite"), "a.key", "an older database keeps its key");
        assert_eq!(key_of("a.key"), "a.key-key", "a database is not a key");
        create("a.db");
        assert_eq!(key_of("a.sqlite"), "a.sqlite-key", "the key belongs to `a.db`");
    }

    #[test]
    fn debug_hides_passwords() {
        let url = Secret::new("postgres://portcullis:hunter2@localhost/portcullis".to_owned());
        assert_eq!(format!("{url:?}"), "Secret(..)");
        let cli = Cli::try_parse_from(["portcullis", "--database-url=postgres://a:hunter2@b/c"]);
        assert!(!format!("{:?}", cli.unwrap()).contains("hunter2"));
    }

    #[test]
    fn local_address_of_an_unspecified_host_is_loopback() {
        for (host, local) in [
            ("0.0.0.0", "127.0.0.1"),
            ("::", "::1"),
            ("[::]", "::1"),
            ("[fe80::1]", "fe80::1"),
            ("10.1.2.3", "10.1.2.3"),
        ] {
            let cli = Cli::try_parse_from(["portcullis", "healthcheck", "--host", host]).unwrap();
            assert_eq!(cli.settings.local_address().unwrap(), listen(local, 5000));
        }
    }

    #[test]
    fn local_address_is_that_of_the_management_listener() {
        for (address, local) in [
            ("0.0.0.0:5001", listen("127.0.0.1", 5001)),
            ("[::]:5001", listen("::1", 5001)),
            ("[fe80::1]:5001", listen("fe80::1", 5001)),
            ("", listen("127.0.0.1", 5000)),
        ] {
            let arguments = ["portcullis", "healthcheck", "--management-address", address];
            let cli = Cli::try_parse_from(arguments).unwrap();
            assert_eq!(cli.settings.local_address().unwrap(), local);
        }
    }

    #[test]
    fn management_address_is_a_host_and_a_port() {
        let parse = |address| check(&["--management-address", address]);
        let address = |text| parse(text).unwrap().http.management_address.unwrap();

        assert_eq!(address("10.0.0.1:9000"), listen("10.0.0.1", 9000));
        assert_eq!(address("[::1]:0"), listen("::1", 0));
        assert_eq!(address("localhost:9000"), listen("localhost", 9000));
        for refused in ["9000", ":9000", "10.0.0.1", "10.0.0.1:", "::1:9000", "[]:1", "a:65536"] {
            let expected = format!(
                "MANAGEMENT_ADDRESS must look like 127.0.0.1:5001 or [::1]:5001, not `{refused}`"
            );
            assert_eq!(parse(refused).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn refused_url_does_not_show_a_password() {
        let problem = check(&["--public-url=http://user:hunter2@a.example"]).unwrap_err();
        let expected = "PUBLIC_URL must look like https://auth.example.com, without @";
        assert!(problem.to_string().starts_with(expected), "{problem}");
    }

    #[test]
    fn wait_for_a_connection_is_one_that_sqlite_can_count() {
        assert!(check(&["--database-acquire-timeout=1h"]).is_ok());
        assert!(check(&["--database-acquire-timeout=25d"]).is_err());
    }

    #[test]
    fn durations_have_a_unit_or_are_in_seconds() {
        let retention = |value: &str| {
            let config = check(&[&format!("--audit-retention={value}")]);
            config.map(|config| human_duration(config.audit_retention))
        };

        for (value, expected) in [
            ("90", "90s"),
            ("90s", "90s"),
            ("3600", "1h"),
            (" 15m ", "15m"),
            ("2h", "2h"),
            ("24h", "1d"),
            ("49710d", "49710d"),
        ] {
            assert_eq!(retention(value).as_deref(), Ok(expected), "{value}");
        }
        for refused in ["0", "0d", "-1", "+5", "1.5h", "1 h", "1h30m", "10ms", "1H", "h", "49711d"]
        {
            let problem = retention(refused).unwrap_err().to_string();
            let expected = format!(
                "AUDIT_RETENTION must be a duration from 1s to 49710d in whole seconds, \
                 minutes, hours or days, not `{refused}` (default: 365d)"
            );
            assert_eq!(problem, expected);
        }
        let most = "99999999999999999999d";
        assert!(retention(most).is_err(), "{most} overflows");
    }

    #[test]
    fn misspelt_word_is_refused_with_the_right_one() {
        for (argument, expected) in [
            (
                "--jwt-algorithm=ES265",
                "JWT_ALGORITHM must be ES256 or HS256, not `ES265`; did you mean ES256? (default: ES256)",
            ),
            (
                "--database-pool-mode=transactions",
                "DATABASE_POOL_MODE must be session or transaction, not `transactions`; did you \
                 mean transaction? (default: session)",
            ),
            ("--docs=no", "DOCS must be on or off, not `no` (default: on)"),
        ] {
            assert_eq!(check(&[argument]).unwrap_err().to_string(), expected);
        }
        assert!(check(&["--jwt-algorithm=es256"]).is_ok());
    }

    #[test]
    fn login_limit_is_at_least_the_free_failures() {
        let problem = check(&["--login-max-failures=4"]).unwrap_err();
        let expected = "LOGIN_MAX_FAILURES must be at least LOGIN_FREE_FAILURES (5), not 4";
        assert_eq!(problem.to_string(), expected);
    }

    #[test]
    fn switches_take_one_of_two_words() {
        let config = check(&["--registration=Closed", "--docs=OFF"]).unwrap();
        assert!(!config.is_registration_open && !config.http.serves_docs);

        let problems = check(&["--registration=no", "--docs=false"]).unwrap_err();
        let expected = [
            "DOCS must be on or off, not `false` (default: on)",
            "REGISTRATION must be open or closed, not `no` (default: open)",
        ];
        assert_eq!(problems.0, expected);
    }
}
