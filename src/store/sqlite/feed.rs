//! The feed on SQLite, where the command line may write too. Writers are serial, so the positions
//! of rows are in the order of commits.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::client_rows;
use super::database::NOW;
use super::key_rows;
use crate::domain::{ClientSet, FeedCursor, KeySet, Revocation, ServerId, Snapshot};
use crate::store::columns::from_micros;
use crate::store::error::StoreError;
use crate::store::feed::{Feed, FeedBatch, FeedEntry, with_timeout};

/// Feed with a separate connection: requests that exhaust the pool do not delay it.
pub(super) struct SqliteFeed {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    /// Identity of the file, which all feeds share. Random at each start, and whenever a feed finds
    /// the file replaced: an older file has none that would change.
    server: Arc<ArcSwap<ServerId>>,
    /// Highest position that had been assigned at the last read.
    position: Option<i64>,
}

impl SqliteFeed {
    pub(super) fn new(options: SqliteConnectOptions, server: Arc<ArcSwap<ServerId>>) -> Self {
        Self { options, connection: None, server, position: None }
    }
}

#[async_trait]
impl Feed for SqliteFeed {
    async fn read(&mut self, timeout: Duration) -> Result<FeedBatch, StoreError> {
        // The connection is put back only after success.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => with_timeout(timeout, self.options.connect()).await?,
        };
        let previous = self.position;
        let server = **self.server.load();
        let (mut position, mut batch) =
            read_since(server, previous, &mut connection, timeout).await?;
        if previous.is_some_and(|previous| position < previous) {
            let server = ServerId::random();
            self.server.store(Arc::new(server));
            (position, batch) = read_since(server, None, &mut connection, timeout).await?;
        }
        self.connection = Some(connection);
        self.position = Some(position);
        Ok(batch)
    }

    async fn read_keys(&mut self, timeout: Duration) -> Result<KeySet, StoreError> {
        let mut connection = self.connection.take().ok_or(sqlx::Error::PoolClosed)?;
        let keys = with_timeout(timeout, key_rows::read_keys(&mut connection)).await?;
        self.connection = Some(connection);
        Ok(keys)
    }

    async fn read_clients(&mut self, timeout: Duration) -> Result<ClientSet, StoreError> {
        let mut connection = self.connection.take().ok_or(sqlx::Error::PoolClosed)?;
        let clients = with_timeout(timeout, client_rows::read_clients(&mut connection)).await?;
        self.connection = Some(connection);
        Ok(clients)
    }

    fn request_full_reload(&mut self) {
        self.position = None;
    }
}

/// Reads the revocations after a position in one statement, which sees one state of the file.
async fn read_since(
    server: ServerId,
    position: Option<i64>,
    connection: &mut SqliteConnection,
    timeout: Duration,
) -> Result<(i64, FeedBatch), StoreError> {
    // The header row contains the highest position that was assigned, the time and the version. Every
    // expiry is one that can be read, so that no row fails the others.
    let select = format!(
        "select null as id, null as expires_at, null as revoked_at, null as position,
                coalesce((select seq from sqlite_sequence where name = 'revocations'), 0) as last,
                {NOW} as read_at, (select version from shared_state) as version
         union all
         select id, max(0, min(253402214400000000, expires_at)), revoked_at, position,
                null, null, null
         from revocations where position > ?1"
    );
    let select = sqlx::query(AssertSqlSafe(select)).bind(position.unwrap_or(0));
    let mut rows = select.fetch(connection);
    let header = with_timeout(timeout, rows.try_next()).await?.ok_or(sqlx::Error::RowNotFound)?;
    let mut entries = Vec::new();
    while let Some(row) = with_timeout(timeout, rows.try_next()).await? {
        entries.push(entry_from_row(&row)?);
    }
    let read_at = parse_time(&header, "read_at")?;
    let version = header.try_get("version")?;
    let last: i64 = header.try_get("last")?;
    let snapshot = Snapshot::below(to_xid(last)? + 1);
    let cursor = FeedCursor { server, snapshot };
    let is_full_reload = position.is_none();
    Ok((last, FeedBatch { entries, read_at, version, is_full_reload, cursor }))
}

fn entry_from_row(row: &SqliteRow) -> Result<FeedEntry, StoreError> {
    let id = row.try_get::<Uuid, _>("id")?.into();
    let revocation = Revocation { id, expires_at: parse_time(row, "expires_at")? };
    let xid = to_xid(row.try_get("position")?)?;
    Ok(FeedEntry { revocation, xid, revoked_at: parse_time(row, "revoked_at")? })
}

/// Converts a position, of which SQLite assigns none below 1.
fn to_xid(position: i64) -> Result<u64, StoreError> {
    let inconsistent = |error| StoreError::inconsistent("revocations", "position", error);
    u64::try_from(position).map_err(inconsistent)
}

fn parse_time(row: &SqliteRow, column: &'static str) -> Result<OffsetDateTime, StoreError> {
    from_micros("revocations", column, row.try_get(column)?)
}
