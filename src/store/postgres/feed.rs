//! Following the revocations on Postgres: what the last snapshot could not see is what is new.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, raw_sql};
use time::OffsetDateTime;
use uuid::Uuid;

use super::snapshot::Snapshot;
use crate::domain::Revocation;
use crate::store::feed::{Entry, Feed, News, within};
use crate::store::{StoreError, from_micros};

/// The first row says what the statement sees, of which server, and when. The server is another one
/// when it has been started anew, or the table has: after a restore the index comes last, when
/// the rows are there. A replica says nothing: it may lag.
const HEAD: &str = "
    select null::uuid as id, null::bigint as expires_at, null::bigint as revoked_at,
           pg_current_snapshot()::text as snapshot,
           case when not pg_is_in_recovery() then
               concat_ws(' ', (select system_identifier from pg_control_system()),
                         pg_postmaster_start_time(), to_regclass('revocations_xid')::oid)
           end as server,
           (extract(epoch from clock_timestamp()) * 1000000)::bigint as read_at
    union all
    select id, (extract(epoch from expires_at) * 1000000)::bigint,
           (extract(epoch from revoked_at) * 1000000)::bigint, null, null, null
    from revocations ";

/// Reads on a connection of its own: requests that fill the pool do not hold it up.
pub(super) struct PostgresFeed {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    cursor: Option<Cursor>,
}

/// What has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    server: String,
    seen: Snapshot,
}

impl PostgresFeed {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, connection: None, cursor: None }
    }
}

#[async_trait]
impl Feed for PostgresFeed {
    async fn read(&mut self, patience: Duration) -> Result<News, StoreError> {
        // Taken out, and put back when all went well: a connection on which a read failed or was
        // given up is closed.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => within(patience, self.options.connect()).await?,
        };
        let cursor = self.cursor.as_ref();
        let (mut end, mut news) = read_since(cursor, &mut connection, patience).await?;
        if cursor.is_some_and(|cursor| !end.may_follow(cursor)) {
            (end, news) = read_since(None, &mut connection, patience).await?;
        }
        self.connection = Some(connection);
        self.cursor = Some(end);
        Ok(news)
    }

    fn rewind(&mut self) {
        self.cursor = None;
    }
}

/// Reads what a cursor has not seen, in one statement, which sees one snapshot. Without parameters
/// it goes by the simple protocol, in one round trip, for which a pooler needs no session.
async fn read_since(
    cursor: Option<&Cursor>,
    connection: &mut PgConnection,
    patience: Duration,
) -> Result<(Cursor, News), StoreError> {
    let condition = cursor.map(Cursor::condition).unwrap_or_default();
    let mut rows = raw_sql(AssertSqlSafe(format!("{HEAD}{condition}"))).fetch(connection);
    let head = within(patience, rows.try_next()).await?.ok_or(sqlx::Error::RowNotFound)?;
    let mut entries = Vec::new();
    while let Some(row) = within(patience, rows.try_next()).await? {
        entries.push(entry(&row)?);
    }
    let read_at = time(&head, "read_at")?;
    Ok((Cursor::of(&head)?, News { entries, read_at, is_whole: cursor.is_none() }))
}

impl Cursor {
    fn of(head: &PgRow) -> Result<Self, StoreError> {
        let server: Option<String> = head.try_get("server")?;
        let seen: &str = head.try_get("snapshot")?;
        let inconsistent = |error| StoreError::inconsistent("pg_current_snapshot", "text", error);
        Ok(Self {
            server: server.ok_or(StoreError::Replica)?,
            seen: seen.parse().map_err(inconsistent)?,
        })
    }

    fn may_follow(&self, earlier: &Self) -> bool {
        self.server == earlier.server && self.seen.may_follow(&earlier.seen)
    }

    /// Rows from a dump bear the numbers of another server: those that are still to come here are
    /// not news each time.
    fn condition(&self) -> String {
        let has_not_seen = self.seen.has_not_seen("xid");
        format!("where {has_not_seen} and xid < pg_snapshot_xmax(pg_current_snapshot())")
    }
}

fn entry(row: &PgRow) -> Result<Entry, StoreError> {
    let id = row.try_get::<Uuid, _>("id")?.into();
    let revocation = Revocation { id, expires_at: time(row, "expires_at")? };
    Ok(Entry { revocation, revoked_at: time(row, "revoked_at")? })
}

fn time(row: &PgRow, column: &'static str) -> Result<OffsetDateTime, StoreError> {
    from_micros("revocations", column, row.try_get(column)?)
}
