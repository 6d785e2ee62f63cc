//! Conversion of columns that are specific to PostgreSQL.

use sqlx::Row;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;

use crate::store::columns::from_micros;
use crate::store::error::StoreError;

/// Epoch of PostgreSQL, 2000-01-01, in microseconds since the Unix epoch.
pub(super) const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Selects a time in microseconds since the Unix epoch. It is one that can be read, even if the
/// column holds `infinity`.
macro_rules! micros {
    ($column:literal, $name:literal) => {
        concat!(
            "case when ",
            $column,
            " is not null then
                 (extract(epoch from greatest(timestamptz 'epoch',
                      least(timestamptz '9000-01-01 UTC', ",
            $column,
            "))) * 1000000)::bigint end as ",
            $name
        )
    };
}
pub(super) use micros;

/// Reads a time. `sqlx` panics on one that it cannot represent, such as `infinity`.
pub(super) fn time_column(
    row: &PgRow,
    table: &'static str,
    column: &'static str,
) -> Result<OffsetDateTime, StoreError> {
    let time = optional_time_column(row, table, column)?;
    time.ok_or_else(|| StoreError::inconsistent(table, column, "it is null"))
}

/// Reads a time or null.
pub(super) fn optional_time_column(
    row: &PgRow,
    table: &'static str,
    column: &'static str,
) -> Result<Option<OffsetDateTime>, StoreError> {
    // A time is sent as microseconds since the epoch of PostgreSQL.
    let micros: Option<i64> = row
        .try_get_unchecked(column)
        .map_err(|error| StoreError::inconsistent(table, column, error))?;
    let since_unix_epoch = |micros: i64| micros.saturating_add(EPOCH_MICROS);
    micros.map(|micros| from_micros(table, column, since_unix_epoch(micros))).transpose()
}
