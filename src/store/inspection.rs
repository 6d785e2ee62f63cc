//! Facts about the database for `portcullis doctor`: their trait and their types. Nothing is written.

use async_trait::async_trait;
use time::OffsetDateTime;

use super::error::{OpenFailure, StoreError};

/// Inspection of the database.
#[async_trait]
pub trait InspectionStore {
    /// Checks that the schema is the one of this program.
    async fn check_schema(&self) -> Result<(), OpenFailure>;

    /// Reads the facts about the server or the file. They need no schema.
    async fn inspect(&self) -> Result<DatabaseFacts, StoreError>;

    /// Returns the time by the clock of the database.
    async fn database_time(&self) -> Result<OffsetDateTime, StoreError>;

    /// Reads the settings that the latest start of an instance has stored.
    async fn shared_settings(&self) -> Result<SharedSettings, StoreError>;

    /// Counts accounts.
    async fn account_facts(&self) -> Result<AccountFacts, StoreError>;
}

/// Facts about the server or the file.
#[derive(Clone, Debug)]
pub enum DatabaseFacts {
    Postgres(Box<PostgresFacts>),
    Sqlite(Integrity),
}

impl DatabaseFacts {
    /// Returns `true` if the service can create or migrate the schema at its start.
    #[must_use]
    pub fn can_migrate(&self) -> bool {
        match self {
            Self::Postgres(facts) if facts.role.has_tables => facts.role.owns_tables,
            Self::Postgres(facts) => facts.role.may_create_tables,
            Self::Sqlite(_) => true,
        }
    }
}

/// Facts about a PostgreSQL server, as the role of the service sees them.
#[derive(Clone, Debug)]
pub struct PostgresFacts {
    /// Version, such as `17.5`.
    pub version: String,
    /// Major version.
    pub major_version: i32,
    pub encoding: String,
    /// The server is a replica.
    pub is_replica: bool,
    /// `default_transaction_read_only`.
    pub is_read_only: bool,
    pub synchronous_commit: String,
    pub fsync: String,
    pub full_page_writes: String,
    /// `default_transaction_isolation`.
    pub isolation: String,
    /// Number of standbys that commits do not wait for; 0 if the role must not see them.
    pub asynchronous_standbys: i64,
    /// Number of standbys that commits wait for; 0 if the role must not see them.
    pub synchronous_standbys: i64,
    pub connection: ConnectionFacts,
    pub limits: ServerLimits,
    pub role: RoleFacts,
}

/// Facts about the connections to a PostgreSQL server.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// The connections go to this machine, to a server or a pooler.
    pub is_local: bool,
    /// A connection without encryption is refused (`sslmode`).
    pub requires_encryption: bool,
    /// The certificate of the server is verified (`sslmode`).
    pub verifies_certificate: bool,
    /// Two open connections had the same server connection, as behind a pooler in transaction mode.
    pub shares_connections: Result<bool, StoreError>,
    pub listener: ListenerState,
}

/// State of the connection that receives notifications.
#[derive(Clone, Debug)]
pub enum ListenerState {
    /// None is configured, so revocations are polled.
    Off,
    Connects,
    Fails(StoreError),
}

/// Limits of the connections to a PostgreSQL server.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections of the server, without those that are reserved.
    pub server: i64,
    /// Connections of the database; `None` for no limit.
    pub database: Option<i64>,
    /// Connections of the role; `None` for no limit.
    pub role: Option<i64>,
}

/// Rights of the role of the service.
#[derive(Clone, Debug)]
pub struct RoleFacts {
    pub name: String,
    /// Attributes of the role that the service does not need, such as `SUPERUSER`.
    pub attributes: Vec<String>,
    /// The role may create tables in the first schema of its `search_path`.
    pub may_create_tables: bool,
    /// The tables exist, and the role sees them.
    pub has_tables: bool,
    /// The role may change the tables, as their owner or as a superuser.
    pub owns_tables: bool,
    /// Tables in which the role must not read and write rows.
    pub denied_tables: Vec<String>,
}

/// Result of the check of an SQLite file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    Sound,
    /// Contains the first problem.
    Damaged(String),
    /// The check took too long.
    Unfinished,
}

/// Settings that all instances should share; `None` before the first start.
#[derive(Clone, Debug, Default)]
pub struct SharedSettings {
    pub issuer: Option<String>,
    pub algorithm: Option<String>,
}

/// Numbers of accounts.
#[derive(Clone, Copy, Debug)]
pub struct AccountFacts {
    /// Accounts with the role `admin` that are not disabled.
    pub administrators: i64,
    /// Accounts whose password hash has the algorithm of another system.
    pub foreign_hashes: i64,
}
