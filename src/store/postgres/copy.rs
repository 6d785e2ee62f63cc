//! Copying a PostgreSQL database, and into one, by `COPY` in its binary format.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row as _, raw_sql};
use tokio::time::{Instant, sleep};

use super::copy_format::{Reader, Writer};
use super::database::{PostgresStore, connect_options, require_current_schema};
use crate::config::{DatabaseSettings, PostgresSettings};
use crate::store::database::Store;
use crate::store::error::{StoreError, is_lock_timeout, within};
use crate::store::schema::SchemaPolicy;
use crate::store::tables::{Column, Kind, TABLES, Table};
use crate::store::transfer::{CopySource, CopyTarget, EndFailure, InsertError, Rows};

/// Bytes that are sent at once.
const CHUNK: usize = 64 * 1024;

/// Interval of the attempts to find the database unused.
const IN_USE_INTERVAL: Duration = Duration::from_millis(100);

/// Settings of the transaction, which lasts as long as it takes. A vacuum, which holds a lock, gives
/// way within a second.
const SETTINGS: &str = "set local statement_timeout = 0;
    set local idle_in_transaction_session_timeout = 0;
    set local lock_timeout = '5s'";

/// PostgreSQL database that is copied.
pub(crate) struct PostgresSource {
    connection: PgConnection,
}

/// PostgreSQL database that is written.
pub(crate) struct PostgresTarget {
    connection: PgConnection,
}

impl PostgresSource {
    /// Opens a database and lets all writers wait. Its schema must be the current one.
    pub(crate) async fn open(
        postgres: &PostgresSettings,
        wait: Duration,
    ) -> Result<Self, EndFailure> {
        let options = connect_options(&postgres.url)?;
        let mut connection = within(wait, options.connect()).await?;
        within(wait, require_current_schema(&mut connection)).await?;
        // The snapshot is taken by the first statement after the locks.
        connection.execute("begin transaction isolation level repeatable read").await?;
        lock(&mut connection, "share", wait).await?;
        Ok(Self { connection })
    }
}

impl PostgresTarget {
    /// Opens a database, with a new schema if it has none, and locks its tables. Its schema must be
    /// the current one: one in use, or with rows, is not changed.
    pub(crate) async fn open(
        postgres: &PostgresSettings,
        settings: &DatabaseSettings,
        report: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, EndFailure> {
        let store = PostgresStore::open(postgres, settings, SchemaPolicy::Create, report).await?;
        let options: PgConnectOptions = store.options.clone();
        store.close().await;
        let wait = settings.acquire_timeout;
        let mut connection = within(wait, options.connect()).await?;
        connection.execute("begin").await?;
        // An instance that starts meanwhile waits when it reads its keys.
        lock(&mut connection, "access exclusive", wait).await?;
        Ok(Self { connection })
    }
}

/// Locks all tables until the end of the transaction. Refuses a database with connections of an
/// instance.
async fn lock(connection: &mut PgConnection, mode: &str, wait: Duration) -> Result<(), EndFailure> {
    connection.execute(SETTINGS).await?;
    let tables: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    let lock = format!("lock table {} in {mode} mode", tables.join(", "));
    match raw_sql(AssertSqlSafe(lock)).execute(&mut *connection).await {
        Ok(_) => {}
        Err(error) if is_lock_timeout(&error) => return Err(EndFailure::InUse),
        Err(error) => return Err(error.into()),
    }
    let started_at = Instant::now();
    while is_in_use(connection).await? {
        // The server may not have noticed yet that a connection was closed.
        if started_at.elapsed() > wait {
            return Err(EndFailure::InUse);
        }
        sleep(IN_USE_INTERVAL).await;
    }
    Ok(())
}

/// Returns `true` if an instance or a command has a connection to the database, idle ones included.
async fn is_in_use(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    connection.execute("select pg_stat_clear_snapshot()").await?;
    let select = raw_sql(concat!(
        "select exists (
             select from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid()
               and application_name = '",
        env!("CARGO_PKG_NAME"),
        "')"
    ));
    select.fetch_one(connection).await?.try_get(0)
}

#[async_trait]
impl CopySource for PostgresSource {
    async fn count(&mut self, table: &Table) -> Result<u64, StoreError> {
        count(&mut self.connection, table).await
    }

    async fn rows(&mut self, table: &Table) -> Result<Rows<'_>, StoreError> {
        let expressions: Vec<_> = table.columns.iter().map(select_expression).collect();
        let expressions = expressions.join(", ");
        let (name, key) = (table.name, table.key());
        let copy = format!(
            "copy (select {expressions} from {name} order by {key}) to stdout (format binary)"
        );
        let chunks = self.connection.copy_out_raw(&copy).await?;
        let mut reader = Reader::new(table);
        let rows =
            chunks.err_into::<StoreError>().map_ok(move |chunk| stream::iter(reader.rows(&chunk)));
        Ok(rows.try_flatten().boxed())
    }

    async fn close(mut self: Box<Self>) -> Result<(), StoreError> {
        self.connection.execute("rollback").await?;
        Ok(self.connection.close().await?)
    }
}

#[async_trait]
impl CopyTarget for PostgresTarget {
    async fn count(&mut self, table: &Table) -> Result<u64, StoreError> {
        count(&mut self.connection, table).await
    }

    async fn clear(&mut self, table: &Table) -> Result<(), StoreError> {
        let delete = format!("delete from {}", table.name);
        self.connection.execute(AssertSqlSafe(delete)).await?;
        Ok(())
    }

    async fn insert(&mut self, table: &Table, mut rows: Rows<'_>) -> Result<(), InsertError> {
        let (name, columns) = (table.name, table.column_list());
        let copy = format!("copy {name} ({columns}) from stdin (format binary)");
        let mut sink = self.connection.copy_in_raw(&copy).await?;
        let mut writer = Writer::new(table);
        while let Some(row) = rows.next().await {
            writer.add(&row.map_err(InsertError::Source)?).map_err(InsertError::Target)?;
            if writer.len() >= CHUNK {
                sink.send(writer.take()).await?;
            }
        }
        sink.send(writer.finish()).await?;
        sink.finish().await?;
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        let next = "select coalesce(max(id), 0) + 1 from audit_log";
        let next: i64 = raw_sql(next).fetch_one(&mut self.connection).await?.try_get(0)?;
        // Unlike `setval`, this is undone with the transaction.
        let restart = format!("alter table audit_log alter column id restart with {next}");
        self.connection.execute(AssertSqlSafe(restart)).await?;
        let tables: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        let analyze = format!("analyze {}", tables.join(", "));
        self.connection.execute(AssertSqlSafe(analyze)).await?;
        self.connection.execute("commit").await?;
        Ok(self.connection.close().await?)
    }
}

async fn count(connection: &mut PgConnection, table: &Table) -> Result<u64, StoreError> {
    let select = format!("select count(*) from {}", table.name);
    let row = raw_sql(AssertSqlSafe(select)).fetch_one(connection).await?;
    Ok(row.try_get::<i64, _>(0)?.unsigned_abs())
}

/// Returns the expression that selects a column in the format of [`Reader`].
fn select_expression(column: &Column) -> String {
    let name = column.name;
    match column.kind {
        Kind::Names => format!("array_to_string({name}, ' ')"),
        _ => name.to_owned(),
    }
}
