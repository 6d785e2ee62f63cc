//! Copying an SQLite database, and into one.
//!
//! Both ends lock the file for themselves (`locking_mode = exclusive`). Every other connection holds
//! a shared lock for as long as it is open, even an idle one, so that the lock is refused while an
//! instance runs; and an instance that starts meanwhile cannot open the file. The lock ends with the
//! process, and nothing of the mode is written to the file.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteLockingMode, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row as _, Sqlite};

use super::database::{SqliteStore, require_current_schema};
use crate::config::DatabaseSettings;
use crate::store::database::Store;
use crate::store::error::{OpenFailure, StoreError, is_busy};
use crate::store::schema::SchemaPolicy;
use crate::store::tables::{Column, Kind, Row, Table, Value};
use crate::store::transfer::{CopySource, CopyTarget, EndFailure, InsertError, Rows};

/// Memory for pages of the file, in KiB; negative, as SQLite wants it.
const CACHE_SIZE: &str = "-65536";

/// Rows of one statement: SQLite allows at most 32,766 parameters.
const ROWS_PER_STATEMENT: usize = 200;

/// SQLite database that is copied.
pub(crate) struct SqliteSource {
    connection: SqliteConnection,
}

/// SQLite database that is written.
pub(crate) struct SqliteTarget {
    connection: SqliteConnection,
}

impl SqliteSource {
    /// Opens and locks a database. Its schema must be the current one.
    pub(crate) async fn open(path: &Path, wait: Duration) -> Result<Self, EndFailure> {
        if !path.exists() {
            return Err(OpenFailure::Missing.into());
        }
        let mut connection = lock(path, wait).await?;
        require_current_schema(&mut connection).await?;
        Ok(Self { connection })
    }
}

impl SqliteTarget {
    /// Opens or creates a database and locks it. Its schema must be the current one: one in use, or
    /// with rows, is not changed.
    pub(crate) async fn open(
        path: &Path,
        settings: &DatabaseSettings,
        report: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, EndFailure> {
        let store = SqliteStore::open(path, settings, SchemaPolicy::Create, report).await?;
        store.close().await;
        let connection = lock(path, settings.acquire_timeout).await?;
        Ok(Self { connection })
    }
}

/// Opens a file alone and begins a transaction.
async fn lock(path: &Path, wait: Duration) -> Result<SqliteConnection, EndFailure> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(wait)
        .locking_mode(SqliteLockingMode::Exclusive)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", CACHE_SIZE)
        .foreign_keys(true);
    let begin = async {
        let mut connection = options.connect().await?;
        connection.execute("begin exclusive").await?;
        Ok(connection)
    };
    match begin.await {
        Err(sqlx::Error::Database(error)) if is_busy(&*error) => Err(EndFailure::InUse),
        result => Ok(result?),
    }
}

#[async_trait]
impl CopySource for SqliteSource {
    async fn count(&mut self, table: &Table) -> Result<u64, StoreError> {
        count(&mut self.connection, table).await
    }

    async fn rows(&mut self, table: &Table) -> Result<Rows<'_>, StoreError> {
        let (name, columns, key) = (table.name, table.column_list(), table.key());
        let select = format!("select {columns} from {name} order by {key}");
        let rows = sqlx::query(AssertSqlSafe(select)).fetch(&mut self.connection);
        let columns = table.columns;
        Ok(rows.err_into().and_then(async |row| read_row(&row, columns)).boxed())
    }

    async fn close(mut self: Box<Self>) -> Result<(), StoreError> {
        self.connection.execute("rollback").await?;
        Ok(self.connection.close().await?)
    }
}

#[async_trait]
impl CopyTarget for SqliteTarget {
    async fn count(&mut self, table: &Table) -> Result<u64, StoreError> {
        count(&mut self.connection, table).await
    }

    async fn clear(&mut self, table: &Table) -> Result<(), StoreError> {
        let delete = format!("delete from {}", table.name);
        sqlx::query(AssertSqlSafe(delete)).execute(&mut self.connection).await?;
        Ok(())
    }

    async fn insert(&mut self, table: &Table, rows: Rows<'_>) -> Result<(), InsertError> {
        let mut batches = rows.try_chunks(ROWS_PER_STATEMENT);
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| InsertError::Source(error.1))?;
            let insert = insert_sql(table, batch.len());
            let insert = sqlx::query(AssertSqlSafe(insert));
            let insert = batch.into_iter().flatten().fold(insert, bind);
            insert.execute(&mut self.connection).await?;
        }
        Ok(())
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        self.connection.execute("commit").await?;
        Ok(self.connection.close().await?)
    }
}

async fn count(connection: &mut SqliteConnection, table: &Table) -> Result<u64, StoreError> {
    let select = format!("select count(*) from {}", table.name);
    let count: i64 = sqlx::query_scalar(AssertSqlSafe(select)).fetch_one(connection).await?;
    Ok(count.unsigned_abs())
}

fn read_row(row: &SqliteRow, columns: &'static [Column]) -> Result<Row, StoreError> {
    let values = columns.iter().enumerate().map(|(index, column)| {
        let value = match column.kind {
            Kind::Uuid | Kind::Bytes => row.try_get::<Option<_>, _>(index)?.map(Value::Bytes),
            Kind::Text | Kind::Names => row.try_get::<Option<_>, _>(index)?.map(Value::Text),
            Kind::Time | Kind::Int | Kind::BigInt => {
                row.try_get::<Option<_>, _>(index)?.map(Value::Integer)
            }
        };
        Ok(value.unwrap_or(Value::Null))
    });
    values.collect()
}

/// Returns a statement that inserts a number of rows.
fn insert_sql(table: &Table, rows: usize) -> String {
    let row = format!("({})", vec!["?"; table.columns.len()].join(", "));
    let rows = vec![row; rows].join(", ");
    format!("insert into {} ({}) values {rows}", table.name, table.column_list())
}

fn bind(
    query: Query<'_, Sqlite, SqliteArguments>,
    value: Value,
) -> Query<'_, Sqlite, SqliteArguments> {
    match value {
        Value::Null => query.bind(None::<i64>),
        Value::Bytes(bytes) => query.bind(bytes),
        Value::Text(text) => query.bind(text),
        Value::Integer(number) => query.bind(number),
    }
}
