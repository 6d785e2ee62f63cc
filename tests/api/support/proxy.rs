use std::sync::{Arc, Weak};

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::TestDatabase;

/// Treatment of the connections through a proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    Forward,
    /// Forwards nothing and keeps the connections open.
    Stall,
    /// Closes every connection, and every new one at once.
    Cut,
    /// As `Cut`, but with a reset, as from a machine that does not know the connection.
    Reset,
}

#[derive(Clone)]
struct Settings {
    mode: ProxyMode,
    server: String,
    /// Number of silences so far. A connection from before the latest one stays open, but silent.
    generation: u64,
    stop: Option<Stop>,
}

/// Message of a client with which the proxy stalls: the message arrives, but no reply does.
#[derive(Clone, Copy)]
struct Stop {
    /// Text of the first message that counts.
    first: &'static str,
    has_begun: bool,
    /// Number of messages until then.
    remaining: usize,
}

/// A TCP proxy in front of Postgres.
pub struct Proxy {
    settings: Arc<watch::Sender<Settings>>,
    pub database: TestDatabase,
}

impl Proxy {
    /// Starts a proxy that forwards to a database.
    pub async fn start(database: &TestDatabase) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        Self::start_on(listener, database)
    }

    /// Starts a proxy that listens on an address of choice.
    pub fn start_on(listener: TcpListener, database: &TestDatabase) -> Self {
        let address = listener.local_addr().expect("the listener has an address");
        let server = server_address(database);
        let initial = Settings { mode: ProxyMode::Forward, server, generation: 0, stop: None };
        let settings = Arc::new(watch::Sender::new(initial));
        actix_web::rt::spawn(accept_connections(listener, Arc::downgrade(&settings)));
        Self { settings, database: database.with_port(address.port()) }
    }

    pub fn set_mode(&self, mode: ProxyMode) {
        self.settings.send_modify(|settings| settings.mode = mode);
    }

    /// Forwards nothing through the connections of now, without closing them, as a firewall does
    /// that has forgotten them. New ones are forwarded.
    pub fn silence_connections(&self) {
        self.settings.send_modify(|settings| settings.generation += 1);
    }

    /// Stalls with a message of a client, which still arrives: the one after `count` others from the
    /// first one on that contains a text.
    pub fn stall_after(&self, first: &'static str, count: usize) {
        let stop = Stop { first, has_begun: false, remaining: count };
        self.settings.send_modify(|settings| settings.stop = Some(stop));
    }

    /// Waits until the proxy stalls.
    pub async fn stalled(&self) {
        let mut settings = self.settings.subscribe();
        let is_stalled = |settings: &Settings| settings.mode == ProxyMode::Stall;
        settings.wait_for(is_stalled).await.expect("the proxy runs");
    }

    /// Cuts every connection and forwards new ones to another server.
    pub fn redirect_to(&self, database: &TestDatabase) {
        self.settings.send_modify(|settings| settings.server = server_address(database));
    }
}

fn server_address(database: &TestDatabase) -> String {
    let options: PgConnectOptions = database.url().parse().expect("the database has a valid URL");
    format!("{}:{}", options.get_host(), options.get_port())
}

impl Settings {
    /// Counts a message of a client. Stalls with the last one.
    fn count_message(&mut self, message: &[u8]) -> bool {
        let Some(stop) = &mut self.stop else { return false };
        let contains = |text: &str| message.windows(text.len()).any(|part| part == text.as_bytes());
        stop.has_begun |= contains(stop.first);
        if !stop.has_begun {
            return false;
        }
        if let Some(remaining) = stop.remaining.checked_sub(1) {
            stop.remaining = remaining;
            return false;
        }
        self.mode = ProxyMode::Stall;
        self.stop = None;
        true
    }
}

/// Accepts connections until the proxy is dropped, which closes all of them.
async fn accept_connections(listener: TcpListener, proxy: Weak<watch::Sender<Settings>>) {
    while let Ok((client, _)) = listener.accept().await {
        let Some(settings) = proxy.upgrade() else { return };
        let accepted = settings.borrow().clone();
        let Ok(server) = TcpStream::connect(&accepted.server).await else { continue };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let sender = proxy.clone();
        let count = move |message: &[u8]| {
            let Some(settings) = sender.upgrade() else { return };
            settings.send_if_modified(|settings| settings.count_message(message));
        };
        let receiver = settings.subscribe();
        actix_web::rt::spawn(forward(
            from_client,
            to_server,
            accepted.clone(),
            receiver.clone(),
            count,
        ));
        actix_web::rt::spawn(forward(from_server, to_client, accepted, receiver, |_: &[u8]| {}));
    }
}

/// Forwards one direction of a connection as the settings say, until it closes. `accepted` are the
/// settings at its start; `observe` sees everything before it is forwarded.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    accepted: Settings,
    mut settings: watch::Receiver<Settings>,
    observe: impl Fn(&[u8]),
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let current = settings.borrow_and_update().clone();
        if current.server != accepted.server {
            return;
        }
        let is_silent = current.generation != accepted.generation;
        let is_stalled = is_silent || current.mode == ProxyMode::Stall;
        match current.mode {
            ProxyMode::Cut => return,
            ProxyMode::Reset => {
                // Closing without lingering sends a reset. An error means it is closed already.
                let _ = to.as_ref().set_zero_linger();
                return;
            }
            ProxyMode::Stall | ProxyMode::Forward if is_stalled => {
                if settings.changed().await.is_err() {
                    return;
                }
            }
            ProxyMode::Stall | ProxyMode::Forward => tokio::select! {
                // First, so that nothing passes once the proxy stalls.
                biased;
                changed = settings.changed() => if changed.is_err() { return },
                read = from.read(&mut buffer) => {
                    let count = read.unwrap_or_default();
                    observe(&buffer[..count]);
                    if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            },
        }
    }
}
