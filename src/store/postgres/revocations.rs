//! Revocations on PostgreSQL.

use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit;
use super::database::PostgresStore;
use super::executor::ASYNCHRONOUS_COMMIT;
use super::feed::PostgresFeed;
use super::listener::PostgresListener;
use crate::domain::{
    AuditRecord, CLOCK_SKEW_ALLOWANCE, MAX_LEEWAY, Revocation, RevocationId, UserId,
};
use crate::store::error::StoreError;
use crate::store::feed::{Feed, Listener};
use crate::store::revocations::{CommittedRevocations, LockedSessions, RevocationStore};

/// Expiry of the last access token of a session. For a session that an older version opened, it is
/// the expiry of the session. It is one that can be read, even if the column holds `infinity`.
pub(super) const TOKENS_EXPIRE_AT: &str = "greatest(timestamptz 'epoch',
    least(timestamptz '9999-12-31 UTC', coalesce(tokens_expire_at, sessions.expires_at)))";

#[async_trait]
impl RevocationStore for PostgresStore {
    async fn revoke(
        &self,
        revocations: &[(Revocation, Option<UserId>)],
        records: &[AuditRecord],
        locked: LockedSessions,
    ) -> Result<CommittedRevocations, StoreError> {
        let given = revocations.iter();
        let ids: Vec<_> = given.clone().map(|(given, _)| given.id.as_uuid()).collect();
        let expiries: Vec<_> = given.clone().map(|(given, _)| given.expires_at).collect();
        let users: Vec<_> = given.map(|(_, user_id)| user_id.map(UserId::as_uuid)).collect();
        let skip_locked = locked.sql();
        // A single statement: without a pooler, the server completes it once it is sent, even if
        // the caller stops waiting. Sessions are locked before revocations, since `added` joins all
        // of `ended` first, and both in the order of their ids. Transactions that take several
        // locks in one order cannot deadlock. `skipped` reads sessions again only if some were not
        // locked here.
        let insert = self.executor.query(AssertSqlSafe(format!(
            "with owned as (
                 select id from sessions where id = any ($9) order by id for update {skip_locked}),
             ended as (
                 delete from sessions where id in (select id from owned)
                 returning id, {TOKENS_EXPIRE_AT} + make_interval(secs => $11) as expires_at),
             skipped as (
                 select id from sessions
                 where $13 and (select count(*) from owned) < cardinality($9)
                   and id = any ($9) and id not in (select id from owned)),
             given as (
                 select distinct on (id) id, expires_at, user_id
                 from unnest($9::uuid[], $10::timestamptz[], $12::uuid[])
                     as given (id, expires_at, user_id)
                 where id not in (select id from skipped)
                 order by id, expires_at desc),
             added as (
                 insert into revocations (id, expires_at, user_id)
                 select id, greatest(given.expires_at, ended.expires_at), user_id
                 from given left join ended using (id) order by id
                 on conflict (id) do update
                 set expires_at = excluded.expires_at, revoked_at = excluded.revoked_at,
                     xid = excluded.xid, user_id = excluded.user_id
                 where revocations.expires_at < excluded.expires_at
                 returning id, expires_at),
             recorded as (
                 {} where record.session_id is null
                       or record.session_id not in (select id from skipped))
             select array_agg(id) as ids, array_agg(expires_at) as expiries,
                    clock_timestamp() as committed_at,
                    array(select id from skipped) as locked,
                    set_config('portcullis.notifies', 'later', true)
             from added",
            audit::INSERT
        )));
        let insert = audit::bind(insert, records).bind(ids).bind(expiries);
        let insert = insert.bind(MAX_LEEWAY.as_secs_f64()).bind(users);
        let insert = insert.bind(locked == LockedSessions::Skip);
        let row = insert.fetch_one(&self.executor).await?;
        let locked: Vec<Uuid> = row.try_get("locked")?;
        let committed = revocations_from_row(&row)?;
        let locked = locked.into_iter().map(RevocationId::from).collect();
        Ok(CommittedRevocations { locked, ..committed })
    }

    async fn notify_listeners(&self) -> Result<(), StoreError> {
        // The commit holds a lock that all notifications take.
        let notify = self.executor.query(AssertSqlSafe(format!(
            "select {ASYNCHRONOUS_COMMIT}, pg_notify('portcullis_revocations', '')"
        )));
        notify.execute(&self.executor).await?;
        Ok(())
    }

    async fn find_revoked(
        &self,
        ids: &[RevocationId],
    ) -> Result<HashSet<RevocationId>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        let select = self.executor.query(
            "select pg_is_in_recovery() as is_replica,
                    array(select id from revocations where id = any ($1)) as revoked",
        );
        let row = select.bind(ids).fetch_one(&self.executor).await?;
        if row.try_get("is_replica")? {
            return Err(StoreError::Replica);
        }
        let revoked: Vec<Uuid> = row.try_get("revoked")?;
        Ok(revoked.into_iter().map(RevocationId::from).collect())
    }

    fn feed(&self) -> Box<dyn Feed> {
        Box::new(PostgresFeed::new(self.options.clone()))
    }

    fn listener(&self) -> Option<Box<dyn Listener>> {
        let options = self.listen_options.clone()?;
        Some(Box::new(PostgresListener::new(options)))
    }

    async fn delete_expired_revocations(
        &self,
        now: OffsetDateTime,
        limit: u32,
    ) -> Result<u64, StoreError> {
        // `skip locked`: instances that clean up at the same time skip each other's rows instead of
        // waiting.
        let delete = self.executor.query(
            "delete from revocations where id in (
                 select id from revocations
                 where expires_at < least($1, clock_timestamp()) - make_interval(secs => $2)
                 order by expires_at limit $3 for update skip locked)",
        );
        let result = delete
            .bind(now)
            .bind(CLOCK_SKEW_ALLOWANCE.as_secs_f64())
            .bind(i64::from(limit))
            .execute(&self.executor)
            .await?;
        Ok(result.rows_affected())
    }
}

impl PostgresStore {
    /// Inserts a revocation, or gives the present one the later expiry.
    pub(super) async fn insert_revocation(
        &self,
        connection: &mut PgConnection,
        revocation: &Revocation,
    ) -> Result<(), StoreError> {
        let insert = self.executor.query(
            "insert into revocations (id, expires_at) values ($1, $2)
             on conflict (id) do update
             set expires_at = excluded.expires_at, revoked_at = excluded.revoked_at,
                 xid = excluded.xid
             where revocations.expires_at < excluded.expires_at",
        );
        let insert = insert.bind(revocation.id.as_uuid()).bind(revocation.expires_at);
        insert.execute(connection).await?;
        Ok(())
    }
}

impl LockedSessions {
    /// Returns the end of a locking clause.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Wait => "",
            Self::Skip => "skip locked",
        }
    }
}

/// Parses the ids and expiries that one statement has aggregated.
pub(super) fn revocations_from_row(row: &PgRow) -> Result<CommittedRevocations, StoreError> {
    let ids: Option<Vec<Uuid>> = row.try_get("ids")?;
    let expiries: Option<Vec<OffsetDateTime>> = row.try_get("expiries")?;
    let pairs = ids.unwrap_or_default().into_iter().zip(expiries.unwrap_or_default());
    let revocations = pairs.map(|(id, expires_at)| Revocation { id: id.into(), expires_at });
    Ok(CommittedRevocations {
        revocations: revocations.collect(),
        committed_at: row.try_get("committed_at")?,
        locked: HashSet::new(),
    })
}
