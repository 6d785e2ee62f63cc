//! The feed on PostgreSQL: each read returns the rows that the previous snapshot could not see.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use ring::digest::{SHA256, digest};
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row, raw_sql};
use time::OffsetDateTime;
use uuid::Uuid;

use super::client_rows;
use super::key_rows;
use crate::domain::{ClientSet, FeedCursor, KeySet, Revocation, ServerId, Snapshot};
use crate::store::columns::from_micros;
use crate::store::error::StoreError;
use crate::store::feed::{Feed, FeedBatch, FeedEntry, with_timeout};

/// Selects a header row, then the revocations.
///
/// The header contains the snapshot of the statement, the identity of the server, the time and the
/// version of the shared state. The identity changes when the server restarts, when it recovers from
/// the crash of one of its processes, and when the table is restored: a restore creates the index
/// last, after the rows. It is null until a [run](BEGIN_RUN) has begun. Every expiry is one that can
/// be read, so that no row fails the others.
const SELECT: &str = "
    select null::uuid as id, null::bigint as expires_at, null::bigint as revoked_at,
           null::text as xid, pg_current_snapshot()::text as snapshot,
           (select concat_ws(' ', (select system_identifier from pg_control_system()),
                             extract(epoch from pg_postmaster_start_time()),
                             to_regclass('revocations_xid')::oid, run.id)
            from server_runs as run order by run.id limit 1) as server,
           (extract(epoch from clock_timestamp()) * 1000000)::bigint as read_at,
           (select version from shared_state) as version
    union all
    select id,
           (extract(epoch from greatest(timestamptz 'epoch',
                least(timestamptz '9999-12-31 UTC', expires_at))) * 1000000)::bigint,
           (extract(epoch from revoked_at) * 1000000)::bigint, xid::text,
           null, null, null, null
    from revocations ";

/// Gives the run of the server an id, unless it has one. The table is unlogged: a recovery from a
/// crash empties it.
const BEGIN_RUN: &str = "
    insert into server_runs (id) select gen_random_uuid() where not exists (select from server_runs)";

/// SQLSTATE of a statement that reads an unlogged table on a replica, which may lag.
const FEATURE_NOT_SUPPORTED: &str = "0A000";

/// Feed with a separate connection: requests that exhaust the pool do not delay it.
pub(super) struct PostgresFeed {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    cursor: Option<FeedCursor>,
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
        let read = read_since(previous, &mut connection, timeout).await?;
        let batch = match read {
            Some(batch) if previous.is_none_or(|cursor| may_follow(&batch.cursor, cursor)) => batch,
            _ => read_all(&mut connection, timeout).await?,
        };
        self.connection = Some(connection);
        self.cursor = Some(batch.cursor.clone());
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

/// Reads all revocations from a server that is another one, or has recovered from a crash.
async fn read_all(
    connection: &mut PgConnection,
    timeout: Duration,
) -> Result<FeedBatch, StoreError> {
    with_timeout(timeout, connection.execute(BEGIN_RUN)).await?;
    let batch = read_since(None, connection, timeout).await?;
    batch.ok_or_else(|| sqlx::Error::RowNotFound.into())
}

/// Reads the revocations after a cursor in one statement, which sees one snapshot. It has no
/// parameters, so it uses the simple protocol: one round trip, and no session behind a pooler.
/// Returns `None` if the run of the server has no id yet.
async fn read_since(
    cursor: Option<&FeedCursor>,
    connection: &mut PgConnection,
    timeout: Duration,
) -> Result<Option<FeedBatch>, StoreError> {
    let condition = cursor.map(condition_after).unwrap_or_default();
    let mut rows = raw_sql(AssertSqlSafe(format!("{SELECT}{condition}"))).fetch(connection);
    let header = with_timeout(timeout, rows.try_next()).await.map_err(recognize_replica)?;
    let header = header.ok_or(sqlx::Error::RowNotFound)?;
    let Some(cursor) = parse_cursor(&header)? else { return Ok(None) };
    let mut entries = Vec::new();
    while let Some(row) = with_timeout(timeout, rows.try_next()).await? {
        entries.push(entry_from_row(&row)?);
    }
    let read_at = parse_time(&header, "read_at")?;
    let version = header.try_get("version")?;
    let is_full_reload = condition.is_empty();
    Ok(Some(FeedBatch { entries, read_at, version, is_full_reload, cursor }))
}

/// Returns `true` if a cursor may be later than another one.
fn may_follow(cursor: &FeedCursor, earlier: &FeedCursor) -> bool {
    cursor.server == earlier.server && cursor.snapshot.sees_all_of(&earlier.snapshot)
}

/// Returns the SQL condition for the rows after a cursor.
///
/// Rows from a dump have transaction ids of another server. Ids that this server has not yet
/// assigned are excluded; otherwise every read would return their rows again.
fn condition_after(cursor: &FeedCursor) -> String {
    let in_progress: Vec<_> = cursor.snapshot.in_progress().iter().map(u64::to_string).collect();
    format!(
        "where (xid >= '{}'::xid8 or xid = any ('{{{}}}'::xid8[]))
           and xid < pg_snapshot_xmax(pg_current_snapshot())",
        cursor.snapshot.xmax(),
        in_progress.join(",")
    )
}

fn recognize_replica(error: StoreError) -> StoreError {
    let code = match &error {
        StoreError::QueryFailed(cause) => cause.as_database_error().and_then(DatabaseError::code),
        _ => None,
    };
    let is_replica = code.as_deref() == Some(FEATURE_NOT_SUPPORTED);
    if is_replica { StoreError::Replica } else { error }
}

fn parse_cursor(header: &PgRow) -> Result<Option<FeedCursor>, StoreError> {
    let Some(server) = header.try_get::<Option<String>, _>("server")? else { return Ok(None) };
    let snapshot: &str = header.try_get("snapshot")?;
    let snapshot: Snapshot = snapshot
        .parse()
        .map_err(|error| StoreError::inconsistent("pg_current_snapshot", "text", error))?;
    Ok(Some(FeedCursor { server: server_id(&server), snapshot }))
}

/// Returns the first bytes of the digest of a server's identity.
fn server_id(identity: &str) -> ServerId {
    let digest = digest(&SHA256, identity.as_bytes());
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(digest.as_ref()).for_each(|(byte, digested)| *byte = *digested);
    ServerId(bytes)
}

fn entry_from_row(row: &PgRow) -> Result<FeedEntry, StoreError> {
    let id = row.try_get::<Uuid, _>("id")?.into();
    let revocation = Revocation { id, expires_at: parse_time(row, "expires_at")? };
    let xid: &str = row.try_get("xid")?;
    let xid = xid.parse().map_err(|error| StoreError::inconsistent("revocations", "xid", error))?;
    Ok(FeedEntry { revocation, xid, revoked_at: parse_time(row, "revoked_at")? })
}

fn parse_time(row: &PgRow, column: &'static str) -> Result<OffsetDateTime, StoreError> {
    from_micros("revocations", column, row.try_get(column)?)
}
