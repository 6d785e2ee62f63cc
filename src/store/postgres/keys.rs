//! The root key and the signing keys on PostgreSQL.

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use time::OffsetDateTime;

use super::audit;
use super::columns::time_column;
use super::database::PostgresStore;
use super::key_rows::read_keys;
use crate::domain::{
    AuditAction, AuditRecord, ChangedKeys, KeyChange, KeyError, KeySet, Requester, SigningKey,
    WrappedKey,
};
use crate::store::error::StoreError;
use crate::store::keys::{KeyStore, KeyWriteError, SharedSetting, removed_ids, written_keys};

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
        let insert = "insert into root_key_wrappings (secret_id, wrapped_key)
                      select $1, $2
                      where not exists (select from root_key_wrappings)
                        and not exists (select from signing_keys)";
        self.insert_wrapping(insert, wrapped).await
    }

    async fn add_wrapping(&self, wrapped: &WrappedKey) -> Result<(), StoreError> {
        let insert = "insert into root_key_wrappings (secret_id, wrapped_key) values ($1, $2)
                      on conflict do nothing";
        self.insert_wrapping(insert, wrapped).await?;
        Ok(())
    }

    async fn delete_other_wrappings(
        &self,
        secret_id: &str,
        requester: &Requester,
    ) -> Result<Option<usize>, StoreError> {
        let mut lease = self.executor.lease().await?;
        let mut transaction =
            lease.connection()?.begin_with(self.executor.begin_statement()).await?;
        // Of two calls with different secrets, the second one finds none of its own.
        let now = self.lock_shared_state(&mut transaction).await?;
        let select = self.executor.query("select from root_key_wrappings where secret_id = $1");
        if select.bind(secret_id).fetch_optional(&mut *transaction).await?.is_none() {
            return Ok(None);
        }
        let delete = self
            .executor
            .query("delete from root_key_wrappings where secret_id <> $1 returning secret_id");
        let rows = delete.bind(secret_id).fetch_all(&mut *transaction).await?;
        let retired: Vec<String> =
            rows.iter().map(|row| row.try_get("secret_id")).collect::<Result<_, _>>()?;
        let record = |id: &String| {
            AuditRecord::for_key(now, AuditAction::SecretRetired, id, requester.clone())
        };
        let records: Vec<_> = retired.iter().map(record).collect();
        self.insert_records(&mut transaction, &records).await?;
        transaction.commit().await?;
        lease.give_back();
        Ok(Some(retired.len()))
    }

    async fn read_keys(&self) -> Result<KeySet, StoreError> {
        let mut lease = self.executor.lease().await?;
        let keys = read_keys(lease.connection()?).await?;
        lease.give_back();
        Ok(keys)
    }

    async fn change_keys(&self, change: &KeyChange) -> Result<Option<ChangedKeys>, KeyWriteError> {
        let mut lease = self.executor.lease().await?;
        let mut transaction =
            lease.connection()?.begin_with(self.executor.begin_statement()).await?;
        let now = self.lock_shared_state(&mut transaction).await?;
        if !self.is_signed_in(&mut transaction, &change.requester).await? {
            return Err(KeyError::RequesterSignedOut.into());
        }
        let before = read_keys(&mut transaction).await?;
        let Some(changed) = change.decide(before.clone(), now)? else { return Ok(None) };
        self.write_keys(&mut transaction, &before, &changed).await?;
        self.insert_records(&mut transaction, &change.records(&changed, now)).await?;
        transaction.commit().await?;
        lease.give_back();
        Ok(Some(changed))
    }

    async fn announce(
        &self,
        setting: SharedSetting,
        value: &str,
    ) -> Result<Option<String>, StoreError> {
        let column = setting.into_str();
        let update = self.executor.query(AssertSqlSafe(format!(
            "with former as (select {column} as value from shared_state for update)
             update shared_state set {column} = $1 from former
             where former.value is distinct from $1
             returning former.value"
        )));
        let row = update.bind(value).fetch_optional(&self.executor).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
    }
}

/// Steps of the changes.
impl PostgresStore {
    /// Makes concurrent changes wait until the commit. Returns the time.
    pub(super) async fn lock_shared_state(
        &self,
        connection: &mut PgConnection,
    ) -> Result<OffsetDateTime, StoreError> {
        let lock = self.executor.query("select from shared_state for update");
        lock.execute(&mut *connection).await?;
        let select = self.executor.query("select clock_timestamp() as now");
        time_column(&select.fetch_one(connection).await?, "shared_state", "now")
    }

    /// Carries out an insertion of a wrapping. Returns `false` if it inserts nothing.
    async fn insert_wrapping(
        &self,
        insert: &'static str,
        wrapped: &WrappedKey,
    ) -> Result<bool, StoreError> {
        let mut lease = self.executor.lease().await?;
        let mut transaction =
            lease.connection()?.begin_with(self.executor.begin_statement()).await?;
        let now = self.lock_shared_state(&mut transaction).await?;
        let insert = self.executor.query(insert).bind(&wrapped.secret_id).bind(&wrapped.ciphertext);
        let is_inserted = insert.execute(&mut *transaction).await?.rows_affected() == 1;
        if is_inserted {
            let id = &wrapped.secret_id;
            let record =
                AuditRecord::for_key(now, AuditAction::SecretAdded, id, Requester::SERVICE);
            self.insert_records(&mut transaction, &[record]).await?;
        }
        transaction.commit().await?;
        lease.give_back();
        Ok(is_inserted)
    }

    async fn insert_records(
        &self,
        connection: &mut PgConnection,
        records: &[AuditRecord],
    ) -> Result<(), StoreError> {
        let insert = audit::bind(self.executor.query(audit::INSERT), records);
        insert.execute(connection).await?;
        Ok(())
    }

    async fn write_keys(
        &self,
        connection: &mut PgConnection,
        before: &KeySet,
        changed: &ChangedKeys,
    ) -> Result<(), StoreError> {
        let delete = self.executor.query("delete from signing_keys where id = any ($1)");
        let removed = removed_ids(&before.keys, &changed.set.keys);
        delete.bind(removed).execute(&mut *connection).await?;
        for key in written_keys(&before.keys, &changed.set.keys) {
            self.write_key(connection, key).await?;
        }
        for revocation in &changed.revocations {
            self.insert_revocation(connection, revocation).await?;
        }
        let update = self.executor.query("update shared_state set version = $1");
        update.bind(changed.set.version).execute(connection).await?;
        Ok(())
    }

    async fn write_key(
        &self,
        connection: &mut PgConnection,
        key: &SigningKey,
    ) -> Result<(), StoreError> {
        let insert = self.executor.query(
            "insert into signing_keys (id, state, public_key, sealed_private_key, published_at,
                                       known_at, activated_at, signs_until)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict (id) do update
             set state = excluded.state, known_at = excluded.known_at,
                 activated_at = excluded.activated_at, signs_until = excluded.signs_until",
        );
        insert
            .bind(key.id.to_string())
            .bind(key.state.into_str())
            .bind(&key.public_key)
            .bind(&key.sealed_private_key)
            .bind(key.published_at)
            .bind(key.known_at)
            .bind(key.activated_at)
            .bind(key.signs_until)
            .execute(connection)
            .await?;
        Ok(())
    }
}
