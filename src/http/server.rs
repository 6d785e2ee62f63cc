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
use actix_http::{HttpServiceBuilder, KeepAlive};
use actix_server::{GracefulShutdownSignal, Server, ServerBuilder};
use actix_service::{Service, ServiceFactory, apply_fn_factory, map_config};
use actix_web::App;
use actix_web::dev::AppConfig;
use actix_web::web::Data;
use thiserror::Error;
use tokio::net::{TcpSocket, TcpStream};
use tracing_actix_web::TracingLogger;

use super::connection::{Connection, Deadlines, missed_deadline};
use super::connections::Connections;
use super::observe::{observe_requests, register_refusals};
use super::request_id::RootSpan;
use super::routes::Routes;
use super::state::Api;
use crate::config::{HttpSettings, ListenAddress};
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
#[error("cannot listen on {host}:{port} ({hint})")]
pub struct ListenError {
    /// Host as in a URL.
    host: String,
    port: u16,
    /// Settings that choose another address.
    hint: &'static str,
    source: io::Error,
}

/// A server that is bound to its addresses, and accepts no connections yet.
#[derive(Debug)]
pub struct BoundServer {
    public: BoundListener,
    management: Option<BoundListener>,
    settings: HttpSettings,
}

/// A server that accepts connections.
pub struct RunningServer {
    pub server: Server,
    pub public: RunningListener,
    /// Listener for operators.
    pub management: Option<RunningListener>,
}

/// A listener of a [`RunningServer`].
pub struct RunningListener {
    /// Its first address.
    pub address: SocketAddr,
    pub connections: Arc<Connections>,
}

impl BoundServer {
    /// Binds the addresses of both listeners.
    ///
    /// # Errors
    /// Returns an error if a host is unknown, or none of its addresses can be bound.
    pub fn bind(settings: &HttpSettings) -> Result<Self, ListenError> {
        let bind_management =
            |address| BoundListener::bind(address, "MANAGEMENT_ADDRESS chooses another address");
        Ok(Self {
            public: BoundListener::bind(&settings.address, "HOST and PORT choose another address")?,
            management: settings.management_address.as_ref().map(bind_management).transpose()?,
            settings: settings.clone(),
        })
    }

    /// Accepts connections, counted for each listener: `api` has those of the public one.
    ///
    /// # Errors
    /// Returns an error if the operating system refuses to listen.
    pub fn serve(self, api: &Api) -> Result<RunningServer, ListenError> {
        let Self { public, management, settings } = self;
        register_refusals(&api.metrics);
        let builder = Server::build()
            .workers(settings.workers)
            // `Connections` has the limits.
            .max_concurrent_connections(usize::MAX)
            .shutdown_timeout(settings.shutdown_timeout.as_secs())
            .disable_signals();
        let routes = Routes {
            has_public: true,
            has_management: management.is_none(),
            has_docs: settings.serves_docs,
        };
        // Each worker has a service, and with it a cache, for each socket.
        let caches = settings.workers * public.sockets.len();
        let cache_size = api.tokens.token_cache_size().checked_div(caches).unwrap_or_default();
        let shutdown = builder.graceful_shutdown_signal();
        let app = AppParts { api: api.clone(), routes, cache_size, shutdown };
        let (mut builder, public) = public.listen(builder, &settings, &app)?;

        let mut running_management = None;
        if let Some(management) = management {
            let connections = Arc::new(api.connections.with_same_limits());
            let app = AppParts {
                api: Api { connections, ..app.api },
                routes: Routes { has_public: false, has_management: true, ..routes },
                // Administrators are few: their tokens are verified each time.
                cache_size: 0,
                ..app
            };
            let (with_both, running) = management.listen(builder, &settings, &app)?;
            (builder, running_management) = (with_both, Some(running));
        }
        Ok(RunningServer { server: builder.run(), public, management: running_management })
    }
}

/// Sockets of a listener.
#[derive(Debug)]
struct BoundListener {
    sockets: Vec<TcpSocket>,
    address: ListenAddress,
    /// Settings that choose another address.
    hint: &'static str,
}

impl BoundListener {
    fn bind(address: &ListenAddress, hint: &'static str) -> Result<Self, ListenError> {
        let address = address.clone();
        match bind_all(&address.host, address.port) {
            Ok(sockets) => Ok(Self { sockets, address, hint }),
            Err(error) => Err(listen_error(address, hint, error)),
        }
    }

    /// Adds the sockets to a server.
    fn listen(
        self,
        builder: ServerBuilder,
        settings: &HttpSettings,
        app: &AppParts,
    ) -> Result<(ServerBuilder, RunningListener), ListenError> {
        let Self { sockets, address, hint } = self;
        let (builder, address) = add_sockets(builder, sockets, settings, app)
            .map_err(|error| listen_error(address, hint, error))?;
        let connections = Arc::clone(&app.api.connections);
        Ok((builder, RunningListener { address, connections }))
    }
}

/// Adds sockets to a server. Returns the address of the first one, too.
fn add_sockets(
    mut builder: ServerBuilder,
    sockets: Vec<TcpSocket>,
    settings: &HttpSettings,
    app: &AppParts,
) -> io::Result<(ServerBuilder, SocketAddr)> {
    let deadlines = Deadlines { head: settings.head_timeout, reply: settings.reply_timeout };
    let mut addresses = Vec::new();
    for socket in sockets {
        let listener = socket.listen(BACKLOG)?.into_std()?;
        addresses.push(listener.local_addr()?);
        let app = app.clone();
        let service = move || connection_service(app.clone(), deadlines);
        builder = builder.listen("http", listener, service)?;
    }
    let address = addresses.first().copied().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((builder, address))
}

fn listen_error(address: ListenAddress, hint: &'static str, source: io::Error) -> ListenError {
    let ListenAddress { host, port } = address;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    ListenError { host, port, hint, source }
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

/// Parts of the application of a listener.
#[derive(Clone)]
struct AppParts {
    api: Api,
    routes: Routes,
    /// Size of the cache of verified tokens of each service, in bytes.
    cache_size: usize,
    shutdown: GracefulShutdownSignal,
}

/// Returns the service of a worker thread: it serves a connection until it closes, or until its
/// client misses a deadline.
fn connection_service(
    app: AppParts,
    deadlines: Deadlines,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()>
{
    let connections = Arc::clone(&app.api.connections);
    let metrics = Arc::clone(&app.api.metrics);
    let factory = http_service(app);
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
    app: AppParts,
) -> impl ServiceFactory<
    (Connection, Option<SocketAddr>),
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
> {
    let AppParts { api, routes, cache_size, shutdown } = app;
    let allowed_origins = api.cors_allowed_origins.clone();
    let api = Data::new(api);
    let app = App::new()
        .app_data(api.clone())
        .app_data(VerifiedTokenCache::new(cache_size))
        .configure(|config| routes.configure(config, &allowed_origins))
        // Not `from_fn`, which allocates twice for each request.
        .wrap_fn(move |request, app| observe_requests(&api, request, app))
        .wrap(TracingLogger::<RootSpan>::new());
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
        .h1(map_config(app, |()| AppConfig::default()))
}
