//! The deadline of the database.

use std::time::Duration;

use tokio::time::timeout;

use super::{ActorError, AskError};

/// Waits for the database, but no longer than `limit`.
///
/// # Errors
/// Returns the error of `work`, or [`AskError::Timeout`].
pub(super) async fn with_deadline<T, E>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, ActorError>
where
    ActorError: From<E>,
{
    match timeout(limit, work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(AskError::Timeout(limit).into()),
    }
}
