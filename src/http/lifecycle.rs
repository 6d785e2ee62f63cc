//! The end of the service as its clients see it: sent elsewhere first, and only then cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// How often the connections are counted while they drain.
const RECOUNT: Duration = Duration::from_millis(10);

/// Counts the open connections, and knows whether they should go elsewhere.
///
/// A server that closes an idle connection at the moment its client sends a request loses that
/// request. So connections are not closed first but told to close, with their next reply.
#[derive(Debug, Default)]
pub struct Lifecycle {
    is_draining: AtomicBool,
    connections: AtomicUsize,
}

/// Counts as an open connection for as long as it is kept.
#[derive(Debug)]
pub struct OpenConnection(Arc<Lifecycle>);

impl OpenConnection {
    /// Counts one more.
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
    /// Tells whether every reply should be the last on its connection.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Sends clients and load balancers elsewhere, and waits until no connection is open, or as
    /// long as `limit`.
    pub async fn drain(&self, limit: Duration) {
        self.is_draining.store(true, Ordering::Relaxed);
        let emptied = async {
            while self.connections.load(Ordering::Relaxed) > 0 {
                sleep(RECOUNT).await;
            }
        };
        // Whoever has not gone by then is idle, and is disconnected.
        let _ = timeout(limit, emptied).await;
    }
}
