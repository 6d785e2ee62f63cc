//! Revocations on SQLite.

use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, QueryBuilder, Sqlite};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit;
use super::database::{NOW, SqliteStore, now};
use super::feed::SqliteFeed;
use crate::domain::{AuditRecord, CLOCK_SKEW_ALLOWANCE, Revocation, RevocationId};
use crate::store::columns::to_micros;
use crate::store::error::StoreError;
use crate::store::feed::{Feed, Listener};
use crate::store::revocations::RevocationStore;

/// Rows of one statement: SQLite allows at most 32,766 parameters.
const ROWS_PER_STATEMENT: usize = 10_000;

#[async_trait]
impl RevocationStore for SqliteStore {
    async fn revoke(
        &self,
        revocations: &[Revocation],
        records: &[AuditRecord],
    ) -> Result<OffsetDateTime, StoreError> {
        let mut transaction = self.begin_write().await?;
        let now = now(&mut transaction).await?;
        for chunk in revocations.chunks(ROWS_PER_STATEMENT) {
            let mut delete = QueryBuilder::<Sqlite>::new("delete from sessions where id in (");
            let mut list = delete.separated(", ");
            for revocation in chunk {
                list.push_bind(revocation.id.as_uuid());
            }
            delete.push(")").build().execute(&mut *transaction).await?;
        }
        insert_revocations(&mut transaction, revocations, now).await?;
        audit::insert(&mut transaction, records).await?;
        transaction.commit().await?;
        Ok(now)
    }

    async fn find_revoked(
        &self,
        ids: &[RevocationId],
    ) -> Result<HashSet<RevocationId>, StoreError> {
        let mut select = QueryBuilder::<Sqlite>::new("select id from revocations where id in (");
        let mut list = select.separated(", ");
        for id in ids {
            list.push_bind(id.as_uuid());
        }
        let revoked: Vec<Uuid> =
            select.push(")").build_query_scalar().fetch_all(&self.pool).await?;
        Ok(revoked.into_iter().map(RevocationId::from).collect())
    }

    fn feed(&self) -> Box<dyn Feed> {
        Box::new(SqliteFeed::new(self.options.clone()))
    }

    fn listener(&self) -> Option<Box<dyn Listener>> {
        None
    }

    async fn delete_expired_revocations(
        &self,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let result = sqlx::query(AssertSqlSafe(format!(
            "delete from revocations where position in (
                 select position from revocations where expires_at < min(?1, {NOW}) - ?2
                 order by expires_at limit ?3)"
        )))
        .bind(to_micros(now))
        .bind(i64::try_from(CLOCK_SKEW_ALLOWANCE.as_micros()).unwrap_or(i64::MAX))
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(result.rows_affected())
    }
}

/// Inserts revocations, except those that exist already.
pub(super) async fn insert_revocations(
    connection: &mut SqliteConnection,
    revocations: &[Revocation],
    revoked_at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    for chunk in revocations.chunks(ROWS_PER_STATEMENT) {
        QueryBuilder::<Sqlite>::new("insert into revocations (id, expires_at, revoked_at) ")
            .push_values(chunk, |mut row, revocation| {
                row.push_bind(revocation.id.as_uuid())
                    .push_bind(to_micros(revocation.expires_at))
                    .push_bind(to_micros(revoked_at));
            })
            .push(" on conflict (id) do nothing")
            .build()
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
