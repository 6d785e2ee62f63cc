//! Clients on PostgreSQL.

use async_trait::async_trait;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;

use super::audit;
use super::client_rows::read_clients;
use super::database::PostgresStore;
use super::users::violates;
use crate::domain::{
    Audience, ChangedClient, Client, ClientChange, ClientError, ClientId, ClientSecret, ClientSet,
    SecretId, SessionId,
};
use crate::store::clients::{ClientStore, ClientWriteError};
use crate::store::error::StoreError;

#[async_trait]
impl ClientStore for PostgresStore {
    async fn read_clients(&self) -> Result<ClientSet, StoreError> {
        let mut lease = self.executor.lease().await?;
        let clients = read_clients(lease.connection()?).await?;
        lease.give_back();
        Ok(clients)
    }

    async fn change_client(
        &self,
        change: &ClientChange,
    ) -> Result<Option<(ChangedClient, ClientSet)>, ClientWriteError> {
        let mut lease = self.executor.lease().await?;
        let mut transaction =
            lease.connection()?.begin_with(self.executor.begin_statement()).await?;
        let now = self.lock_shared_state(&mut transaction).await?;
        if !self.is_signed_in(&mut transaction, &change.requester).await? {
            return Err(ClientError::RequesterSignedOut.into());
        }
        let grantable = self.grantable(&mut transaction, &change.requester).await?;
        self.lock_secrets(&mut transaction, change.client_id).await?;
        let before = read_clients(&mut transaction).await?;
        let before = before.clients.into_iter().find(|client| client.id == change.client_id);
        let Some(changed) = change.decide(before, &grantable, now)? else { return Ok(None) };
        self.write_client(&mut transaction, &changed).await?;
        let record = change.audit_record(&changed.client, now);
        let insert = audit::bind(self.executor.query(audit::INSERT), &[record]);
        insert.execute(&mut *transaction).await?;
        let set = read_clients(&mut transaction).await?;
        transaction.commit().await?;
        lease.give_back();
        Ok(Some((changed, set)))
    }

    async fn raise_token_expiry(
        &self,
        session_id: SessionId,
        tokens_expire_at: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let update = self.executor.query(
            "update client_secrets set tokens_expire_at = greatest(tokens_expire_at, $2)
             where session_id = $1",
        );
        let update = update.bind(session_id.as_uuid()).bind(tokens_expire_at);
        Ok(update.execute(&self.executor).await?.rows_affected() == 1)
    }
}

/// Steps of `change_client`.
impl PostgresStore {
    /// Makes a concurrent `raise_token_expiry` wait until the commit.
    async fn lock_secrets(
        &self,
        connection: &mut PgConnection,
        id: ClientId,
    ) -> Result<(), StoreError> {
        let lock = self
            .executor
            .query("select from client_secrets where client_id = $1 order by id for update");
        lock.bind(id.as_uuid()).execute(connection).await?;
        Ok(())
    }

    async fn write_client(
        &self,
        connection: &mut PgConnection,
        changed: &ChangedClient,
    ) -> Result<(), ClientWriteError> {
        if changed.is_deleted {
            let delete = self.executor.query("delete from clients where id = $1");
            delete.bind(changed.client.id.as_uuid()).execute(&mut *connection).await?;
        } else {
            self.write_client_row(connection, &changed.client).await?;
            self.write_secrets(connection, &changed.client).await?;
        }
        for revocation in &changed.revocations {
            self.insert_revocation(connection, revocation).await?;
        }
        let update = self.executor.query("update shared_state set version = version + 1");
        update.execute(connection).await?;
        Ok(())
    }

    async fn write_client_row(
        &self,
        connection: &mut PgConnection,
        client: &Client,
    ) -> Result<(), ClientWriteError> {
        let insert = self.executor.query(
            "insert into clients (id, name, permissions, audience, resource, created_at,
                                  expires_at, disabled_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict (id) do update
             set permissions = excluded.permissions, audience = excluded.audience,
                 resource = excluded.resource, expires_at = excluded.expires_at,
                 disabled_at = excluded.disabled_at",
        );
        let result = insert
            .bind(client.id.as_uuid())
            .bind(client.name.as_str())
            .bind(client.rights.permissions.names())
            .bind(client.rights.audience.as_ref().map(Audience::to_string))
            .bind(client.rights.resource.as_ref().map(Audience::to_string))
            .bind(client.created_at)
            .bind(client.rights.expires_at)
            .bind(client.disabled_at)
            .execute(connection)
            .await;
        match result {
            Ok(_) => Ok(()),
            Err(error) if violates(&error, "clients_name_unique") => {
                Err(ClientError::NameTaken.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn write_secrets(
        &self,
        connection: &mut PgConnection,
        client: &Client,
    ) -> Result<(), StoreError> {
        let ids: Vec<_> = client.secrets.iter().map(|secret| secret.id.as_uuid()).collect();
        let delete = self
            .executor
            .query("delete from client_secrets where client_id = $1 and id <> all ($2)");
        delete.bind(client.id.as_uuid()).bind(ids).execute(&mut *connection).await?;
        for secret in &client.secrets {
            self.write_secret(connection, client.id, secret).await?;
        }
        Ok(())
    }

    async fn write_secret(
        &self,
        connection: &mut PgConnection,
        client_id: ClientId,
        secret: &ClientSecret,
    ) -> Result<(), StoreError> {
        let insert = self.executor.query(
            "insert into client_secrets (id, client_id, hash, session_id, created_at,
                                         tokens_expire_at)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (id) do update
             set session_id = excluded.session_id, tokens_expire_at = excluded.tokens_expire_at",
        );
        insert
            .bind(SecretId::as_uuid(secret.id))
            .bind(client_id.as_uuid())
            .bind(secret.hash.as_slice())
            .bind(secret.session_id.as_uuid())
            .bind(secret.created_at)
            .bind(secret.tokens_expire_at)
            .execute(connection)
            .await?;
        Ok(())
    }
}
