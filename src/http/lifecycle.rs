//! The drain of connections at shutdown: each is closed after a reply, so that no request is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Interval at which the open connections are counted during the drain.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Number of open connections, and whether the service is draining.
///
/// A server that closes an idle connection at the moment its peer sends a request loses that
/// request. A draining service therefore announces the close in its next reply on each connection.
#[derive(Debug, Default)]
pub struct Lifecycle {
    is_draining: AtomicBool,
    connections: AtomicUsize,
}

/// Guard of an open connection; it is counted until this is dropped.
#[derive(Debug)]
pub struct OpenConnection(Arc<Lifecycle>);

impl OpenConnection {
    /// Counts a new connection.
    #[must_use]
    pub fn count(lifecycle: &Arc<Lifecycle>) -> Self {
        lifecycle.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(lifecycle))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lifecycle {
    /// Returns `true` if every reply should close its connection.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Starts the drain, and waits until every connection is closed, at most `limit`. Callers
    /// and load balancers reconnect to other instances meanwhile.
    pub async fn drain(&self, limit: Duration) {
        self.is_draining.store(true, Ordering::Relaxed);
        let all_closed = async {
            while self.connections.load(Ordering::Relaxed) > 0 {
                sleep(POLL_INTERVAL).await;
            }
        };
        // The connections that remain at the timeout are idle; the server then closes them.
        let _ = timeout(limit, all_closed).await;
    }
}
