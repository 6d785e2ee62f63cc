//! Facts about the file on SQLite.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::database::{SqliteStore, now, require_current_schema};
use crate::store::error::{OpenFailure, StoreError};
use crate::store::inspection::{
    AccountFacts, DatabaseFacts, InspectionStore, Integrity, SharedSettings,
};

/// Longest duration of the check of the file.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Number of instructions of SQLite between two looks at the time.
const INSTRUCTIONS: i32 = 10_000;

#[async_trait]
impl InspectionStore for SqliteStore {
    async fn check_schema(&self) -> Result<(), OpenFailure> {
        require_current_schema(&mut *self.pool.acquire().await?).await
    }

    async fn inspect(&self) -> Result<DatabaseFacts, StoreError> {
        let mut connection = self.pool.acquire().await?;
        Ok(DatabaseFacts::Sqlite(check_integrity(&mut connection).await?))
    }

    async fn database_time(&self) -> Result<OffsetDateTime, StoreError> {
        now(&mut *self.pool.acquire().await?).await
    }

    async fn shared_settings(&self) -> Result<SharedSettings, StoreError> {
        let select = sqlx::query("select issuer, algorithm from shared_state");
        let row = select.fetch_one(&self.pool).await?;
        Ok(SharedSettings { issuer: row.try_get("issuer")?, algorithm: row.try_get("algorithm")? })
    }

    async fn account_facts(&self) -> Result<AccountFacts, StoreError> {
        let select = sqlx::query(
            "select (select count(*) from users
                     where instr(' ' || roles || ' ', ' admin ') > 0 and disabled_at is null)
                       as administrators,
                    (select count(*) from users where hash_cost not like 'pbkdf2-sha256:%')
                       as foreign_hashes",
        );
        let row = select.fetch_one(&self.pool).await?;
        Ok(AccountFacts {
            administrators: row.try_get("administrators")?,
            foreign_hashes: row.try_get("foreign_hashes")?,
        })
    }
}

/// Checks the pages of the file, without the entries of the indexes.
async fn check_integrity(connection: &mut SqliteConnection) -> Result<Integrity, StoreError> {
    let started_at = Instant::now();
    connection
        .lock_handle()
        .await?
        .set_progress_handler(INSTRUCTIONS, move || started_at.elapsed() < CHECK_TIMEOUT);
    let result = sqlx::query_scalar("pragma quick_check(1)").fetch_one(&mut *connection).await;
    connection.lock_handle().await?.remove_progress_handler();
    match result {
        Ok(problem) if problem == "ok" => Ok(Integrity::Sound),
        Ok(problem) => Ok(Integrity::Damaged(problem)),
        Err(_) if started_at.elapsed() >= CHECK_TIMEOUT => Ok(Integrity::Unfinished),
        Err(error) => Err(error.into()),
    }
}
