//! Following the revocations on SQLite, where the command line may be another writer. Writers are
//! serial, so the position of a row is in the order of commits.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, query};
use time::OffsetDateTime;
use uuid::Uuid;

use super::NOW;
use crate::domain::Revocation;
use crate::store::feed::{Entry, Feed, News, within};
use crate::store::{StoreError, from_micros};

/// Reads on a connection of its own: requests that fill the pool do not hold it up.
pub(super) struct SqliteFeed {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    /// The last position that had been given out when it was read.
    last: Option<i64>,
}

impl SqliteFeed {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, connection: None, last: None }
    }
}

#[async_trait]
impl Feed for SqliteFeed {
    async fn read(&mut self, patience: Duration) -> Result<News, StoreError> {
        // Taken out, and put back when all went well.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => within(patience, self.options.connect()).await?,
        };
        let (mut last, mut news) = read_since(self.last, &mut connection, patience).await?;
        if Some(last) < self.last {
            (last, news) = read_since(None, &mut connection, patience).await?;
        }
        self.connection = Some(connection);
        self.last = Some(last);
        Ok(news)
    }

    fn rewind(&mut self) {
        self.last = None;
    }
}

/// Reads what was given a later position, in one statement, which sees one state of the file.
async fn read_since(
    position: Option<i64>,
    connection: &mut SqliteConnection,
    patience: Duration,
) -> Result<(i64, News), StoreError> {
    // The first row says which position was given out last, and when this is.
    let select = format!(
        "select null as id, null as expires_at, null as revoked_at,
                coalesce((select seq from sqlite_sequence where name = 'revocations'), 0) as last,
                {NOW} as read_at
         union all
         select id, expires_at, revoked_at, null, null from revocations where position > ?1"
    );
    let mut rows = query(AssertSqlSafe(select)).bind(position.unwrap_or(0)).fetch(connection);
    let head = within(patience, rows.try_next()).await?.ok_or(sqlx::Error::RowNotFound)?;
    let mut entries = Vec::new();
    while let Some(row) = within(patience, rows.try_next()).await? {
        entries.push(entry(&row)?);
    }
    let read_at = time(&head, "read_at")?;
    Ok((head.try_get("last")?, News { entries, read_at, is_whole: position.is_none() }))
}

fn entry(row: &SqliteRow) -> Result<Entry, StoreError> {
    let id = row.try_get::<Uuid, _>("id")?.into();
    let revocation = Revocation { id, expires_at: time(row, "expires_at")? };
    Ok(Entry { revocation, revoked_at: time(row, "revoked_at")? })
}

fn time(row: &SqliteRow, column: &'static str) -> Result<OffsetDateTime, StoreError> {
    from_micros("revocations", column, row.try_get(column)?)
}
