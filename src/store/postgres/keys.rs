//! The root key and the signing keys on PostgreSQL.

use std::cmp::Reverse;

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use sqlx::{Connection, Row};
use time::OffsetDateTime;

use super::audit;
use super::columns::time_column;
use super::database::PostgresStore;
use super::key_rows::read_keys;
use crate::domain::{
    ChangedKeys, KeyChange, KeyError, KeyId, KeySet, Requester, SigningKey, WrappedKey,
};
use crate::store::error::StoreError;
use crate::store::keys::{KeyStore, KeyWriteError};

#[async_trait]
impl KeyStore for PostgresStore {
    async fn root_key_wrappings(&self) -> Result<Vec<WrappedKey>, StoreError> {
        let select = self.executor.query("select secret_id, wrapped_key from root_key_wrappings");
        let rows = select.fetch_all(&self.executor).await?;
        rows.iter()
            .map(|row| {
                let ciphertext = row.try_get("wrapped_key")?;
                Ok(WrappedKey { secret_id: row.try_get("secret_id")?, ciphertext })
            })
            .collect()
    }

    async fn insert_root_key(&self, wrapped: &WrappedKey) -> Result<bool, StoreError> {
        let mut lease = self.executor.lease().await?;
        let mut transaction =
            lease.connection()?.begin_with(self.executor.begin_statement()).await?;
        self.lock_shared_state(&mut transaction).await?;
        let insert = self.executor.query(
            "insert into root_key_wrappings (secret_id, wrapped_key)
             select $1, $2 where not exists (select from root_key_wrappings)",
        );
        let insert = insert.bind(&wrapped.secret_id).bind(&wrapped.ciphertext);
        let result = insert.execute(&mut *transaction).await?;
        transaction.commit().await?;
        lease.give_back();
        Ok(result.rows_affected() == 1)
    }

    async fn add_wrapping(&self, wrapped: &WrappedKey) -> Result<(), StoreError> {
        let insert = self.executor.query(
            "insert into root_key_wrappings (secret_id, wrapped_key) values ($1, $2)
             on conflict do nothing",
        );
        let insert = insert.bind(&wrapped.secret_id).bind(&wrapped.ciphertext);
        insert.execute(&self.executor).await?;
        Ok(())
    }

    async fn delete_other_wrappings(&self, secret_id: &str) -> Result<u64, StoreError> {
        let delete = self.executor.query("delete from root_key_wrappings where secret_id <> $1");
        Ok(delete.bind(secret_id).execute(&self.executor).await?.rows_affected())
    }

    async fn read_keys(&self) -> Result<KeySet, StoreError> {
        let mut lease = self.executor.lease().await?;
        let keys = read_keys(lease.connection()?).await?;
        lease.give_back();
        Ok(keys)
    }

    async fn change_keys(&self, change: &KeyChange) -> Result<Option<KeySet>, KeyWriteError> {
        let mut lease = self.executor.lease().await?;
        let mut transaction =
            lease.connection()?.begin_with(self.executor.begin_statement()).await?;
        let now = self.lock_shared_state(&mut transaction).await?;
        if !self.is_signed_in(&mut transaction, &change.requester).await? {
            return Err(KeyError::RequesterSignedOut.into());
        }
        let keys = self.lock_keys(&mut transaction).await?;
        let Some(changed) = change.decide(keys, now)? else { return Ok(None) };
        self.write_keys(&mut transaction, change, &changed).await?;
        let keys = read_keys(&mut transaction).await?;
        transaction.commit().await?;
        lease.give_back();
        Ok(Some(keys))
    }

    async fn extend_key(
        &self,
        id: KeyId,
        signs_until: OffsetDateTime,
    ) -> Result<Option<OffsetDateTime>, StoreError> {
        let update = self.executor.query(
            "update signing_keys set signs_until = greatest(signs_until, $2)
             where id = $1 and state = 'active'
             returning signs_until",
        );
        let update = update.bind(id.to_string()).bind(signs_until);
        let row = update.fetch_optional(&self.executor).await?;
        row.map(|row| time_column(&row, "signing_keys", "signs_until")).transpose()
    }

