//! The rows of the signing keys on SQLite.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::domain::KeySet;
use crate::store::error::StoreError;
use crate::store::keys::KeyColumns;

/// Selects the version and the signing keys; without keys, one row with the version. Every time is
/// one that can be read, so that no row fails the others.
const SELECT: &str = "
    select version, id, state, public_key, sealed_private_key,
           max(0, min(221845392000000000, published_at)) as published_at,
           max(0, min(221845392000000000, known_at)) as known_at,
           max(0, min(221845392000000000, activated_at)) as activated_at,
           max(0, min(221845392000000000, signs_until)) as signs_until
    from shared_state left join signing_keys on true
    order by signing_keys.published_at, signing_keys.activated_at nulls last, id";

/// Reads all keys in one statement.
pub(super) async fn read_keys(connection: &mut SqliteConnection) -> Result<KeySet, StoreError> {
    let rows = sqlx::query(SELECT).fetch_all(connection).await?;
    let mut set = KeySet::default();
    for row in &rows {
        set.version = row.try_get("version")?;
        if let Some(id) = row.try_get("id")? {
            columns(id, row)?.add_to(&mut set);
        }
    }
    Ok(set)
}

fn columns(id: String, row: &SqliteRow) -> Result<KeyColumns, StoreError> {
    Ok(KeyColumns {
        id,
        state: row.try_get("state")?,
        public_key: row.try_get("public_key")?,
        sealed_private_key: row.try_get("sealed_private_key")?,
        published_at: row.try_get("published_at")?,
        known_at: row.try_get("known_at")?,
        activated_at: row.try_get("activated_at")?,
        signs_until: row.try_get("signs_until")?,
    })
}
