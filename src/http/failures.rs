//! [`FailureLog`]: logs failed requests, at a bounded rate for each cause.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::rt;
use tokio::time::sleep;

/// Time after a failure in which more of the same cause are only counted.
const QUIET_TIME: Duration = Duration::from_secs(10);

/// Maximum number of causes that are told apart at a time.
const MAX_CAUSES: usize = 100;

/// Cause under which the failures beyond [`MAX_CAUSES`] are counted.
const OTHER: &str = "one of many causes";

/// Log of failed requests. While the database is gone, every request can fail: the first failure of
/// a cause is logged, and ten seconds later the number of those that followed.
#[derive(Clone, Debug, Default)]
pub struct FailureLog {
    /// Number of failures since the one that was logged, by cause.
    repeats: Arc<Mutex<HashMap<String, u64>>>,
}

impl FailureLog {
    /// Logs a failed request, or counts it.
    pub(super) fn record(&self, method: &str, route: &str, status: u16, error: &str) {
        let mut repeats = self.repeats();
        let is_new = repeats.len() < MAX_CAUSES || repeats.contains_key(error);
        let cause = if is_new { error } else { OTHER };
        if let Some(count) = repeats.get_mut(cause) {
            *count += 1;
            return;
        }
        let cause = cause.to_owned();
        repeats.insert(cause.clone(), 0);
        drop(repeats);

        tracing::error!(method, route, status, error, "request failed");
        let log = self.clone();
        rt::spawn(async move {
            sleep(QUIET_TIME).await;
            log.report_repeats(&cause);
        });
    }

    fn report_repeats(&self, cause: &str) {
        let count = self.repeats().remove(cause).unwrap_or_default();
        if count > 0 {
            tracing::error!(error = cause, requests = count, "more requests failed");
        }
    }

    fn repeats(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