    async fn replace_issuer(&self, issuer: &str) -> Result<Option<String>, StoreError> {
        let update = self.executor.query(
            "with former as (select issuer from shared_state for update)
             update shared_state set issuer = $1 from former
             where former.issuer is distinct from $1
             returning former.issuer",
        );
        let row = update.bind(issuer).fetch_optional(&self.executor).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
    }
}

/// Steps of the changes.
impl PostgresStore {
    /// Makes concurrent changes wait until the commit. Returns the time.
    async fn lock_shared_state(
        &self,
        connection: &mut PgConnection,
    ) -> Result<OffsetDateTime, StoreError> {
        let lock = self.executor.query("select from shared_state for update");
        lock.execute(&mut *connection).await?;
        let select = self.executor.query("select clock_timestamp() as now");
        time_column(&select.fetch_one(connection).await?, "shared_state", "now")
    }

    /// Returns `true` if the session of the requester is open, and keeps it open until the commit.
    async fn is_signed_in(
        &self,
        connection: &mut PgConnection,
        requester: &Requester,
    ) -> Result<bool, StoreError> {
        let Some(session) = requester.session_id else { return Ok(true) };
        let select = self.executor.query("select from sessions where id = $1 for key share");
        let row = select.bind(session.as_uuid()).fetch_optional(connection).await?;
        Ok(row.is_some())
    }

    /// Returns all keys, which [`KeyStore::extend_key`] cannot change until the commit.
    async fn lock_keys(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<SigningKey>, StoreError> {
        let select = self.executor.query("select id from signing_keys order by id for update");
        select.execute(&mut *connection).await?;
        Ok(read_keys(connection).await?.keys)
    }

    async fn write_keys(
        &self,
        connection: &mut PgConnection,
        change: &KeyChange,
        changed: &ChangedKeys,
    ) -> Result<(), StoreError> {
        let ids: Vec<_> = changed.keys.iter().map(|key| key.id.to_string()).collect();
        let delete = self.executor.query("delete from signing_keys where id <> all ($1)");
        delete.bind(ids).execute(&mut *connection).await?;
        // A key leaves a state before the next one enters it: a unique index allows one in each.
        let mut keys: Vec<_> = changed.keys.iter().collect();
        keys.sort_by_key(|key| Reverse(key.state));
        for key in keys {
            self.write_key(connection, key).await?;
        }
        for revocation in &changed.revocations {
            let insert = self.executor.query(
                "insert into revocations (id, expires_at) values ($1, $2) on conflict do nothing",
            );
            let insert = insert.bind(revocation.id.as_uuid()).bind(revocation.expires_at);
            insert.execute(&mut *connection).await?;
        }
        let update = self.executor.query("update shared_state set version = version + 1");
        update.execute(&mut *connection).await?;
        let insert = audit::bind(self.executor.query(audit::INSERT), &change.records(changed));
        insert.execute(connection).await?;
        Ok(())
    }

    async fn write_key(
        &self,
        connection: &mut PgConnection,
        key: &SigningKey,
    ) -> Result<(), StoreError> {
        let insert = self.executor.query(
            "insert into signing_keys (id, state, public_key, sealed_private_key, published_at,
                                       activated_at, signs_until)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (id) do update
             set state = excluded.state, activated_at = excluded.activated_at,
                 signs_until = excluded.signs_until",
        );
        insert
            .bind(key.id.to_string())
            .bind(key.state.into_str())
            .bind(&key.public_key)
            .bind(&key.sealed_private_key)
            .bind(key.published_at)
            .bind(key.activated_at)
            .bind(key.signs_until)
            .execute(connection)
            .await?;
        Ok(())
    }
}
