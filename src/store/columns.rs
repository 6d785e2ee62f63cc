//! Conversion of columns that several tables share.

use std::net::Ipv6Addr;

use sqlx::{ColumnIndex, Decode, Row, Type};
use time::OffsetDateTime;

use super::error::StoreError;
use crate::domain::{RequestOrigin, UserAgent};

/// Reads a column.
pub(super) fn column<'r, R: Row, T>(
    row: &'r R,
    table: &'static str,
    column: &'static str,
) -> Result<T, StoreError>
where
    &'static str: ColumnIndex<R>,
    T: Decode<'r, R::Database> + Type<R::Database>,
{
    row.try_get(column).map_err(|error| StoreError::inconsistent(table, column, error))
}

/// Parses a time in microseconds since the Unix epoch.
pub(super) fn from_micros(
    table: &'static str,
    column: &'static str,
    micros: i64,
) -> Result<OffsetDateTime, StoreError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
        .map_err(|error| StoreError::inconsistent(table, column, error))
}

/// Returns a time in microseconds since the Unix epoch.
pub(super) fn to_micros(time: OffsetDateTime) -> i64 {
    let micros = time.unix_timestamp_nanos() / 1_000;
    i64::try_from(micros).unwrap_or(i64::MAX)
}

/// Converts a number to the integer type of both databases; saturates.
pub(super) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads an origin, which is only shown to people. An address that does not parse is shown as `::`,
/// so that it fails no list.
pub(super) fn read_origin(address: &str, user_agent: &str) -> RequestOrigin {
    let address = address.parse().unwrap_or(Ipv6Addr::UNSPECIFIED.into());
    RequestOrigin { address, user_agent: UserAgent::sanitize(user_agent) }
}
