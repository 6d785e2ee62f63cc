//! The audit log on SQLite.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, QueryBuilder, Row, Sqlite, query};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{NOW, micros};
use crate::domain::{AuditRecord, Initiator, Label, SessionId, UserId};
use crate::store::{AuditEntry, AuditPage, StoreError, action, client, from_micros};

/// Rows of one INSERT: SQLite takes at most 32,766 parameters in a statement.
const ROWS_PER_INSERT: usize = 4_000;

/// Adds records.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    records: &[AuditRecord],
) -> Result<(), sqlx::Error> {
    for chunk in records.chunks(ROWS_PER_INSERT) {
        QueryBuilder::<Sqlite>::new(
            "insert into audit_log (at, action, actor_id, subject_id, session_id, detail,
                                    address, user_agent) ",
        )
        .push_values(chunk, |mut row, record| {
            let client = record.by.client.as_ref();
            row.push_bind(micros(record.at))
                .push_bind(record.action.as_str())
                .push_bind(record.by.user_id.map(UserId::as_uuid))
                .push_bind(record.subject.as_uuid())
                .push_bind(record.session.map(SessionId::as_uuid))
                .push_bind(record.detail.as_deref())
                .push_bind(client.map(|client| client.address.to_string()))
                .push_bind(client.map(|client| client.user_agent.as_str()));
        })
        .build()
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Reads a page.
pub(super) async fn read(
    pool: &SqlitePool,
    page: &AuditPage,
) -> Result<Vec<AuditEntry>, StoreError> {
    let rows = query(
        "select id, at, action, actor_id, subject_id, session_id, detail, address, user_agent
         from audit_log
         where (?1 is null or actor_id = ?1) and (?2 is null or subject_id = ?2)
           and (?3 is null or action = ?3) and (?4 is null or at >= ?4) and (?5 is null or at < ?5)
           and (?6 is null or id < ?6)
         order by id desc limit ?7",
    )
    .bind(page.actor.map(UserId::as_uuid))
    .bind(page.subject.map(UserId::as_uuid))
    .bind(page.action.map(Label::as_str))
    .bind(page.since.map(micros))
    .bind(page.until.map(micros))
    .bind(page.after)
    .bind(page.limit)
    .fetch_all(pool)
    .await?;
    rows.iter().map(entry).collect()
}

/// Deletes at most `limit` records that are older than the retention; returns how many.
pub(super) async fn sweep(
    pool: &SqlitePool,
    now: OffsetDateTime,
    retention: Duration,
    limit: u32,
) -> Result<u64, StoreError> {
    let swept = query(AssertSqlSafe(format!(
        "delete from audit_log where id in (
             select id from audit_log where at < min(?1, {NOW}) - ?2 order by at limit ?3)"
    )))
    .bind(micros(now))
    .bind(i64::try_from(retention.as_micros()).unwrap_or(i64::MAX))
    .bind(limit)
    .execute(pool)
    .await?;
    Ok(swept.rows_affected())
}

fn entry(row: &SqliteRow) -> Result<AuditEntry, StoreError> {
    let address: Option<&str> = row.try_get("address")?;
    let user_agent: Option<&str> = row.try_get("user_agent")?;
    let seen = |address| client("audit_log", address, user_agent.unwrap_or_default());
    let by = Initiator {
        user_id: row.try_get::<Option<Uuid>, _>("actor_id")?.map(UserId::from),
        session: None,
        client: address.map(seen).transpose()?,
    };
    let record = AuditRecord {
        at: from_micros("audit_log", "at", row.try_get("at")?)?,
        action: action(row.try_get("action")?)?,
        by,
        subject: row.try_get::<Uuid, _>("subject_id")?.into(),
        session: row.try_get::<Option<Uuid>, _>("session_id")?.map(SessionId::from),
        detail: row.try_get("detail")?,
    };
    Ok(AuditEntry { id: row.try_get("id")?, record })
}
