//! Pages: how much is listed at once.

use super::ApiError;

const DEFAULT: u32 = 50;
const MOST: u32 = 200;

/// Checks how many items a client wants at most.
pub(super) fn limit(wanted: Option<u32>) -> Result<u32, ApiError> {
    match wanted.unwrap_or(DEFAULT) {
        limit @ 1..=MOST => Ok(limit),
        _ => Err(ApiError::InvalidQuery(format!("limit must be from 1 to {MOST}"))),
    }
}
