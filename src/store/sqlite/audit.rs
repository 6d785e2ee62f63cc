//! The audit log on SQLite.

use std::slice;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, QueryBuilder, Row, Sqlite};
use time::OffsetDateTime;
use uuid::Uuid;

use super::database::{NOW, SqliteStore, micros};
use crate::domain::{AuditRecord, SessionId, UserId};
use crate::store::audit::{AuditColumns, AuditQuery, AuditStore, ListedAuditRecord, Redaction};
use crate::store::columns::{column, from_micros, to_micros};
use crate::store::error::StoreError;

/// Rows of one statement: SQLite allows at most 32,766 parameters.
const ROWS_PER_STATEMENT: usize = 4_000;

/// Columns of a record, without its id.
macro_rules! columns {
    () => {
        "at, action, actor_id, subject_id, session_id, detail, address, user_agent"
    };
}

/// Inserts records, as part of the transaction of the audited change.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    records: &[AuditRecord],
) -> Result<(), sqlx::Error> {
    for chunk in records.chunks(ROWS_PER_STATEMENT) {
        QueryBuilder::<Sqlite>::new(concat!("insert into audit_log (", columns!(), ") "))
            .push_values(chunk, |mut row, record| {
                let origin = record.requester.origin.as_ref();
                row.push_bind(to_micros(record.at))
                    .push_bind(record.action.into_str())
                    .push_bind(record.requester.id())
                    .push_bind(record.subject.map(UserId::as_uuid))
                    .push_bind(record.session_id.map(SessionId::as_uuid))
                    .push_bind(record.detail.as_deref())
                    .push_bind(origin.map(|origin| origin.address.to_string()))
                    .push_bind(origin.map(|origin| origin.user_agent.as_str()));
            })
            .build()
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

#[async_trait]
impl AuditStore for SqliteStore {
    async fn insert_audit_record(&self, record: &AuditRecord) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        insert(&mut connection, slice::from_ref(record)).await?;
        Ok(())
    }

    async fn list_audit_records(
        &self,
        query: &AuditQuery,
    ) -> Result<Vec<ListedAuditRecord>, StoreError> {
        let select = sqlx::query(concat!(
            "select id, ",
            columns!(),
            " from audit_log
             where (?1 is null or actor_id = ?1) and (?2 is null or subject_id = ?2)
               and (?3 is null or action = ?3) and (?4 is null or at >= ?4) and (?5 is null or at < ?5)
               and (?6 is null or id < ?6)
             order by id desc limit ?7"
        ));
        let rows = select
            .bind(query.actor.map(UserId::as_uuid))
            .bind(query.subject.map(UserId::as_uuid))
            .bind(query.action.map(|action| action.into_str()))
            .bind(query.since.map(to_micros))
            .bind(query.until.map(to_micros))
            .bind(query.after)
            .bind(query.limit)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| Ok(audit_columns(row)?.list())).collect()
    }

    async fn delete_expired_audit_records(
        &self,
        now: OffsetDateTime,
        retention: Duration,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let result = sqlx::query(AssertSqlSafe(format!(
            "delete from audit_log where id in (
                 select id from audit_log where at < min(?1, {NOW}) - ?2 order by at limit ?3)"
        )))
        .bind(to_micros(now))
        .bind(i64::try_from(retention.as_micros()).unwrap_or(i64::MAX))
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(result.rows_affected())
    }

    async fn find_redaction(
        &self,
        now: OffsetDateTime,
        retention: Duration,
    ) -> Result<Option<Redaction>, StoreError> {
        let select = sqlx::query(AssertSqlSafe(format!(
            "select id, subject_id from audit_log
             where action = 'user.deleted' and detail is not null and subject_id is not null
               and not exists (select 1 from users where users.id = subject_id)
               and at < min(?1, {NOW}) - ?2
             order by at limit 1"
        )));
        let select = select.bind(to_micros(now)).bind(micros(retention));
        let Some(row) = select.fetch_optional(&self.pool).await? else { return Ok(None) };
        Ok(Some(Redaction::new(row.try_get("id")?, row.try_get("subject_id")?)))
    }

    async fn redact_records(
        &self,
        redaction: Redaction,
        limit: u32,
    ) -> Result<Option<Redaction>, StoreError> {
        let mut transaction = self.begin_write().await?;
        let select = sqlx::query_scalar(
            "select id from (select id from audit_log where subject_id = ?1 and id > ?2 order by id limit ?3)
             union
             select id from (select id from audit_log where actor_id = ?1 and id > ?2 order by id limit ?3)
             order by id limit ?3",
        );
        let select = select.bind(redaction.account).bind(redaction.after).bind(limit);
        let ids: Vec<i64> = select.fetch_all(&mut *transaction).await?;
        for id in ids.iter().filter(|id| **id != redaction.deletion) {
            redact(&mut transaction, redaction.account, *id).await?;
        }
        let after = ids.last().filter(|_| ids.len() >= limit as usize);
        if after.is_none() {
            redact(&mut transaction, redaction.account, redaction.deletion).await?;
        }
        transaction.commit().await?;
        Ok(after.map(|&after| Redaction { after, ..redaction }))
    }
}

/// Removes the name and the addresses of an account from a record.
async fn redact(
    connection: &mut SqliteConnection,
    account: Uuid,
    id: i64,
) -> Result<(), StoreError> {
    let update = sqlx::query(
        "update audit_log
         set detail = case when subject_id is not ?1 then detail end,
             address = case when actor_id <> ?1 then address end,
             user_agent = case when actor_id <> ?1 then user_agent end
         where id = ?2",
    );
    update.bind(account).bind(id).execute(connection).await?;
    Ok(())
}

fn audit_columns(row: &SqliteRow) -> Result<AuditColumns, StoreError> {
    let at = column(row, "audit_log", "at");
    Ok(AuditColumns {
        id: column(row, "audit_log", "id")?,
        at: at.and_then(|at| from_micros("audit_log", "at", at)),
        action: column(row, "audit_log", "action"),
        actor_id: column(row, "audit_log", "actor_id"),
        subject_id: column(row, "audit_log", "subject_id"),
        session_id: column(row, "audit_log", "session_id"),
        detail: column(row, "audit_log", "detail"),
        address: column(row, "audit_log", "address"),
        user_agent: column(row, "audit_log", "user_agent"),
    })
}
