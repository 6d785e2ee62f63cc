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

const MISSING: &str = "TEST_DATABASE_URL is not set: run the tests with `make test`, which provides \
                       a Postgres server, or name one";

/// A database that belongs to one test, and goes away with it.
#[derive(Clone)]
pub enum TestDatabase {
    Postgres { name: String, url: String },
    Sqlite(Arc<TempDir>),
}

impl TestDatabase {
    pub async fn postgres() -> Self {
        let name = format!("test_{}", Uuid::new_v4().simple());
        let mut connection = server().connect().await.expect("the test server answers");
        run(&mut connection, format!("create database {name}")).await;
        let url = server().database(&name).to_url_lossy().to_string();
        Self::Postgres { name, url }
    }

    pub fn sqlite() -> Self {
        Self::Sqlite(Arc::new(tempfile::tempdir().expect("a temporary folder")))
    }

    /// Lends the database to a test, and removes it whatever becomes of the test.
    pub async fn lend<F: Future<Output = ()>>(self, test: impl FnOnce(Self) -> F) {
        let outcome = AssertUnwindSafe(test(self.clone())).catch_unwind().await;
        if let Self::Postgres { name, .. } = self {
            let mut connection = server().connect().await.expect("the test server answers");
            run(&mut connection, format!("drop database {name} with (force)")).await;
        }
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    }

    pub fn config(&self) -> Database {
        match self {
            Self::Postgres { url, .. } => {
                let url = Secret::new(url.clone());
                let listen_url = Some(url.clone());
                Database::Postgres(PostgresSettings {
                    url,
                    listen_url,
                    pool_mode: PoolMode::Session,
                })
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

    /// Names another database of the same server.
    pub fn beside(&self, name: &str) -> Self {
        let options: PgConnectOptions = self.url().parse().expect("a URL");
        let url = options.database(name).to_url_lossy().to_string();
        Self::Postgres { name: name.to_owned(), url }
    }

    /// Names the same database on another port.
    pub fn at_port(&self, port: u16) -> Self {
        let options: PgConnectOptions = self.url().parse().expect("a URL");
        let name = options.get_database().expect("a name").to_owned();
        Self::Postgres { name, url: options.port(port).to_url_lossy().to_string() }
    }

    /// Opens a connection to Postgres, beside the application's.
    pub async fn connect(&self) -> PgConnection {
        let options: PgConnectOptions = self.url().parse().expect("a URL");
        options.connect().await.expect("the test server answers")
    }

    /// Runs a statement on a connection of its own.
    pub async fn execute(&self, statement: &'static str) {
        match self {
            Self::Postgres { .. } => {
                let mut connection = self.connect().await;
                connection.execute(statement).await.expect("the test server obeys");
            }
            Self::Sqlite(_) => {
                let options = SqliteConnectOptions::new().filename(self.path());
                let mut connection = options.connect().await.expect("the file opens");
                connection.execute(statement).await.expect("the file is written");
            }
        }
    }

    fn path(&self) -> PathBuf {
        let Self::Sqlite(folder) = self else { panic!("only SQLite has a path") };
        folder.path().join("data").join("portcullis.db")
    }
}

#[expect(clippy::disallowed_methods, reason = "the tests have no `config` of their own")]
fn server() -> PgConnectOptions {
    std::env::var("TEST_DATABASE_URL").expect(MISSING).parse().expect("a URL in TEST_DATABASE_URL")
}

async fn run(server: &mut PgConnection, statement: String) {
    server.execute(AssertSqlSafe(statement)).await.expect("the test server obeys");
}
