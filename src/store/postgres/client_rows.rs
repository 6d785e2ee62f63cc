//! The rows of the clients on PostgreSQL.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row, raw_sql};

use super::columns::micros;
use crate::domain::ClientSet;
use crate::store::clients::{ClientColumns, SecretColumns};
use crate::store::error::StoreError;

/// Selects the version and the clients with their secrets; without clients, one row with the
/// version.
const SELECT: &str = concat!(
    "select version, clients.id, name, array_to_string(permissions, ' ') as permissions, audience,
            resource, ",
    micros!("clients.created_at", "created_at"),
    ", ",
    micros!("clients.expires_at", "expires_at"),
    ", ",
    micros!("clients.disabled_at", "disabled_at"),
    ", client_secrets.id as secret_id, hash, session_id, ",
    micros!("client_secrets.created_at", "secret_created_at"),
    ", ",
    micros!("tokens_expire_at", "tokens_expire_at"),
    " from shared_state
      left join clients on true left join client_secrets on client_id = clients.id
      order by name, clients.id, client_secrets.created_at, secret_id"
);

/// Reads all clients in one statement. It has no parameters, so it leaves nothing behind in a server
/// connection of a pooler.
pub(super) async fn read_clients(connection: &mut PgConnection) -> Result<ClientSet, StoreError> {
    let rows = raw_sql(SELECT).fetch_all(connection).await?;
    let mut set = ClientSet::default();
    for row in &rows {
        set.version = row.try_get("version")?;
        if let Some(id) = row.try_get("id")? {
            columns(id, row)?.add_to(&mut set);
        }
    }
    Ok(set)
}

fn columns(id: uuid::Uuid, row: &PgRow) -> Result<ClientColumns, StoreError> {
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
