//! The feed on PostgreSQL: each read returns the rows that the previous snapshot could not see.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, raw_sql};
use time::OffsetDateTime;
use uuid::Uuid;

use super::client_rows;
use super::key_rows;
use super::snapshot::Snapshot;
use crate::domain::{ClientSet, KeySet, Revocation};
use crate::store::columns::from_micros;
use crate::store::error::StoreError;
use crate::store::feed::{Feed, FeedBatch, FeedEntry, with_timeout};

/// Selects a header row, then the revocations.
///
/// The header contains the snapshot of the statement, the identity of the server, the time and the
/// version of the shared state. The identity changes when the server restarts and when the table is
/// restored: a restore creates the index last, after the rows. It is null on a replica, which may
/// lag. Every expiry is one that can be read, so that no row fails the others.
const SELECT: &str = "
    select null::uuid as id, null::bigint as expires_at, null::bigint as revoked_at,
           pg_current_snapshot()::text as snapshot,
           case when not pg_is_in_recovery() then
               concat_ws(' ', (select system_identifier from pg_control_system()),
                         pg_postmaster_start_time(), to_regclass('revocations_xid')::oid)
           end as server,
           (extract(epoch from clock_timestamp()) * 1000000)::bigint as read_at,
           (select version from shared_state) as version
    union all
    select id,
           (extract(epoch from greatest(timestamptz 'epoch',
                least(timestamptz '9999-12-31 UTC', expires_at))) * 1000000)::bigint,
           (extract(epoch from revoked_at) * 1000000)::bigint, null, null, null, null
    from revocations ";

/// Feed with a separate connection: requests that exhaust the pool do not delay it.
pub(super) struct PostgresFeed {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    cursor: Option<Cursor>,
}

/// Position in the feed of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    server: String,
    snapshot: Snapshot,
}

impl PostgresFeed {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, connection: None, cursor: None }
    }
}

#[async_trait]
impl Feed for PostgresFeed {
    async fn read(&mut self, timeout: Duration) -> Result<FeedBatch, StoreError> {
        // The connection is put back only after success. If the read fails or is dropped, the
        // connection is closed.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => with_timeout(timeout, self.options.connect()).await?,
        };
        let previous = self.cursor.as_ref();
        let (mut cursor, mut batch) = read_since(previous, &mut connection, timeout).await?;
        if previous.is_some_and(|previous| !cursor.may_follow(previous)) {
            (cursor, batch) = read_since(None, &mut connection, timeout).await?;
        }
        self.connection = Some(connection);
        self.cursor = Some(cursor);
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
        self.cursor = None;
    }
}

/// Reads the revocations after a cursor in one statement, which sees one snapshot. It has no
/// parameters, so it uses the simple protocol: one round trip, and no session behind a pooler.
async fn read_since(
    cursor: Option<&Cursor>,
    connection: &mut PgConnection,
    timeout: Duration,
) -> Result<(Cursor, FeedBatch), StoreError> {
    let condition = cursor.map(Cursor::condition).unwrap_or_default();
    let mut rows = raw_sql(AssertSqlSafe(format!("{SELECT}{condition}"))).fetch(connection);
    let header = with_timeout(timeout, rows.try_next()).await?.ok_or(sqlx::Error::RowNotFound)?;
    let mut entries = Vec::new();
    while let Some(row) = with_timeout(timeout, rows.try_next()).await? {
        entries.push(entry_from_row(&row)?);
    }
    let read_at = parse_time(&header, "read_at")?;
    let version = header.try_get("version")?;
    let batch = FeedBatch { entries, read_at, version, is_full_reload: cursor.is_none() };
    Ok((Cursor::from_row(&header)?, batch))
}

impl Cursor {
    /// Parses the header row.
    fn from_row(row: &PgRow) -> Result<Self, StoreError> {
        let server: Option<String> = row.try_get("server")?;
        let snapshot: &str = row.try_get("snapshot")?;
        let snapshot = snapshot
            .parse()
            .map_err(|error| StoreError::inconsistent("pg_current_snapshot", "text", error))?;
        Ok(Self { server: server.ok_or(StoreError::Replica)?, snapshot })
    }

    fn may_follow(&self, earlier: &Self) -> bool {
        self.server == earlier.server && self.snapshot.may_follow(&earlier.snapshot)
    }

    /// Returns the SQL condition for the rows after this cursor.
    ///
    /// Rows from a dump have transaction ids of another server. Ids that this server has not yet
    /// assigned are excluded; otherwise every read would return their rows again.
    fn condition(&self) -> String {
        let unseen = self.snapshot.unseen_condition("xid");
        format!("where {unseen} and xid < pg_snapshot_xmax(pg_current_snapshot())")
    }
}

fn entry_from_row(row: &PgRow) -> Result<FeedEntry, StoreError> {
    let id = row.try_get::<Uuid, _>("id")?.into();
    let revocation = Revocation { id, expires_at: parse_time(row, "expires_at")? };
    Ok(FeedEntry { revocation, revoked_at: parse_time(row, "revoked_at")? })
}

fn parse_time(row: &PgRow, column: &'static str) -> Result<OffsetDateTime, StoreError> {
    from_micros("revocations", column, row.try_get(column)?)
}
