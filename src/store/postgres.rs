//! PostgreSQL 13 or later.

use std::str::FromStr;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPool, PgPoolOptions, PgRow};
use sqlx::{ConnectOptions, Connection, Row, query, query_scalar};
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Credentials, InsertUserError, OpenError, PoolStatus, Store, StoreError};
use crate::config::{DatabaseSettings, Secret};
use crate::domain::{PasswordHash, Revocation, RevocationId, UserId, Username};

const MIGRATIONS: &[(i64, &str, &str)] = &[(
    1,
    "users and revocations",
    include_str!("../../migrations/postgres/0001_users_and_revocations.sql"),
)];

/// Several instances may share one database; the database arbitrates.
pub(super) struct PostgresStore {
    pool: PgPool,
}

impl PostgresStore {
    pub(super) async fn open(url: &Secret, settings: &DatabaseSettings) -> Result<Self, OpenError> {
        let failed = |database: String| |source| OpenError::Connect { database, source };
        let options = PgConnectOptions::from_str(url.expose())
            .map_err(failed("named by DATABASE_URL".to_owned()))?
            .application_name(env!("CARGO_PKG_NAME"));
        // One connection first, outside the pool: a pool keeps trying, and then says only that it
        // timed out.
        let mut connection = timeout(settings.acquire_timeout, options.connect())
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .map_err(failed(described(&options)))?;
        // `sqlx` holds an advisory lock while it migrates.
        super::migrator(MIGRATIONS).run_direct(None, &mut connection, false).await?;
        connection.close().await.map_err(failed(described(&options)))?;
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(settings.acquire_timeout)
            .connect_lazy_with(options);
        Ok(Self { pool })
    }
}

fn described(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    format!("`{database}` at {}:{}", options.get_host(), options.get_port())
}

#[async_trait]
impl Store for PostgresStore {
    async fn ping(&self) -> Result<(), StoreError> {
        query("select 1").execute(&self.pool).await?;
        Ok(())
    }

    async fn insert_user(&self, new: &Credentials) -> Result<(), InsertUserError> {
        let Credentials { user, password_hash } = new;
        let inserted = query(
            "insert into users (id, username, username_key, password_hash, roles, created_at)
             values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(user.id.as_uuid())
        .bind(user.username.as_str())
        .bind(user.username.key())
        .bind(password_hash.to_string())
        .bind(user.roles.names().collect::<Vec<_>>())
        .bind(user.created_at)
        .execute(&self.pool)
        .await;
        match inserted {
            Ok(_) => Ok(()),
            Err(error) if breaks(&error, "users_username_key_unique") => {
                Err(InsertUserError::UsernameTaken)
            }
            Err(error) => Err(InsertUserError::Store(error.into())),
        }
    }

    async fn find_credentials(
        &self,
        username: &Username,
    ) -> Result<Option<Credentials>, StoreError> {
        let row = query(
            "select id, username, password_hash, roles, created_at
             from users where username_key = $1",
        )
        .bind(username.key())
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(credentials).transpose()
    }

    async fn replace_password_hash(
        &self,
        id: UserId,
        old: &PasswordHash,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let replaced =
            query("update users set password_hash = $3 where id = $1 and password_hash = $2")
                .bind(id.as_uuid())
                .bind(old.to_string())
                .bind(new.to_string())
                .execute(&self.pool)
                .await?;
        Ok(replaced.rows_affected() == 1)
    }

    async fn revoke(&self, revocations: &[Revocation]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = revocations.iter().map(|revocation| revocation.id.as_uuid()).collect();
        let expiries: Vec<OffsetDateTime> =
            revocations.iter().map(|revocation| revocation.expires_at).collect();
        query(
            "insert into revocations (id, expires_at)
             select * from unnest($1::uuid[], $2::timestamptz[])
             on conflict (id) do nothing",
        )
        .bind(ids)
        .bind(expiries)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        // Row by row: a million of them, held as rows, would take many times their memory.
        let mut rows = query("select id, expires_at from revocations").fetch(&self.pool);
        let mut revocations = Vec::new();
        while let Some(row) = rows.try_next().await? {
            revocations.push(revocation(&row)?);
        }
        Ok(revocations)
    }

    async fn is_any_revoked(&self, ids: &[RevocationId]) -> Result<bool, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        let is_revoked = query_scalar("select exists (select from revocations where id = any($1))")
            .bind(ids)
            .fetch_one(&self.pool)
            .await?;
        Ok(is_revoked)
    }

    async fn sweep_revocations(
        &self,
        before: OffsetDateTime,
        limit: u32,
    ) -> Result<u64, StoreError> {
        // Instances that sweep at the same time pass over each other's rows instead of waiting.
        let swept = query(
            "delete from revocations where id in (
                 select id from revocations where expires_at < $1
                 order by expires_at limit $2 for update skip locked)",
        )
        .bind(before)
        .bind(i64::from(limit))
        .execute(&self.pool)
        .await?;
        Ok(swept.rows_affected())
    }

    fn pool_status(&self) -> PoolStatus {
        PoolStatus::of(&self.pool)
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

fn credentials(row: &PgRow) -> Result<Credentials, StoreError> {
    let roles: Vec<String> = row.try_get("roles")?;
    super::credentials(
        row.try_get("id")?,
        row.try_get("username")?,
        roles.iter().map(String::as_str),
        row.try_get("created_at")?,
        row.try_get("password_hash")?,
    )
}

fn revocation(row: &PgRow) -> Result<Revocation, StoreError> {
    Ok(Revocation {
        id: row.try_get::<Uuid, _>("id")?.into(),
        expires_at: row.try_get("expires_at")?,
    })
}

fn breaks(error: &sqlx::Error, constraint: &str) -> bool {
    error.as_database_error().and_then(DatabaseError::constraint) == Some(constraint)
}

/// Tells whether a refusal is about the state of the server rather than about the statement:
/// connections, rollbacks, resources, intervention, a server turned read-only (SQLSTATE classes 08,
/// 40, 53, 57 and code 25006).
pub(super) fn is_passing(refusal: &dyn DatabaseError) -> bool {
    let Some(refusal) = refusal.try_downcast_ref::<PgDatabaseError>() else {
        return false;
    };
    let code = refusal.code();
    code == "25006" || ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class))
}
