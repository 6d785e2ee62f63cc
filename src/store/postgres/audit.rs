//! The audit log on Postgres.

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Gateway;
use crate::domain::{AuditRecord, Client, Initiator, Label, SessionId, UserId};
use crate::store::{AuditEntry, AuditPage, StoreError, action, client};

/// Adds records, whose columns are the first eight parameters: see [`bind`]. It can be part of a
/// statement that does what they tell of.
pub(super) const INSERT: &str = "
    insert into audit_log (at, action, actor_id, subject_id, session_id, detail, address, user_agent)
    select * from unnest($1::timestamptz[], $2::text[], $3::uuid[], $4::uuid[], $5::uuid[],
                         $6::text[], $7::text[], $8::text[]) ";

/// Binds the columns of records.
pub(super) fn bind<'q>(
    query: Query<'q, Postgres, PgArguments>,
    records: &[AuditRecord],
) -> Query<'q, Postgres, PgArguments> {
    fn column<T>(records: &[AuditRecord], value: impl Fn(&AuditRecord) -> T) -> Vec<T> {
        records.iter().map(value).collect()
    }
    let address = |client: &Client| client.address.to_string();
    let user_agent = |client: &Client| client.user_agent.as_str().to_owned();
    query
        .bind(column(records, |record| record.at))
        .bind(column(records, |record| record.action.as_str()))
        .bind(column(records, |record| record.by.user_id.map(UserId::as_uuid)))
        .bind(column(records, |record| record.subject.as_uuid()))
        .bind(column(records, |record| record.session.map(SessionId::as_uuid)))
        .bind(column(records, |record| record.detail.clone()))
        .bind(column(records, |record| record.by.client.as_ref().map(address)))
        .bind(column(records, |record| record.by.client.as_ref().map(user_agent)))
}

/// Reads a page.
pub(super) async fn read(
    gateway: &Gateway,
    page: &AuditPage,
) -> Result<Vec<AuditEntry>, StoreError> {
    let select = gateway.query(
        "select id, at, action, actor_id, subject_id, session_id, detail, address, user_agent
         from audit_log
         where ($1::uuid is null or actor_id = $1) and ($2::uuid is null or subject_id = $2)
           and ($3::text is null or action = $3)
           and ($4::timestamptz is null or at >= $4) and ($5::timestamptz is null or at < $5)
           and ($6::bigint is null or id < $6)
         order by id desc limit $7",
    );
    let rows = select
        .bind(page.actor.map(UserId::as_uuid))
        .bind(page.subject.map(UserId::as_uuid))
        .bind(page.action.map(Label::as_str))
        .bind(page.since)
        .bind(page.until)
        .bind(page.after)
        .bind(i64::from(page.limit))
        .fetch_all(gateway)
        .await?;
    rows.iter().map(entry).collect()
}

/// Deletes at most `limit` records that are older than the retention; returns how many.
pub(super) async fn sweep(
    gateway: &Gateway,
    now: OffsetDateTime,
    retention: Duration,
    limit: u32,
) -> Result<u64, StoreError> {
    let delete = gateway.query(
        "delete from audit_log where id in (
             select id from audit_log
             where at < least($1, clock_timestamp()) - make_interval(secs => $2)
             order by at limit $3 for update skip locked)",
    );
    let delete = delete.bind(now).bind(retention.as_secs_f64()).bind(i64::from(limit));
    let swept = delete.execute(gateway).await?;
    Ok(swept.rows_affected())
}

fn entry(row: &PgRow) -> Result<AuditEntry, StoreError> {
    let address: Option<&str> = row.try_get("address")?;
    let user_agent: Option<&str> = row.try_get("user_agent")?;
    let seen = |address| client("audit_log", address, user_agent.unwrap_or_default());
    let by = Initiator {
        user_id: row.try_get::<Option<Uuid>, _>("actor_id")?.map(UserId::from),
        session: None,
        client: address.map(seen).transpose()?,
    };
    let record = AuditRecord {
        at: row.try_get("at")?,
        action: action(row.try_get("action")?)?,
        by,
        subject: row.try_get::<Uuid, _>("subject_id")?.into(),
        session: row.try_get::<Option<Uuid>, _>("session_id")?.map(SessionId::from),
        detail: row.try_get("detail")?,
    };
    Ok(AuditEntry { id: row.try_get("id")?, record })
}
