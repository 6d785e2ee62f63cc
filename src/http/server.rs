//! The HTTP server: it binds the addresses, and serves each connection within its limits.
//!
//! `actix_web::HttpServer` cannot do this: it has no deadline for a request after the first, or for
//! a reply. The parts that it consists of take any stream, such as a [`Connection`].

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpServiceBuilder, KeepAlive, Request};
use actix_server::{GracefulShutdownSignal, Server};
use actix_service::{Service, ServiceFactory, apply_fn_factory, map_config};
use actix_web::App;
use actix_web::dev::AppConfig;
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use thiserror::Error;
use tokio::net::{TcpSocket, TcpStream};
use tracing_actix_web::TracingLogger;

use super::connection::{Activity, Connection, Deadlines, missed_deadline};
use super::observe::{observe_requests, register_refusals};
use super::request_id::RootSpan;
use super::routes::routes;
use super::state::Api;
use crate::config::HttpSettings;
use crate::tokens::VerifiedTokenCache;

/// Maximum number of connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Size of the kernel's send buffer of a connection, in bytes. The kernel would let the buffer of a
/// client that does not read grow to megabytes.
const SEND_BUFFER: u32 = 64 * 1024;

/// Time for which the rest of a request body is discarded after a reply that did not need it.
/// Closing at once could destroy the reply on its way.
const LINGER: Duration = Duration::from_secs(1);

/// Failure to listen: the port is taken or reserved.
#[derive(Debug, Error)]
#[error("cannot listen on {host}:{port} (HOST and PORT choose another address)")]
pub struct ListenError {
    host: String,
    port: u16,
    source: io::Error,
}

/// A server that is bound to its addresses, and accepts no connections yet.
#[derive(Debug)]
pub struct BoundServer {
    sockets: Vec<TcpSocket>,
    settings: HttpSettings,
}

impl BoundServer {
    /// Binds the addresses of the host.
    ///
    /// # Errors
    /// Returns an error if the host is unknown, or none of its addresses can be bound.
    pub fn bind(settings: &HttpSettings) -> Result<Self, ListenError> {
        let settings = settings.clone();
        match bind_all(&settings.host, settings.port) {
            Ok(sockets) => Ok(Self { sockets, settings }),
            Err(error) => Err(listen_error(&settings, error)),
        }
    }

    /// Accepts connections. Returns the running server and its first address.
    ///
    /// # Errors
    /// Returns an error if the operating system refuses to listen.
    pub fn serve(self, api: &Api) -> Result<(Server, SocketAddr), ListenError> {
        let Self { sockets, settings } = self;
        register_refusals(&api.metrics);
        listen(sockets, &settings, api).map_err(|error| listen_error(&settings, error))
    }
}

fn listen_error(settings: &HttpSettings, source: io::Error) -> ListenError {
    ListenError { host: settings.host.clone(), port: settings.port, source }
}

/// Binds every address of a host. Fails if none can be bound.
fn bind_all(host: &str, port: u16) -> io::Result<Vec<TcpSocket>> {
    let mut sockets = Vec::new();
    let mut failure = io::ErrorKind::AddrNotAvailable.into();
    for address in (host, port).to_socket_addrs()? {
        match bind_address(address) {
            Ok(socket) => sockets.push(socket),
            Err(error) => failure = error,
        }
    }
    if sockets.is_empty() { Err(failure) } else { Ok(sockets) }
}

fn bind_address(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(
    sockets: Vec<TcpSocket>,
    settings: &HttpSettings,
    api: &Api,
) -> io::Result<(Server, SocketAddr)> {
    let deadlines = Deadlines { head: settings.head_timeout, reply: settings.reply_timeout };
    let mut builder = Server::build()
        .workers(settings.workers)
        // `Connections` has the limits.
        .max_concurrent_connections(usize::MAX)
        .shutdown_timeout(settings.shutdown_timeout.as_secs())
        .disable_signals();
    let shutdown = builder.graceful_shutdown_signal();
    // Each worker has a service, and with it a cache, for each socket.
    let caches = settings.workers * sockets.len();
    let cache_size = settings.token_cache_size.checked_div(caches).unwrap_or_default();
    let mut addresses = Vec::new();
    for socket in sockets {
        let listener = socket.listen(BACKLOG)?.into_std()?;
        addresses.push(listener.local_addr()?);
        let api = api.clone();
        let shutdown = shutdown.clone();
        let service =
            move || connection_service(api.clone(), cache_size, shutdown.clone(), deadlines);
        builder = builder.listen("http", listener, service)?;
    }
    let address = addresses.first().copied().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((builder.run(), address))
}

/// Returns the service of a worker thread: it serves a connection until it closes, or until its
/// client misses a deadline.
fn connection_service(
    api: Api,
    cache_size: usize,
    shutdown: GracefulShutdownSignal,
    deadlines: Deadlines,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()>
{
    let connections = Arc::clone(&api.connections);
    let metrics = Arc::clone(&api.metrics);
    let factory = http_service(api, cache_size, shutdown);
    apply_fn_factory(factory, move |stream: TcpStream, http| {
        let served = stream.peer_addr().ok().and_then(|peer| {
            let guard = connections.admit(peer.ip())?;
            let connection = Connection::new(stream);
            let missed = missed_deadline(Rc::clone(connection.activity()), deadlines);
            Some((http.call((connection, Some(peer))), missed, guard))
        });
        let metrics = Arc::clone(&metrics);
        async move {
            let Some((requests, missed, _guard)) = served else { return Ok(()) };
            tokio::select! {
                biased;
                ended = requests => ended,
                deadline = missed => {
                    metrics.http_connections_timed_out.inc(deadline);
                    Ok(())
                }
            }
        }
    })
}

/// Returns the service of the requests of a connection.
fn http_service(
    api: Api,
    cache_size: usize,
    shutdown: GracefulShutdownSignal,
) -> impl ServiceFactory<
    (Connection, Option<SocketAddr>),
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
> {
    let allowed_origins = api.cors_allowed_origins.clone();
    let app = App::new()
        .app_data(Data::new(api))
        .app_data(VerifiedTokenCache::new(cache_size))
        .configure(|config| routes(config, &allowed_origins))
        .wrap(from_fn(observe_requests))
        .wrap(TracingLogger::<RootSpan>::new());
    let app = map_config(app, |()| AppConfig::default());
    let recorded_app = apply_fn_factory(app, |request: Request, app| {
        let activity = request.conn_data::<Rc<Activity>>().map(Rc::clone).unwrap_or_default();
        activity.begin_request();
        let reply = app.call(request);
        async move {
            let reply = reply.await;
            activity.end_request();
            reply
        }
    });
    HttpServiceBuilder::default()
        // `missed_deadline` has all deadlines but this one.
        .client_disconnect_timeout(LINGER)
        .client_request_timeout(Duration::ZERO)
        .keep_alive(KeepAlive::Os)
        // A disconnect cancels the request, and with it a hash that waits in the queue.
        .h1_allow_half_closed(false)
        .graceful_shutdown_signal(move || {
            let shutdown = shutdown.clone();
            async move { shutdown.notified().await }
        })
        .on_connect_ext(|connection: &Connection, data| {
            data.insert(Rc::clone(connection.activity()));
        })
        .h1(recorded_app)
}
