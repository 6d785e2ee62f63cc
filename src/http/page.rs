//! Queries: pagination of lists, and routes without parameters.

use serde::Deserialize;

use super::error::ApiError;

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

/// Query of a route that has no parameters. Others are refused: a client that sends one expects an
/// effect.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoQuery {}

/// Validates the requested size of a page.
pub(super) fn parse_limit(requested: Option<u32>) -> Result<u32, ApiError> {
    match requested.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(ApiError::InvalidQuery(format!("limit must be from 1 to {MAX_LIMIT}"))),
    }
}

/// Returns the refusal of an `after` that no page has as its `next`.
pub(super) fn invalid_after() -> ApiError {
    ApiError::InvalidQuery("after must be the `next` of the previous page".to_owned())
}

/// Returns the `after` of the next page, taken from the last item. `None` if the page is not full:
/// there is no next one.
pub(super) fn next_after<T, C>(
    items: &[T],
    limit: u32,
    position: impl FnOnce(&T) -> C,
) -> Option<C> {
    let is_full = items.len() >= limit as usize;
    items.last().filter(|_| is_full).map(position)
}
