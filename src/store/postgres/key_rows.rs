//! The rows of the signing keys on PostgreSQL.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row, raw_sql};

use super::columns::micros;
use crate::domain::KeySet;
use crate::store::error::StoreError;
use crate::store::keys::KeyColumns;

/// Selects the version and the signing keys; without keys, one row with the version.
const SELECT: &str = concat!(
    "select version, id, state, public_key, sealed_private_key, ",
    micros!("published_at", "published_at"),
    ", ",
    micros!("known_at", "known_at"),
    ", ",
    micros!("activated_at", "activated_at"),
    ", ",
    micros!("signs_until", "signs_until"),
    " from shared_state left join signing_keys on true
      order by signing_keys.published_at, signing_keys.activated_at, id"
);

/// Reads all keys in one statement. It has no parameters, so it leaves nothing behind in a server
/// connection of a pooler.
pub(super) async fn read_keys(connection: &mut PgConnection) -> Result<KeySet, StoreError> {
    let rows = raw_sql(SELECT).fetch_all(connection).await?;
    let mut set = KeySet::default();
    for row in &rows {
        set.version = row.try_get("version")?;
        if let Some(id) = row.try_get("id")? {
            columns(id, row)?.add_to(&mut set);
        }
    }
    Ok(set)
}

fn columns(id: String, row: &PgRow) -> Result<KeyColumns, StoreError> {
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
