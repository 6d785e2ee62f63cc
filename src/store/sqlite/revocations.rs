//! Revocations on SQLite.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, QueryBuilder, Sqlite};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit;
use super::database::{NOW, SqliteStore, micros, now};
use super::feed::SqliteFeed;
use crate::domain::{
    AuditRecord, CLOCK_SKEW_ALLOWANCE, MAX_LEEWAY, Revocation, RevocationId, UserId,
};
use crate::store::columns::{from_micros, to_micros};
use crate::store::error::StoreError;
use crate::store::feed::{Feed, Listener};
use crate::store::revocations::{CommittedRevocations, LockedSessions, RevocationStore};

/// Expiry of the last access token of a session. For a session that an older version opened, it is
/// the expiry of the session. It is one that can be read, even if the column holds a time outside
/// of the calendar.
pub(super) const TOKENS_EXPIRE_AT: &str =
    "max(0, min(253402214400000000, coalesce(tokens_expire_at, expires_at)))";

#[async_trait]
impl RevocationStore for SqliteStore {
    async fn revoke(
        &self,
        revocations: &[(Revocation, Option<UserId>)],
        records: &[AuditRecord],
        _: LockedSessions,
    ) -> Result<CommittedRevocations, StoreError> {
        let mut transaction = self.begin_write().await?;
        let committed_at = now(&mut transaction).await?;
        let mut committed = Vec::new();
        for (revocation, user_id) in revocations {
            let tokens_expire_at = delete_session(&mut transaction, revocation.id).await?;
            let revocation = Revocation {
                expires_at: tokens_expire_at
                    .unwrap_or(revocation.expires_at)
                    .max(revocation.expires_at),
                ..*revocation
            };
            if insert_revocation(&mut transaction, &revocation, *user_id, committed_at).await? {
                committed.push(revocation);
            }
        }
        audit::insert(&mut transaction, records).await?;
        transaction.commit().await?;
        Ok(CommittedRevocations { revocations: committed, committed_at, locked: HashSet::new() })
    }

    async fn notify_listeners(&self) -> Result<(), StoreError> {
        Ok(())
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
        Box::new(SqliteFeed::new(self.options.clone(), Arc::clone(&self.server)))
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
        .bind(micros(CLOCK_SKEW_ALLOWANCE))
        .bind(limit)
        .execute(&self.pool)
        .await?;
        Ok(result.rows_affected())
    }
}

/// Deletes a session. Returns the expiry of its tokens, with the largest leeway; `None` if there is
/// no such session.
async fn delete_session(
    connection: &mut SqliteConnection,
    id: RevocationId,
) -> Result<Option<OffsetDateTime>, StoreError> {
    let delete = sqlx::query_scalar(AssertSqlSafe(format!(
        "delete from sessions where id = ?1 returning {TOKENS_EXPIRE_AT} + ?2"
    )));
    let delete = delete.bind(id.as_uuid()).bind(micros(MAX_LEEWAY));
    match delete.fetch_optional(connection).await? {
        Some(expires_at) => Ok(Some(from_micros("sessions", "tokens_expire_at", expires_at)?)),
        None => Ok(None),
    }
}

/// Inserts a revocation, or replaces one that expires earlier by a new entry of the feed. Returns
/// `true` if it did.
pub(super) async fn insert_revocation(
    connection: &mut SqliteConnection,
    revocation: &Revocation,
    user_id: Option<UserId>,
    revoked_at: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let insert = sqlx::query(
        "insert or replace into revocations (id, expires_at, revoked_at, user_id)
         select ?1, ?2, ?3, ?4
         where not exists (select 1 from revocations where id = ?1 and expires_at >= ?2)",
    );
    let result = insert
        .bind(revocation.id.as_uuid())
        .bind(to_micros(revocation.expires_at))
        .bind(to_micros(revoked_at))
        .bind(user_id.map(UserId::as_uuid))
        .execute(connection)
        .await?;
    Ok(result.rows_affected() > 0)
}
