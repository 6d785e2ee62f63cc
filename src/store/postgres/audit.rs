//! The audit log on PostgreSQL.

use std::slice;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row};
use time::OffsetDateTime;

use super::columns::time_column;
use super::database::PostgresStore;
use crate::domain::{AuditRecord, RequestOrigin, SessionId, UserId};
use crate::store::audit::{AuditColumns, AuditQuery, AuditStore, ListedAuditRecord, Redaction};
use crate::store::columns::column;
use crate::store::error::StoreError;

/// Columns of a record, without its id.
macro_rules! columns {
    () => {
        "at, action, actor_id, subject_id, session_id, detail, address, user_agent"
    };
}

/// Begins an update that removes the name and the addresses of the account `$1`.
macro_rules! redact {
    () => {
        "update audit_log
         set detail = case when subject_id is distinct from $1 then detail end,
             address = case when actor_id <> $1 then address end,
             user_agent = case when actor_id <> $1 then user_agent end"
    };
}

/// Inserts records from the first eight parameters, which [`bind`] binds. It may be part of the
/// statement of the audited change.
pub(super) const INSERT: &str = concat!(
    "
    insert into audit_log (",
    columns!(),
    ")
    select * from unnest($1::timestamptz[], $2::text[], $3::uuid[], $4::uuid[], $5::uuid[],
                         $6::text[], $7::text[], $8::text[]) as record (",
    columns!(),
    ") "
);

/// Binds the columns of records.
pub(super) fn bind<'q>(
    query: Query<'q, Postgres, PgArguments>,
    records: &[AuditRecord],
) -> Query<'q, Postgres, PgArguments> {
    fn values<T>(records: &[AuditRecord], value: impl Fn(&AuditRecord) -> T) -> Vec<T> {
        records.iter().map(value).collect()
    }
    let address = |origin: &RequestOrigin| origin.address.to_string();
    let user_agent = |origin: &RequestOrigin| origin.user_agent.as_str().to_owned();
    query
        .bind(values(records, |record| record.at))
        .bind(values(records, |record| record.action.into_str()))
        .bind(values(records, |record| record.requester.id()))
        .bind(values(records, |record| record.subject.map(UserId::as_uuid)))
        .bind(values(records, |record| record.session_id.map(SessionId::as_uuid)))
        .bind(values(records, |record| record.detail.clone()))
        .bind(values(records, |record| record.requester.origin.as_ref().map(address)))
        .bind(values(records, |record| record.requester.origin.as_ref().map(user_agent)))
}

#[async_trait]
impl AuditStore for PostgresStore {
    async fn insert_audit_record(&self, record: &AuditRecord) -> Result<(), StoreError> {
        let insert = bind(self.executor.query(INSERT), slice::from_ref(record));
        insert.execute(&self.executor).await?;
        Ok(())
    }

    async fn list_audit_records(
        &self,
        query: &AuditQuery,
    ) -> Result<Vec<ListedAuditRecord>, StoreError> {
        let select = self.executor.query(concat!(
            "select id, ",
            columns!(),
            " from audit_log
             where ($1::uuid is null or actor_id = $1) and ($2::uuid is null or subject_id = $2)
               and ($3::text is null or action = $3)
               and ($4::timestamptz is null or at >= $4) and ($5::timestamptz is null or at < $5)
               and ($6::bigint is null or id < $6)
             order by id desc limit $7"
        ));
        let rows = select
            .bind(query.actor.map(UserId::as_uuid))
            .bind(query.subject.map(UserId::as_uuid))
            .bind(query.action.map(|action| action.into_str()))
            .bind(query.since)
            .bind(query.until)
            .bind(query.after)
            .bind(i64::from(query.limit))
            .fetch_all(&self.executor)
            .await?;
        rows.iter().map(|row| Ok(audit_columns(row)?.list())).collect()
    }

    async fn delete_expired_audit_records(
        &self,
        now: OffsetDateTime,
        retention: Duration,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let delete = self.executor.query(
            "delete from audit_log where id in (
                 select id from audit_log
                 where at < least($1, clock_timestamp()) - make_interval(secs => $2)
                 order by at limit $3 for update skip locked)",
        );
        let delete = delete.bind(now).bind(retention.as_secs_f64()).bind(i64::from(limit));
        Ok(delete.execute(&self.executor).await?.rows_affected())
    }

    async fn find_redaction(
        &self,
        now: OffsetDateTime,
        retention: Duration,
    ) -> Result<Option<Redaction>, StoreError> {
        let select = self.executor.query(
            "select id, subject_id from audit_log
             where action = 'user.deleted' and detail is not null and subject_id is not null
               and not exists (select 1 from users where users.id = subject_id)
               and at < least($1, clock_timestamp()) - make_interval(secs => $2)
             order by at limit 1",
        );
        let select = select.bind(now).bind(retention.as_secs_f64());
        let Some(row) = select.fetch_optional(&self.executor).await? else { return Ok(None) };
        Ok(Some(Redaction::new(row.try_get("id")?, row.try_get("subject_id")?)))
    }

    async fn redact_records(
        &self,
        redaction: Redaction,
        limit: u32,
    ) -> Result<Option<Redaction>, StoreError> {
        let update = self.executor.query(concat!(
            "with batch as (
                 (select id from audit_log where subject_id = $1 and id > $2 order by id limit $3)
                 union
                 (select id from audit_log where actor_id = $1 and id > $2 order by id limit $3)
                 order by id limit $3),
             locked as (
                 select id from audit_log where id in (select id from batch) and id <> $4
                 order by id for update),
             redacted as (",
            redact!(),
            " where id in (select id from locked))
             select count(*) as count, max(id) as last from batch"
        ));
        let row = update
            .bind(redaction.account)
            .bind(redaction.after)
            .bind(i64::from(limit))
            .bind(redaction.deletion)
            .fetch_one(&self.executor)
            .await?;
        if row.try_get::<i64, _>("count")? >= i64::from(limit) {
            return Ok(Some(Redaction { after: row.try_get("last")?, ..redaction }));
        }
        let update = self.executor.query(concat!(redact!(), " where id = $2"));
        let update = update.bind(redaction.account).bind(redaction.deletion);
        update.execute(&self.executor).await?;
        Ok(None)
    }
}

fn audit_columns(row: &PgRow) -> Result<AuditColumns, StoreError> {
    Ok(AuditColumns {
        id: column(row, "audit_log", "id")?,
        at: time_column(row, "audit_log", "at"),
        action: column(row, "audit_log", "action"),
        actor_id: column(row, "audit_log", "actor_id"),
        subject_id: column(row, "audit_log", "subject_id"),
        session_id: column(row, "audit_log", "session_id"),
        detail: column(row, "audit_log", "detail"),
        address: column(row, "audit_log", "address"),
        user_agent: column(row, "audit_log", "user_agent"),
    })
}
