//! [`Connections`]: the open connections, their limits, and their drain at shutdown.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::config::HttpSettings;
use crate::descriptors;
use crate::domain::Network;
use crate::metrics::{ConnectionLimit, Metrics};

/// Interval at which the open connections are counted during the drain.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// File descriptors for everything but the connections of clients: the database, the log, threads.
const RESERVED_DESCRIPTORS: u64 = 200;

/// The open connections of a listener. Clients that fill the public one leave those of the operators
/// alone.
///
/// A server that closes an idle connection at the moment its peer sends a request loses that
/// request. A draining service therefore announces the close in its next reply on each connection.
pub struct Connections {
    limits: Limits,
    is_draining: AtomicBool,
    drain_begins: Notify,
    open: Mutex<Open>,
    metrics: Arc<Metrics>,
}

#[derive(Clone)]
struct Limits {
    total: u32,
    per_address: u32,
    /// Networks without a limit for each address.
    trusted_proxies: Vec<IpNet>,
}

#[derive(Debug, Default)]
struct Open {
    total: u32,
    by_network: HashMap<Network, u32>,
}

/// Guard of an open connection, which counts until this is dropped.
pub(super) struct OpenConnection {
    connections: Arc<Connections>,
    network: Network,
}

impl Connections {
    /// Creates the count of a listener, with the limits of the settings.
    #[must_use]
    pub fn new(settings: &HttpSettings, metrics: Arc<Metrics>) -> Self {
        let limits = Limits {
            total: max_connections(settings),
            per_address: settings.max_connections_per_address,
            trusted_proxies: settings.trusted_proxies.clone(),
        };
        Self::with_limits(limits, metrics)
    }

    /// Creates the count of another listener, with the same limits.
    pub(super) fn with_same_limits(&self) -> Self {
        Self::with_limits(self.limits.clone(), Arc::clone(&self.metrics))
    }

    fn with_limits(limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            limits,
            is_draining: AtomicBool::default(),
            drain_begins: Notify::new(),
            open: Mutex::default(),
            metrics,
        }
    }

    /// Counts a new connection. Returns `None` if a limit has been reached.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<OpenConnection> {
        let peer = peer.to_canonical();
        let is_trusted = self.limits.trusted_proxies.iter().any(|network| network.contains(&peer));
        let network = Network::from(peer);
        let mut open = self.open();
        if open.total >= self.limits.total {
            self.metrics.http_connections_refused.inc(ConnectionLimit::Total);
            return None;
        }
        let from_network = open.by_network.get(&network).copied().unwrap_or_default();
        if from_network >= self.limits.per_address && !is_trusted {
            self.metrics.http_connections_refused.inc(ConnectionLimit::Address);
            return None;
        }
        open.total += 1;
        open.by_network.insert(network, from_network + 1);
        self.metrics.http_connections.inc();
        Some(OpenConnection { connections: Arc::clone(self), network })
    }

    /// Returns `true` if every reply should close its connection.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Waits until the drain starts.
    pub(super) async fn until_draining(&self) {
        let drain_begins = self.drain_begins.notified();
        if !self.is_draining() {
            drain_begins.await;
        }
    }

    /// Starts the drain, and waits until every connection is closed, at most `limit`. Callers
    /// and load balancers reconnect to other instances meanwhile.
    pub async fn drain(&self, limit: Duration) {
        self.is_draining.store(true, Ordering::Relaxed);
        self.drain_begins.notify_waiters();
        let all_closed = async {
            while self.open().total > 0 {
                sleep(POLL_INTERVAL).await;
            }
        };
        // The connections that remain at the timeout are idle; the server then closes them.
        let _ = timeout(limit, all_closed).await;
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.total -= 1;
        self.connections.metrics.http_connections.dec();
        if let Some(count) = open.by_network.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.by_network.remove(&self.network);
            }
        }
    }
}

/// Returns the largest number of connections of a listener that the settings and the limit on file
/// descriptors allow.
fn max_connections(settings: &HttpSettings) -> u32 {
    let wanted = settings.max_connections;
    let Some(descriptors) = descriptors::raise_limit() else { return wanted };
    let listeners = if settings.management_address.is_some() { 2 } else { 1 };
    let allowed = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(descriptors / 2) / listeners;
    let allowed = u32::try_from(allowed).unwrap_or(u32::MAX);
    if wanted > allowed {
        tracing::warn!(
            descriptors,
            "HTTP_MAX_CONNECTIONS lowered to {allowed}: too few file descriptors (ulimit -n)"
        );
    }
    wanted.min(allowed)
}
