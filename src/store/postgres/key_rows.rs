//! The rows of the signing keys on PostgreSQL.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Row, raw_sql};

use crate::domain::{KeySet, SigningKey};
use crate::store::columns::from_micros;
use crate::store::error::StoreError;
use crate::store::keys::KeyColumns;

/// Selects the version and the signing keys; without keys, one row with the version.
const SELECT: &str = "
    select version, id, state, public_key, sealed_private_key,
           (extract(epoch from published_at) * 1000000)::bigint as published_at,
           (extract(epoch from activated_at) * 1000000)::bigint as activated_at,
           (extract(epoch from signs_until) * 1000000)::bigint as signs_until
    from shared_state left join signing_keys on true
    order by signing_keys.published_at, signing_keys.activated_at, id";

/// Reads all keys in one statement. It has no parameters, so it leaves nothing behind in a server
/// connection of a pooler.
pub(super) async fn read_keys(connection: &mut PgConnection) -> Result<KeySet, StoreError> {
    let rows = raw_sql(SELECT).fetch_all(connection).await?;
    let mut set = KeySet::default();
    for row in &rows {
        set.version = row.try_get("version")?;
        if let Some(id) = row.try_get("id")? {
            set.keys.push(key_from_row(id, row)?);
        }
    }
    Ok(set)
}

fn key_from_row(id: &str, row: &PgRow) -> Result<SigningKey, StoreError> {
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
