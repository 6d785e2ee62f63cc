//! Clients on SQLite.

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use time::OffsetDateTime;

use super::audit;
use super::client_rows::read_clients;
use super::database::{SqliteStore, now};
use super::requesters::{find_grantable, is_signed_in};
use super::revocations::insert_revocation;
use super::users::violates_uniqueness_of;
use crate::domain::{
    Audience, ChangedClient, Client, ClientChange, ClientError, ClientId, ClientSecret, ClientSet,
    SessionId,
};
use crate::store::clients::{ClientStore, ClientWriteError};
use crate::store::columns::to_micros;
use crate::store::error::StoreError;

#[async_trait]
impl ClientStore for SqliteStore {
    async fn read_clients(&self) -> Result<ClientSet, StoreError> {
        read_clients(&mut *self.pool.acquire().await?).await
    }

    async fn change_client(
        &self,
        change: &ClientChange,
    ) -> Result<Option<(ChangedClient, ClientSet)>, ClientWriteError> {
        let mut transaction = self.begin_write().await?;
        if !is_signed_in(&mut transaction, &change.requester).await? {
            return Err(ClientError::RequesterSignedOut.into());
        }
        let now = now(&mut transaction).await?;
        let grantable = find_grantable(&mut transaction, &change.requester).await?;
        let before = read_clients(&mut transaction).await?;
        let before = before.clients.into_iter().find(|client| client.id == change.client_id);
        let Some(changed) = change.decide(before, &grantable, now)? else { return Ok(None) };
        write_client(&mut transaction, &changed, now).await?;
        let record = change.audit_record(&changed.client, now);
        audit::insert(&mut transaction, &[record]).await?;
        let set = read_clients(&mut transaction).await?;
        transaction.commit().await?;
        Ok(Some((changed, set)))
    }

    async fn raise_token_expiry(
        &self,
        session_id: SessionId,
        tokens_expire_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let update = sqlx::query(
            "update client_secrets set tokens_expire_at = max(coalesce(tokens_expire_at, 0), ?2)
             where session_id = ?1",
        );
        let update = update.bind(session_id.as_uuid()).bind(to_micros(tokens_expire_at));
        Ok(update.execute(&self.pool).await?.rows_affected() == 1)
    }
}

async fn write_client(
    connection: &mut SqliteConnection,
    changed: &ChangedClient,
    now: OffsetDateTime,
) -> Result<(), ClientWriteError> {
    // The secrets are deleted with their client, and written again.
    let delete = sqlx::query("delete from client_secrets where client_id = ?1");
    delete.bind(changed.client.id.as_uuid()).execute(&mut *connection).await?;
    if changed.is_deleted {
        let delete = sqlx::query("delete from clients where id = ?1");
        delete.bind(changed.client.id.as_uuid()).execute(&mut *connection).await?;
    } else {
        write_client_row(connection, &changed.client).await?;
        for secret in &changed.client.secrets {
            insert_secret(connection, changed.client.id, secret).await?;
        }
    }
    for revocation in &changed.revocations {
        insert_revocation(connection, revocation, None, now).await?;
    }
    sqlx::query("update shared_state set version = version + 1").execute(connection).await?;
    Ok(())
}

async fn write_client_row(
    connection: &mut SqliteConnection,
    client: &Client,
) -> Result<(), ClientWriteError> {
    let insert = sqlx::query(
        "insert into clients (id, name, permissions, audience, resource, created_at, expires_at,
                              disabled_at)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         on conflict (id) do update
         set permissions = excluded.permissions, audience = excluded.audience,
             resource = excluded.resource, expires_at = excluded.expires_at,
             disabled_at = excluded.disabled_at",
    );
    let result = insert
        .bind(client.id.as_uuid())
        .bind(client.name.as_str())
        .bind(client.rights.permissions.to_string())
        .bind(client.rights.audience.as_ref().map(Audience::to_string))
        .bind(client.rights.resource.as_ref().map(Audience::to_string))
        .bind(to_micros(client.created_at))
        .bind(client.rights.expires_at.map(to_micros))
        .bind(client.disabled_at.map(to_micros))
        .execute(connection)
        .await;
    match result {
        Ok(_) => Ok(()),
        Err(error) if violates_uniqueness_of(&error, "clients.name") => {
            Err(ClientError::NameTaken.into())
        }
        Err(error) => Err(error.into()),
    }
}

async fn insert_secret(
    connection: &mut SqliteConnection,
    client_id: ClientId,
    secret: &ClientSecret,
) -> Result<(), StoreError> {
    let insert = sqlx::query(
        "insert into client_secrets (id, client_id, hash, session_id, created_at, tokens_expire_at)
         values (?1, ?2, ?3, ?4, ?5, ?6)",
    );
    insert
        .bind(secret.id.as_uuid())
        .bind(client_id.as_uuid())
        .bind(secret.hash.as_slice())
        .bind(secret.session_id.as_uuid())
        .bind(to_micros(secret.created_at))
        .bind(secret.tokens_expire_at.map(to_micros))
        .execute(connection)
        .await?;
    Ok(())
}
