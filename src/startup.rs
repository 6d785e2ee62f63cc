//! Startup and shutdown: the order in which the parts of the service start and stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use thiserror::Error;
use tokio::time::timeout;
use tracing_actix_web::TracingLogger;

use crate::actors::{Drain, HashQueue, Mailbox, RevocationWriter, SessionActor, UserActor};
use crate::clock::{Clock, DatabaseClock};
use crate::config::{Config, DatabaseSettings, HttpSettings, RevocationSettings, SigningKeySource};
use crate::domain::SigningKey;
use crate::http::{Api, Lifecycle, OpenConnection, RootSpan, observe_requests, routes};
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::{self, OpenError, SchemaPolicy, Store, StoreError};
use crate::telemetry::ErrorChain;
use crate::tokens::{self, KeyDerivationError, KeyFileError, Tokens};

/// Timeout of idle connections. Load balancers commonly keep them for a minute: with a longer
/// timeout here the balancer closes first, and no request meets a closed connection.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// The service, bound to its port and ready to run.
pub struct Application {
    server: Server,
    address: SocketAddr,
    sessions: Mailbox<SessionActor>,
    store: Arc<dyn Store>,
    lifecycle: Arc<Lifecycle>,
    settings: HttpSettings,
}

/// Reason why the service did not start.
#[derive(Debug, Error)]
pub enum StartupError {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The revocations cannot be loaded.
    #[error("failed to load the revocations")]
    LoadRevocations(#[from] StoreError),
    /// The file of the signing key cannot be used.
    #[error("failed to use the signing key in {}", path.display())]
    KeyFile { path: PathBuf, source: KeyFileError },
    /// The key of the refresh tokens cannot be derived.
    #[error(transparent)]
    KeyDerivation(#[from] KeyDerivationError),
    /// Two metrics have the same name.
    #[error("failed to register the metrics")]
    Metrics(#[from] prometheus::Error),
    /// The port is taken or reserved.
    #[error("cannot listen on {host}:{port} (HOST and PORT choose another address)")]
    Listen { host: String, port: u16, source: io::Error },
}

impl Application {
    /// Opens the database, loads the revocations, starts the actors and binds the port.
    ///
    /// # Errors
    /// Returns the first [`StartupError`].
    pub async fn build(config: Config, host: Arc<dyn Clock>) -> Result<Self, StartupError> {
        let database_clock = Arc::new(DatabaseClock::new(host));
        let clock: Arc<dyn Clock> = Arc::clone(&database_clock) as _;
        let timeout = config.http.request_timeout;
        let metrics = Arc::new(Metrics::new()?);
        let signing_key = signing_key(&config.signing_key)?;
        let tokens = Arc::new(Tokens::new(&signing_key, config.tokens.clone())?);
        let store = open_store(&config.database).await?;
        let RevocationSettings { capacity, max_staleness, .. } = config.revocations;
        let replica = Arc::new(Replica::new(capacity, max_staleness, Arc::clone(&clock)));
        metrics.revocation_max_staleness.set(max_staleness.as_secs_f64());

        let hashing =
            HashQueue::start(config.hashing, timeout, Arc::clone(&clock), Arc::clone(&metrics));
        let revocations = Arc::new(RevocationWriter::start(
            Arc::clone(&store),
            Arc::clone(&replica),
            config.tokens.clone(),
            timeout,
            Arc::clone(&clock),
            Arc::clone(&metrics),
        ));
        let sessions = SessionActor::load(
            &config,
            Arc::clone(&store),
            Arc::clone(&replica),
            Arc::clone(&revocations),
            database_clock,
            Arc::clone(&metrics),
        )
        .await?;
        let users = UserActor::new(Arc::clone(&store), hashing, revocations, Arc::clone(&clock));

        let users = Mailbox::new(users.start(), timeout);
        let sessions = Mailbox::new(sessions.start(), timeout);
        let lifecycle = Arc::new(Lifecycle::default());
        let api = Api {
            users,
            sessions: sessions.clone(),
            tokens,
            replica,
            store: Arc::clone(&store),
            clock,
            metrics,
            body_timeout: timeout,
            trusted_proxies: config.http.trusted_proxies.clone(),
            lifecycle: Arc::clone(&lifecycle),
        };
        let (server, address) = listen(&config.http, api)?;
        Ok(Self { server, address, sessions, store, lifecycle, settings: config.http })
    }

    /// Returns the address that the service listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` resolves, then shuts down: asks clients to reconnect elsewhere, stops
    /// accepting connections, finishes the requests and commits in flight.
    ///
    /// # Errors
    /// Returns an error if serving fails.
    pub async fn run_until_stopped(
        self,
        stop: impl Future<Output = ()> + 'static,
    ) -> io::Result<()> {
        let server = self.server.handle();
        actix::spawn(async move {
            stop.await;
            tracing::info!("shutting down: finishing requests in flight");
            self.lifecycle.drain(self.settings.shutdown_drain).await;
            server.stop(true).await;
        });
        self.server.await?;

        if let Err(error) = self.sessions.ask(Drain).await {
            tracing::warn!(error = %ErrorChain(&error), "failed to finish the last revocations");
        }
        if timeout(self.settings.request_timeout, self.store.close()).await.is_err() {
            tracing::warn!("failed to close the database connections in time");
        }
        Ok(())
    }
}

async fn open_store(settings: &DatabaseSettings) -> Result<Arc<dyn Store>, OpenError> {
    let database = store::describe(&settings.database);
    let report = |step: &str| tracing::info!(database, "{step}");
    store::open(settings, SchemaPolicy::Migrate, &report).await
}

fn signing_key(source: &SigningKeySource) -> Result<SigningKey, StartupError> {
    let key = match source {
        SigningKeySource::Given(key) => key.clone(),
        SigningKeySource::KeptIn(path) => tokens::load_or_create(path)
            .map_err(|source| StartupError::KeyFile { path: path.clone(), source })?,
    };
    if key.is_weak() {
        tracing::warn!("the signing key looks guessable: make one with `openssl rand -hex 32`");
    }
    Ok(key)
}

fn listen(settings: &HttpSettings, api: Api) -> Result<(Server, SocketAddr), StartupError> {
    let HttpSettings { host, port, .. } = settings.clone();
    let error = |source| StartupError::Listen { host: host.clone(), port, source };
    let lifecycle = Arc::clone(&api.lifecycle);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(api.clone()))
            .configure(routes)
            .wrap(from_fn(observe_requests))
            .wrap(TracingLogger::<RootSpan>::new())
    })
    .workers(settings.workers)
    .keep_alive(KEEP_ALIVE)
    .on_connect(move |_, data| {
        data.insert(OpenConnection::count(&lifecycle));
    })
    // A disconnect cancels the request, and with it a hash that waits in the queue.
    .h1_allow_half_closed(false)
    .shutdown_timeout(settings.shutdown_timeout.as_secs())
    .disable_signals()
    .bind((host.as_str(), port))
    .map_err(error)?;
    let address = server.addrs().first().copied();
    let address = address.ok_or_else(|| error(io::ErrorKind::AddrNotAvailable.into()))?;
    Ok((server.run(), address))
}
