//! Failure counters and known networks on SQLite.

use std::slice;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqliteConnection;

use super::audit;
use super::database::{NOW, SqliteStore, micros};
use super::requesters::is_signed_in;
use crate::domain::{
    ATTEMPT_TIMEOUT, ATTEMPTS_IN_FLIGHT, AccountError, AttemptResult, AuditRecord, CounterId,
    FAILURE_RETENTION, FailureLimits, KNOWN_NETWORK_RETENTION, KNOWN_NETWORKS_PER_USER, UserId,
};
use crate::store::error::StoreError;
use crate::store::throttle::{Attempt, Reservation, ThrottleStore, delay_sql};
use crate::store::users::WriteError;

#[async_trait]
impl ThrottleStore for SqliteStore {
    async fn reserve_attempt(&self, attempt: &Attempt) -> Result<Reservation, StoreError> {
        let known_since = format!("{NOW} - {}", micros(KNOWN_NETWORK_RETENTION));
        let is_known_network = sqlx::query_scalar(AssertSqlSafe(format!(
            "select exists (select 1 from known_networks
                            where id = ?1 and latest_login_at > {known_since})"
        )))
        .bind(attempt.network.map(CounterId::as_uuid))
        .fetch_one(&self.pool)
        .await?;
        let counter = match attempt.network {
            Some(network) if is_known_network && attempt.prefers_network => network,
            _ => attempt.counter,
        };
        // Before the upsert, which takes the lock of the only writer.
        let is_due = is_due();
        let delay: Option<f64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "select (next_at - {NOW}) / 1e6 from failure_counters where id = ?1 and not {is_due}"
        )))
        .bind(counter.as_uuid())
        .fetch_optional(&self.pool)
        .await?;
        if let Some(delay) = delay {
            return Ok(Reservation::not_reserved(delay));
        }
        let reserved = sqlx::query(AssertSqlSafe(reserve_sql(attempt.limits)))
            .bind(counter.as_uuid())
            .bind(attempt.user_id.map(UserId::as_uuid))
            .execute(&self.pool)
            .await?;
        if reserved.rows_affected() == 1 {
            return Ok(Reservation::Reserved { counter, is_known_network });
        }
        Ok(Reservation::Busy)
    }

    async fn settle_attempt(
        &self,
        counter: CounterId,
        result: AttemptResult,
        limits: FailureLimits,
        network: Option<(CounterId, UserId)>,
    ) -> Result<u32, StoreError> {
        let delay = delay_sql("failures + 1", limits);
        let mut transaction = self.begin_write().await?;
        let settled = sqlx::query_scalar(AssertSqlSafe(format!(
            "update failure_counters
             set in_flight = max(in_flight - 1, 0),
                 latest_at = {NOW},
                 failures = case ?2 when 'success' then 0
                                    when 'failure' then failures + 1
                                    else failures end,
                 next_at = case ?2 when 'success' then null
                                   when 'failure' then {NOW} + 1000000 * ({delay})
                                   else next_at end
             where id = ?1 returning failures"
        )))
        .bind(counter.as_uuid())
        .bind(result.into_str())
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some((network, user)) = network {
            insert_known_network(&mut transaction, network, user).await?;
        }
        transaction.commit().await?;
        // Without a row, an administrator has deleted the counter.
        Ok(settled.unwrap_or_default())
    }

    async fn delete_failures(&self, user: UserId, record: &AuditRecord) -> Result<(), WriteError> {
        let mut transaction = self.begin_write().await?;
        if !is_signed_in(&mut transaction, &record.requester).await? {
            return Err(AccountError::RequesterSignedOut.into());
        }
        delete_counters(&mut transaction, user).await?;
        audit::insert(&mut transaction, slice::from_ref(record)).await?;
        Ok(transaction.commit().await?)
    }

    async fn delete_expired_failures(&self, limit: u32) -> Result<u64, StoreError> {
        let counters = sqlx::query(AssertSqlSafe(format!(
            "delete from failure_counters where id in (
                 select id from failure_counters where latest_at < {NOW} - ?1
                 order by latest_at limit ?2)"
        )));
        let counters = counters.bind(micros(FAILURE_RETENTION)).bind(limit).execute(&self.pool);
        let counters = counters.await?.rows_affected();
        let networks = sqlx::query(AssertSqlSafe(format!(
            "delete from known_networks where id in (
                 select id from known_networks where latest_login_at < {NOW} - ?1
                 order by latest_login_at limit ?2)"
        )));
        let networks =
            networks.bind(micros(KNOWN_NETWORK_RETENTION)).bind(limit).execute(&self.pool);
        Ok(networks.await?.rows_affected().max(counters))
    }
}

/// Deletes the failure counters of an account.
pub(super) async fn delete_counters(
    connection: &mut SqliteConnection,
    user: UserId,
) -> Result<(), StoreError> {
    let delete = sqlx::query("delete from failure_counters where user_id = ?1");
    delete.bind(user.as_uuid()).execute(connection).await?;
    Ok(())
}

/// Makes a network known to an account, and deletes the oldest ones that are too many.
async fn insert_known_network(
    connection: &mut SqliteConnection,
    network: CounterId,
    user: UserId,
) -> Result<(), StoreError> {
    let delete = sqlx::query(
        "delete from known_networks where id in (
             select id from known_networks where user_id = ?2 and id <> ?1
             order by latest_login_at desc limit -1 offset ?3 - 1)",
    );
    delete
        .bind(network.as_uuid())
        .bind(user.as_uuid())
        .bind(KNOWN_NETWORKS_PER_USER)
        .execute(&mut *connection)
        .await?;
    let insert = sqlx::query(AssertSqlSafe(format!(
        "insert into known_networks (id, user_id, latest_login_at) values (?1, ?2, {NOW})
         on conflict (id) do update set latest_login_at = {NOW}"
    )));
    insert.bind(network.as_uuid()).bind(user.as_uuid()).execute(connection).await?;
    Ok(())
}

/// Returns the statement that counts an attempt, unless it is refused.
fn reserve_sql(limits: FailureLimits) -> String {
    let FailureLimits { free, .. } = limits;
    let is_expired = is_before(FAILURE_RETENTION);
    // The results of these attempts are lost.
    let is_stale = is_before(ATTEMPT_TIMEOUT);
    let is_due = is_due();
    let in_flight = format!("case when {is_stale} then 0 else in_flight end");
    let failures = format!(
        "case when {is_expired} then 0 when {is_stale} then failures + in_flight else failures end"
    );
    format!(
        "insert into failure_counters (id, user_id, failures, in_flight, latest_at)
         values (?1, ?2, 0, 1, {NOW})
         on conflict (id) do update
         set failures = {failures}, in_flight = {in_flight} + 1, latest_at = {NOW}
         where {is_due}
           and {in_flight} < max(1, min({ATTEMPTS_IN_FLIGHT}, {free} - ({failures})))"
    )
}

/// Returns an SQL condition: no delay is left.
fn is_due() -> String {
    let is_expired = is_before(FAILURE_RETENTION);
    // Otherwise, a clock that was set back would prolong the delay.
    let is_future = format!("latest_at > {NOW} + 60000000");
    format!("(next_at is null or next_at <= {NOW} or {is_expired} or {is_future})")
}

/// Returns an SQL condition: the latest attempt is longer ago than this.
fn is_before(age: Duration) -> String {
    format!("latest_at < {NOW} - {}", micros(age))
}
