//! What is remembered: accounts, sessions, revocations and the audit log. All SQL lives below this module, in two dialects
//! that pass one contract suite (`tests/api/store`).

mod change;
mod feed;
mod pages;
mod postgres;
mod sqlite;

use std::collections::{HashMap, HashSet};
use std::error::Error as StdError;
use std::net::AddrParseError;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Pool, SqlSafeStr};
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::config::{Database, DatabaseSettings};
use crate::domain::{
    AuditAction, AuditRecord, Client, Generation, Label, PasswordHash, PasswordHashError,
    Revocation, RevocationId, Roles, Session, SessionId, User, UserAgent, UserId, UserVersion,
    Username,
};

use change::Decision;
pub use change::{ChangeUserError, Changed, UserChange};
pub use feed::{Entry, Feed, Listener, News};
pub use pages::{AuditEntry, AuditPage, UserPage};
use postgres::PostgresStore;
#[cfg(test)]
pub(crate) use postgres::Snapshot;
use sqlite::SqliteStore;

/// Most sessions of an account that are listed.
const SESSIONS_LISTED: u32 = 1_000;

/// An account with what proves who owns it.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The account.
    pub user: User,
    /// The hash of its password.
    pub password_hash: PasswordHash,
}

/// What an exchange of a refresh token has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Whose session it is, as the account is now.
    pub user: User,
    /// When the session ends.
    pub expires_at: OffsetDateTime,
    /// The generation that the session is in now.
    pub generation: Generation,
    /// For how long it has been.
    pub age: Duration,
}

/// The sessions that were ended together.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Which they were, and until when they are revoked.
    pub revocations: Vec<Revocation>,
    /// When that was, by the clock of the database.
    pub ended_at: OffsetDateTime,
}

/// The state of a connection pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolStatus {
    /// Open connections that wait for work.
    pub idle: u32,
    /// Open connections that are at work.
    pub in_use: u32,
    /// Most connections that may be open.
    pub max: u32,
}

/// A database of record. Every write is durable when its future returns `Ok`.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Finds out whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Adds an account, if the session of whoever wants it is open still, and says so in the audit
    /// log.
    async fn insert_user(
        &self,
        new: &Credentials,
        record: &AuditRecord,
    ) -> Result<(), InsertUserError>;

    /// Finds the account that bears a username, in whatever case.
    async fn find_credentials(
        &self,
        username: &Username,
    ) -> Result<Option<Credentials>, StoreError>;

    /// Finds an account.
    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError>;

    /// Lists accounts, in the order of their usernames.
    async fn list_users(&self, page: &UserPage) -> Result<Vec<User>, StoreError>;

    /// Replaces a password hash unless it has changed meanwhile; tells whether it did replace it.
    async fn replace_password_hash(
        &self,
        id: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError>;

    /// Changes an account, if the session of whoever wants it is open still, ends its sessions, and
    /// says so in the audit log, all in one commit. What changes nothing ends nothing.
    async fn change_user(&self, change: &UserChange) -> Result<Changed, ChangeUserError>;

    /// Adds a session, in its first generation, of an account that is still the given version of
    /// itself, and says so in the audit log; tells whether it is.
    async fn insert_session(
        &self,
        new: &Session,
        version: UserVersion,
        record: &AuditRecord,
    ) -> Result<bool, StoreError>;

    /// Finds a session, whether it has ended by itself or not.
    async fn find_session(&self, id: SessionId) -> Result<Option<Session>, StoreError>;

    /// Moves sessions on to their next generations where they are in those that were presented, in one
    /// commit, and finds out in which they are then. It finds none that does not live on at `now`; one
    /// that was last used before `used_since` does not. An account that cannot be read fails its own
    /// sessions alone, which have moved on all the same.
    async fn rotate_sessions(
        &self,
        presented: &HashMap<SessionId, Generation>,
        now: OffsetDateTime,
        used_since: Option<OffsetDateTime>,
    ) -> Result<HashMap<SessionId, Result<Rotation, StoreError>>, StoreError>;

    /// Lists the sessions of a user that live on at a time, the latest used first, at most 1,000.
    async fn sessions_of(
        &self,
        user: UserId,
        now: OffsetDateTime,
    ) -> Result<Vec<Session>, StoreError>;

    /// Deletes at most `limit` sessions that ended by themselves before `now`; returns how many.
    async fn sweep_sessions(&self, now: OffsetDateTime, limit: u32) -> Result<u64, StoreError>;

    /// Adds revocations, all or none, in one commit, and with it ends the sessions that bear their
    /// ids and adds to the audit log. One that is there already is left as it is. Returns the time by
    /// the clock of the database.
    async fn revoke(
        &self,
        revocations: &[Revocation],
        records: &[AuditRecord],
    ) -> Result<OffsetDateTime, StoreError>;

    /// Returns those of the ids that are revoked.
    async fn revoked_among(
        &self,
        ids: &[RevocationId],
    ) -> Result<HashSet<RevocationId>, StoreError>;

    /// Makes a reader of the revocations that has read nothing yet.
    fn feed(&self) -> Box<dyn Feed>;

    /// Makes a listener for changes to the revocations, where the database can tell of them.
    fn listener(&self) -> Option<Box<dyn Listener>>;

    /// Deletes at most `limit` revocations whose retention is over, both at `now` and by the clock
    /// of the database: a single wrong clock deletes nothing. Returns how many.
    async fn sweep_revocations(&self, now: OffsetDateTime, limit: u32) -> Result<u64, StoreError>;

    /// Reads the audit log, the latest record first.
    async fn audit(&self, page: &AuditPage) -> Result<Vec<AuditEntry>, StoreError>;

    /// Deletes at most `limit` audit records that are older than a retention, both at `now` and by the
    /// clock of the database: a single wrong clock deletes nothing. Returns how many.
    async fn sweep_audit(
        &self,
        now: OffsetDateTime,
        retention: Duration,
        limit: u32,
    ) -> Result<u64, StoreError>;

    /// Returns how many connections there are.
    fn pool_status(&self) -> PoolStatus;

    /// Closes every connection, once the work under way on it is done.
    async fn close(&self);
}

