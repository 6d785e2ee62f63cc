//! Failure counters and known networks on PostgreSQL.
//!
//! Attempts and their results do not wait for the disk. A login does so once, for its session.

use std::slice;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use uuid::Uuid;

use super::audit;
use super::database::PostgresStore;
use super::executor::ASYNCHRONOUS_COMMIT;
use crate::domain::{
    ATTEMPT_TIMEOUT, ATTEMPTS_IN_FLIGHT, AccountError, AttemptResult, AuditRecord, CounterId,
    FAILURE_RETENTION, FailureLimits, KNOWN_NETWORK_RETENTION, KNOWN_NETWORKS_PER_USER, UserId,
};
use crate::store::error::StoreError;
use crate::store::throttle::{Attempt, Reservation, ThrottleStore, delay_sql};
use crate::store::users::WriteError;

#[async_trait]
impl ThrottleStore for PostgresStore {
    async fn reserve_attempt(&self, attempt: &Attempt) -> Result<Reservation, StoreError> {
        let reserve = self.executor.query(AssertSqlSafe(reserve_sql(attempt.limits)));
        let row = reserve
            .bind(attempt.counter.as_uuid())
            .bind(attempt.network.map(CounterId::as_uuid))
            .bind(attempt.prefers_network)
            .bind(attempt.user_id.map(UserId::as_uuid))
            .fetch_one(&self.executor)
            .await?;
        if row.try_get("is_reserved")? {
            let counter = CounterId::from(row.try_get::<Uuid, _>("id")?);
            let is_known_network = row.try_get("is_known")?;
            return Ok(Reservation::Reserved { counter, is_known_network });
        }
        let delay: Option<f64> = row.try_get("delay")?;
        Ok(Reservation::not_reserved(delay.unwrap_or_default()))
    }

    async fn settle_attempt(
        &self,
        counter: CounterId,
        result: AttemptResult,
        limits: FailureLimits,
        network: Option<(CounterId, UserId)>,
    ) -> Result<u32, StoreError> {
        let delay = delay_sql("failures + 1", limits);
        let settle = self.executor.query(AssertSqlSafe(format!(
            "with settled as (
                 update failure_counters
                 set in_flight = greatest(in_flight - 1, 0),
                     latest_at = now(),
                     failures = case $2 when 'success' then 0
                                        when 'failure' then failures + 1
                                        else failures end,
                     next_at = case $2 when 'success' then null
                                       when 'failure' then now() + interval '1 second' * ({delay})
                                       else next_at end
                 where id = $1 returning failures),
             excess as (
                 delete from known_networks where id in (
                     select id from known_networks where user_id = $4 and id <> $3
                     order by latest_login_at desc offset {KNOWN_NETWORKS_PER_USER} - 1)),
             added as (
                 insert into known_networks (id, user_id, latest_login_at)
                 select $3::uuid, $4::uuid, now() where $3 is not null
                 on conflict (id) do update set latest_login_at = now())
             select failures, {ASYNCHRONOUS_COMMIT} from settled"
        )));
        let (network, user) = network.unzip();
        let settled = settle
            .bind(counter.as_uuid())
            .bind(result.into_str())
            .bind(network.map(CounterId::as_uuid))
            .bind(user.map(UserId::as_uuid))
            .fetch_optional(&self.executor)
            .await?;
        // Without a row, an administrator has deleted the counter.
        let failures: i32 = settled.map_or(Ok(0), |row| row.try_get("failures"))?;
        Ok(failures.try_into().unwrap_or_default())
    }

    async fn delete_failures(&self, user: UserId, record: &AuditRecord) -> Result<(), WriteError> {
        let mut lease = self.executor.lease().await?;
        let mut transaction =
            lease.connection()?.begin_with(self.executor.begin_statement()).await?;
        if !self.is_signed_in(&mut transaction, &record.requester).await? {
            return Err(AccountError::RequesterSignedOut.into());
        }
        self.delete_counters(&mut transaction, user).await?;
        let insert = audit::bind(self.executor.query(audit::INSERT), slice::from_ref(record));
        insert.execute(&mut *transaction).await?;
        transaction.commit().await?;
        lease.give_back();
        Ok(())
    }

    async fn delete_expired_failures(&self, limit: u32) -> Result<u64, StoreError> {
        // The conditions are repeated: a row may have been renewed since it was selected.
        let delete = self.executor.query(
            "with counters as (
                 delete from failure_counters where id in (
                     select id from failure_counters
                     where latest_at < now() - make_interval(secs => $1)
                     order by latest_at limit $3)
                   and latest_at < now() - make_interval(secs => $1)
                 returning id),
             networks as (
                 delete from known_networks where id in (
                     select id from known_networks
                     where latest_login_at < now() - make_interval(secs => $2)
                     order by latest_login_at limit $3)
                   and latest_login_at < now() - make_interval(secs => $2)
                 returning id)
             select greatest((select count(*) from counters), (select count(*) from networks)) as count",
        );
        let row = delete
            .bind(FAILURE_RETENTION.as_secs_f64())
            .bind(KNOWN_NETWORK_RETENTION.as_secs_f64())
            .bind(i64::from(limit))
            .fetch_one(&self.executor)
            .await?;
        Ok(row.try_get::<i64, _>("count")?.try_into().unwrap_or_default())
    }
}

