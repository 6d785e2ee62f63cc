//! The rows of the signing keys on SQLite.

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::domain::{KeySet, SigningKey};
use crate::store::columns::from_micros;
use crate::store::error::StoreError;
use crate::store::keys::KeyColumns;

/// Selects the version and the signing keys; without keys, one row with the version.
const SELECT: &str = "
    select version, id, state, public_key, sealed_private_key, published_at, activated_at,
           signs_until
    from shared_state left join signing_keys on true
    order by published_at, activated_at nulls last, id";

/// Reads all keys in one statement.
pub(super) async fn read_keys(connection: &mut SqliteConnection) -> Result<KeySet, StoreError> {
    let rows = sqlx::query(SELECT).fetch_all(connection).await?;
    let mut set = KeySet::default();
    for row in &rows {
        set.version = row.try_get("version")?;
        if let Some(id) = row.try_get("id")? {
            set.keys.push(key_from_row(id, row)?);
        }
    }
    Ok(set)
}

fn key_from_row(id: &str, row: &SqliteRow) -> Result<SigningKey, StoreError> {
    let time = |column| from_micros("signing_keys", column, row.try_get(column)?);
    let activated_at: Option<i64> = row.try_get("activated_at")?;
    let columns = KeyColumns {
        id,
        state: row.try_get("state")?,
        public_key: row.try_get("public_key")?,
        sealed_private_key: row.try_get("sealed_private_key")?,
        published_at: time("published_at")?,
        activated_at: activated_at
            .map(|micros| from_micros("signing_keys", "activated_at", micros))
            .transpose()?,
        signs_until: time("signs_until")?,
    };
    columns.parse()
}