/// Why the database did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot be reached, is full, busy or read-only: worth another try later.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// It said nothing for too long.
    #[error("the database has not answered for {0:?}")]
    Silent(Duration),
    /// It is a replica, which may lag and takes no writes.
    #[error("the database is a replica: DATABASE_URL has to lead to the primary")]
    Replica,
    /// It refused the statement.
    #[error("the database refused a statement")]
    Refused(#[source] sqlx::Error),
    /// It holds a value that is none of ours.
    #[error("the database holds an invalid {table}.{column}")]
    Inconsistent {
        /// The table of the value.
        table: &'static str,
        /// The column of the value.
        column: &'static str,
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// Why an account was not added.
#[derive(Debug, Error)]
pub enum InsertUserError {
    /// Another account bears the username.
    #[error("the username is taken")]
    UsernameTaken,
    /// The session of whoever wanted it has ended.
    #[error("the session of the initiator is over")]
    InitiatorOut,
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the database could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// There is no connection to be had.
    #[error("cannot open the database {database}")]
    Connect {
        /// Which database, without its password.
        database: String,
        /// What went wrong.
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error("cannot bring the schema of the database up to date")]
    Migrate(#[from] MigrateError),
}

/// Opens the database, creating an embedded one where there is none, and brings its schema up to
/// date, under a lock: several instances may do it at once.
///
/// # Errors
/// When it cannot be reached within the acquire timeout, or its schema is not one of ours.
pub async fn open(settings: &DatabaseSettings) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match &settings.database {
        Database::Postgres(postgres) => Arc::new(PostgresStore::open(postgres, settings).await?),
        Database::Sqlite(path) => Arc::new(SqliteStore::open(path, settings).await?),
    })
}

/// Puts together the migrations of one dialect, embedded in the binary.
fn migrator(scripts: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations = scripts.iter().map(|&(version, description, sql)| {
        let (description, sql) = (description.into(), sql.into_sql_str());
        Migration::new(version, description, MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// Parses the columns of an account.
fn user<'a>(
    id: Uuid,
    username: &str,
    roles: impl IntoIterator<Item = &'a str>,
    created_at: OffsetDateTime,
    disabled_at: Option<OffsetDateTime>,
    version: i64,
) -> Result<User, StoreError> {
    let username = Username::parse(username)
        .map_err(|error| StoreError::inconsistent("users", "username", error))?;
    let roles =
        Roles::parse(roles).map_err(|error| StoreError::inconsistent("users", "roles", error))?;
    let version = u64::try_from(version)
        .map_err(|error| StoreError::inconsistent("users", "version", error))?;
    let (id, version) = (id.into(), version.into());
    Ok(User { id, username, roles, created_at, disabled_at, version })
}

fn password_hash(text: &str) -> Result<PasswordHash, StoreError> {
    text.parse().map_err(|error: PasswordHashError| {
        StoreError::inconsistent("users", "password_hash", error)
    })
}

fn client(table: &'static str, address: &str, user_agent: &str) -> Result<Client, StoreError> {
    let address = address
        .parse()
        .map_err(|error: AddrParseError| StoreError::inconsistent(table, "address", error))?;
    Ok(Client { address, user_agent: UserAgent::clean(user_agent) })
}

fn action(name: &str) -> Result<AuditAction, StoreError> {
    let unknown = || StoreError::inconsistent("audit_log", "action", format!("`{name}`"));
    AuditAction::find(name).ok_or_else(unknown)
}

fn generation(number: i64) -> Result<Generation, StoreError> {
    u64::try_from(number)
        .map(Generation::from)
        .map_err(|error| StoreError::inconsistent("sessions", "generation", error))
}

/// Returns a number as the databases keep it.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads how long ago something was, which clocks that were set may make negative.
fn age(micros: i64) -> Duration {
    Duration::from_micros(micros.try_into().unwrap_or(0))
}

/// Parses a time that is kept, or sent, in microseconds since the Unix epoch.
fn from_micros(
    table: &'static str,
    column: &'static str,
    micros: i64,
) -> Result<OffsetDateTime, StoreError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
        .map_err(|error| StoreError::inconsistent(table, column, error))
}

impl PoolStatus {
    fn of<DB: sqlx::Database>(pool: &Pool<DB>) -> Self {
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        let max = pool.options().get_max_connections();
        Self { idle, in_use: pool.size().saturating_sub(idle), max }
    }
}

impl StoreError {
    /// Tells whether it is worth another try later.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Silent(_) | Self::Replica)
    }

    fn inconsistent(
        table: &'static str,
        column: &'static str,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::Inconsistent { table, column, source: source.into() }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        let passes = match &error {
            E::Database(refusal) => {
                postgres::is_passing(refusal.as_ref()) || sqlite::is_passing(refusal.as_ref())
            }
            E::Io(_)
            | E::Tls(_)
            | E::Protocol(_)
            | E::PoolTimedOut
            | E::PoolClosed
            | E::WorkerCrashed => true,
            _ => false,
        };
        if passes { Self::Unavailable(error) } else { Self::Refused(error) }
    }
}