impl PostgresStore {
    /// Deletes the failure counters of an account.
    pub(super) async fn delete_counters(
        &self,
        connection: &mut PgConnection,
        user: UserId,
    ) -> Result<(), StoreError> {
        let delete = self.executor.query("delete from failure_counters where user_id = $1");
        delete.bind(user.as_uuid()).execute(connection).await?;
        Ok(())
    }
}

/// Returns the statement that counts an attempt. Its row has the counter, whether the network is
/// known, whether the attempt is counted and, if it is not, the time until the next one.
///
/// A refused attempt finds the row as it was before the statement, and neither locks nor writes it.
fn reserve_sql(limits: FailureLimits) -> String {
    let FailureLimits { free, .. } = limits;
    let seconds = |duration: Duration| format!("interval '{} seconds'", duration.as_secs());
    let is_expired = format!("counter.latest_at < now() - {}", seconds(FAILURE_RETENTION));
    // The results of these attempts are lost.
    let is_stale = format!("counter.latest_at < now() - {}", seconds(ATTEMPT_TIMEOUT));
    // Otherwise, a clock that was set back would prolong the delay.
    let is_future = "counter.latest_at > now() + interval '1 minute'";
    let is_due = format!(
        "(counter.next_at is null or counter.next_at <= now() or {is_expired} or {is_future})"
    );
    let in_flight = format!("case when {is_stale} then 0 else counter.in_flight end");
    let failures = format!(
        "case when {is_expired} then 0
              when {is_stale} then counter.failures + counter.in_flight
              else counter.failures end"
    );
    let known_for = seconds(KNOWN_NETWORK_RETENTION);
    format!(
        "with chosen as (
             select case when is_known and $3 then $2::uuid else $1::uuid end as id, is_known
             from (select exists (select from known_networks
                                  where id = $2 and latest_login_at > now() - {known_for})
                       as is_known) as network),
         reserved as (
             insert into failure_counters as counter
                 (id, user_id, failures, in_flight, latest_at)
             select id, $4::uuid, 0, 1, now() from chosen
             where not exists (select from failure_counters as counter
                               where counter.id = chosen.id and not {is_due})
             on conflict (id) do update
             set failures = {failures}, in_flight = {in_flight} + 1, latest_at = now()
             where {is_due}
               and {in_flight} < greatest(1, least({ATTEMPTS_IN_FLIGHT}, {free} - ({failures})))
             returning id)
         select chosen.id, is_known, exists (select from reserved) as is_reserved,
                (select extract(epoch from counter.next_at - now())::float8
                 from failure_counters as counter
                 where counter.id = chosen.id and not {is_due}) as delay,
                {ASYNCHRONOUS_COMMIT}
         from chosen"
    )
}
