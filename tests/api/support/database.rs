use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt;
use portcullis::config::{Database, PoolMode, PostgresSettings, Secret};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use tempfile::TempDir;
use uuid::Uuid;

const MISSING: &str = "TEST_DATABASE_URL is not set: run `make test`, which provides a Postgres \
                       server, or set the variable to the URL of a server";

/// The database of one test, removed at the end of the test.
#[derive(Clone)]
pub enum TestDatabase {
    Postgres { name: String, url: String },
    Sqlite(Arc<TempDir>),
}

impl TestDatabase {
    pub async fn postgres() -> Self {
        Self::postgres_with("").await
    }

    /// Creates a database with options of `create database`.
    pub async fn postgres_with(options: &str) -> Self {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut connection =
            test_server().connect().await.expect("the test server accepts connections");
        execute_on(&mut connection, format!("create database {name} {options}")).await;
        let url = test_server().database(&name).to_url_lossy().to_string();
        Self::Postgres { name, url }
    }

    pub fn sqlite() -> Self {
        Self::Sqlite(Arc::new(tempfile::tempdir().expect("a temporary folder is created")))
    }

    /// Runs a test on the database, then removes the database, even if the test panics.
    pub async fn run<F: Future<Output = ()>>(self, test: impl FnOnce(Self) -> F) {
        let outcome = AssertUnwindSafe(test(self.clone())).catch_unwind().await;
        if let Self::Postgres { name, .. } = self {
            let mut connection =
                test_server().connect().await.expect("the test server accepts connections");
            execute_on(&mut connection, format!("drop database {name} with (force)")).await;
            execute_on(&mut connection, format!("drop role if exists {name}_role")).await;
        }
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    }

    pub fn config(&self) -> Database {
        self.config_in(PoolMode::Session)
    }

    pub fn config_in(&self, pool_mode: PoolMode) -> Database {
        match self {
            Self::Postgres { url, .. } => {
                let url = Secret::new(url.clone());
                let listen_url = Some(url.clone());
                Database::Postgres(PostgresSettings { url, listen_url, pool_mode })
            }
            Self::Sqlite(_) => Database::Sqlite(self.path()),
        }
    }

    /// Returns the value of `DATABASE_URL`.
    pub fn url(&self) -> String {
        match self {
            Self::Postgres { url, .. } => url.clone(),
            Self::Sqlite(_) => format!("sqlite://{}", self.path().display()),
        }
    }

    /// Returns another database of the same server.
    pub fn with_name(&self, name: &str) -> Self {
        let options: PgConnectOptions = self.url().parse().expect("the database has a valid URL");
        let url = options.database(name).to_url_lossy().to_string();
        Self::Postgres { name: name.to_owned(), url }
    }

    /// Creates a role without rights. Returns its name, and the database as this role sees it. The
    /// role is dropped with the database.
    pub async fn with_new_role(&self) -> (String, Self) {
        let Self::Postgres { name, url } = self else { panic!("SQLite has no roles") };
        let role = format!("{name}_role");
        self.execute(format!("create role {role} login")).await;
        let options: PgConnectOptions = url.parse().expect("the database has a valid URL");
        let url = options.username(&role).to_url_lossy().to_string();
        (role, Self::Postgres { name: name.clone(), url })
    }

    /// Returns the same database on another port.
    pub fn with_port(&self, port: u16) -> Self {
        let options: PgConnectOptions = self.url().parse().expect("the database has a valid URL");
        let name = options.get_database().expect("the URL names a database").to_owned();
        Self::Postgres { name, url: options.port(port).to_url_lossy().to_string() }
    }

    /// Opens a connection to Postgres, separate from those of the application.
    pub async fn connect(&self) -> PgConnection {
        let options: PgConnectOptions = self.url().parse().expect("the database has a valid URL");
        options.connect().await.expect("the test server accepts connections")
    }

    /// Runs a statement on a separate connection.
    pub async fn execute(&self, statement: impl AsRef<str>) {
        let statement = statement.as_ref();
        match self {
            Self::Postgres { .. } => {
                let mut connection = self.connect().await;
                connection.execute(AssertSqlSafe(statement)).await.expect("the statement succeeds");
            }
            Self::Sqlite(_) => {
                let options = SqliteConnectOptions::new().filename(self.path());
                let mut connection = options.connect().await.expect("the SQLite file opens");
                connection.execute(AssertSqlSafe(statement)).await.expect("the statement succeeds");
            }
        }
    }

    pub fn path(&self) -> PathBuf {
        let Self::Sqlite(folder) = self else { panic!("only SQLite databases have a path") };
        folder.path().join("data").join("portcullis.db")
    }
}

#[expect(clippy::disallowed_methods, reason = "tests do not read settings through `config`")]
fn test_server() -> PgConnectOptions {
    let url = std::env::var("TEST_DATABASE_URL").expect(MISSING);
    url.parse().expect("TEST_DATABASE_URL is a Postgres URL")
}

async fn execute_on(connection: &mut PgConnection, statement: String) {
    connection.execute(AssertSqlSafe(statement)).await.expect("the statement succeeds");
}
