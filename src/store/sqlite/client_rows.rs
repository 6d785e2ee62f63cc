//! The rows of the clients on SQLite.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use uuid::Uuid;

use crate::domain::ClientSet;
use crate::store::clients::{ClientColumns, SecretColumns};
use crate::store::error::StoreError;

/// Selects the version and the clients with their secrets; without clients, one row with the
/// version. Every time is one that can be read, so that no row fails the others.
const SELECT: &str = "
    select version, clients.id, name, permissions, audience, resource,
           max(0, min(221845392000000000, clients.created_at)) as created_at,
           max(0, min(221845392000000000, clients.expires_at)) as expires_at,
           max(0, min(221845392000000000, clients.disabled_at)) as disabled_at,
           client_secrets.id as secret_id, hash, session_id,
           max(0, min(221845392000000000, client_secrets.created_at)) as secret_created_at,
           max(0, min(221845392000000000, tokens_expire_at)) as tokens_expire_at
    from shared_state
    left join clients on true left join client_secrets on client_id = clients.id
    order by name, clients.id, client_secrets.created_at, secret_id";

/// Reads all clients in one statement.
pub(super) async fn read_clients(
    connection: &mut SqliteConnection,
) -> Result<ClientSet, StoreError> {
    let rows = sqlx::query(SELECT).fetch_all(connection).await?;
    let mut set = ClientSet::default();
    for row in &rows {
        set.version = row.try_get("version")?;
        if let Some(id) = row.try_get("id")? {
            columns(id, row)?.add_to(&mut set);
        }
    }
    Ok(set)
}

fn columns(id: Uuid, row: &SqliteRow) -> Result<ClientColumns, StoreError> {
    let secret = match row.try_get("secret_id")? {
        Some(id) => Some(SecretColumns {
            id,
            hash: row.try_get("hash")?,
            session_id: row.try_get("session_id")?,
            created_at: row.try_get("secret_created_at")?,
            tokens_expire_at: row.try_get("tokens_expire_at")?,
        }),
        None => None,
    };
    Ok(ClientColumns {
        id,
        name: row.try_get("name")?,
        permissions: row.try_get("permissions")?,
        audience: row.try_get("audience")?,
        resource: row.try_get("resource")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        disabled_at: row.try_get("disabled_at")?,
        secret,
    })
}
