//! The root key and the signing keys on SQLite.

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row};
use time::OffsetDateTime;

use super::audit;
use super::database::{SqliteStore, now};
use super::key_rows::read_keys;
use super::requesters::is_signed_in;
use super::revocations::insert_revocation;
use crate::domain::{
    AuditAction, AuditRecord, ChangedKeys, KeyChange, KeyError, KeySet, Requester, SigningKey,
    WrappedKey,
};
use crate::store::columns::to_micros;
use crate::store::error::StoreError;
use crate::store::keys::{KeyStore, KeyWriteError, SharedSetting, removed_ids, written_keys};

#[async_trait]
impl KeyStore for SqliteStore {
    async fn root_key_wrappings(&self) -> Result<Vec<WrappedKey>, StoreError> {
        let select = sqlx::query("select secret_id, wrapped_key from root_key_wrappings");
        let rows = select.fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let ciphertext = row.try_get("wrapped_key")?;
                Ok(WrappedKey { secret_id: row.try_get("secret_id")?, ciphertext })
            })
            .collect()
    }

    async fn insert_root_key(&self, wrapped: &WrappedKey) -> Result<bool, StoreError> {
        let insert = "insert into root_key_wrappings (secret_id, wrapped_key, created_at)
                      select ?1, ?2, ?3
                      where not exists (select 1 from root_key_wrappings)
                        and not exists (select 1 from signing_keys)";
        self.insert_wrapping(insert, wrapped).await
    }

    async fn add_wrapping(&self, wrapped: &WrappedKey) -> Result<(), StoreError> {
        let insert = "insert into root_key_wrappings (secret_id, wrapped_key, created_at)
                      values (?1, ?2, ?3) on conflict do nothing";
        self.insert_wrapping(insert, wrapped).await?;
        Ok(())
    }

    async fn delete_other_wrappings(
        &self,
        secret_id: &str,
        requester: &Requester,
    ) -> Result<Option<usize>, StoreError> {
        let mut transaction = self.begin_write().await?;
        let now = now(&mut transaction).await?;
        let select = sqlx::query("select 1 from root_key_wrappings where secret_id = ?1");
        if select.bind(secret_id).fetch_optional(&mut *transaction).await?.is_none() {
            return Ok(None);
        }
        let delete = sqlx::query_scalar(
            "delete from root_key_wrappings where secret_id <> ?1 returning secret_id",
        );
        let retired: Vec<String> = delete.bind(secret_id).fetch_all(&mut *transaction).await?;
        let record = |id: &String| {
            AuditRecord::for_key(now, AuditAction::SecretRetired, id, requester.clone())
        };
        let records: Vec<_> = retired.iter().map(record).collect();
        audit::insert(&mut transaction, &records).await?;
        transaction.commit().await?;
        Ok(Some(retired.len()))
    }

    async fn read_keys(&self) -> Result<KeySet, StoreError> {
        read_keys(&mut *self.pool.acquire().await?).await
    }

    async fn change_keys(&self, change: &KeyChange) -> Result<Option<ChangedKeys>, KeyWriteError> {
        let mut transaction = self.begin_write().await?;
        if !is_signed_in(&mut transaction, &change.requester).await? {
            return Err(KeyError::RequesterSignedOut.into());
        }
        let now = now(&mut transaction).await?;
        let before = read_keys(&mut transaction).await?;
        let Some(changed) = change.decide(before.clone(), now)? else { return Ok(None) };
        write_keys(&mut transaction, &before, &changed, now).await?;
        audit::insert(&mut transaction, &change.records(&changed, now)).await?;
        transaction.commit().await?;
        Ok(Some(changed))
    }

    async fn announce(
        &self,
        setting: SharedSetting,
        value: &str,
    ) -> Result<Option<String>, StoreError> {
        let column = setting.into_str();
        let mut transaction = self.begin_write().await?;
        let select = AssertSqlSafe(format!("select {column} from shared_state"));
        let former: Option<String> =
            sqlx::query_scalar(select).fetch_one(&mut *transaction).await?;
        let update = AssertSqlSafe(format!("update shared_state set {column} = ?1"));
        sqlx::query(update).bind(value).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(former.filter(|former| former != value))
    }
}

impl SqliteStore {
    /// Carries out an insertion of a wrapping. Returns `false` if it inserts nothing.
    async fn insert_wrapping(
        &self,
        insert: &'static str,
        wrapped: &WrappedKey,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin_write().await?;
        let now = now(&mut transaction).await?;
        let insert = sqlx::query(insert).bind(&wrapped.secret_id).bind(&wrapped.ciphertext);
        let insert = insert.bind(to_micros(now));
        let is_inserted = insert.execute(&mut *transaction).await?.rows_affected() == 1;
        if is_inserted {
            let id = &wrapped.secret_id;
            let record =
                AuditRecord::for_key(now, AuditAction::SecretAdded, id, Requester::SERVICE);
            audit::insert(&mut transaction, &[record]).await?;
        }
        transaction.commit().await?;
        Ok(is_inserted)
    }
}

async fn write_keys(
    connection: &mut SqliteConnection,
    before: &KeySet,
    changed: &ChangedKeys,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    for id in removed_ids(&before.keys, &changed.set.keys) {
        let delete = sqlx::query("delete from signing_keys where id = ?1").bind(id);
        delete.execute(&mut *connection).await?;
    }
    for key in written_keys(&before.keys, &changed.set.keys) {
        write_key(connection, key).await?;
    }
    for revocation in &changed.revocations {
        insert_revocation(connection, revocation, None, now).await?;
    }
    let update = sqlx::query("update shared_state set version = ?1").bind(changed.set.version);
    update.execute(connection).await?;
    Ok(())
}

async fn write_key(connection: &mut SqliteConnection, key: &SigningKey) -> Result<(), StoreError> {
    let insert = sqlx::query(
        "insert into signing_keys (id, state, public_key, sealed_private_key, published_at,
                                   known_at, activated_at, signs_until)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         on conflict (id) do update
         set state = excluded.state, known_at = excluded.known_at,
             activated_at = excluded.activated_at, signs_until = excluded.signs_until",
    );
    insert
        .bind(key.id.to_string())
        .bind(key.state.into_str())
        .bind(&key.public_key)
        .bind(&key.sealed_private_key)
        .bind(to_micros(key.published_at))
        .bind(to_micros(key.known_at))
        .bind(key.activated_at.map(to_micros))
        .bind(to_micros(key.signs_until))
        .execute(connection)
        .await?;
    Ok(())
}
