//! Wiring: what is made in which order, and in which order it ends.

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

use crate::actors::{Drain, HashQueue, Mailbox, SessionActor, UserActor};
use crate::clock::Clock;
use crate::config::{Config, HttpSettings, RevocationSettings, SigningKeySource};
use crate::domain::SigningKey;
use crate::http::{Api, Lifecycle, OpenConnection, RootSpan, routes, watch};
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::{self, OpenError, Store, StoreError};
use crate::telemetry::Chain;
use crate::tokens::{self, KeyFileError, Tokens};

/// Longer than the minute for which load balancers commonly keep an idle connection: they, not we,
/// close it, so none of their requests meets a closed one.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// The service, ready to run.
pub struct Application {
    server: Server,
    address: SocketAddr,
    sessions: Mailbox<SessionActor>,
    store: Arc<dyn Store>,
    lifecycle: Arc<Lifecycle>,
    settings: HttpSettings,
}

/// Why the service did not start.
#[derive(Debug, Error)]
pub enum StartupError {
    /// The database is not to be had.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The revocations could not be loaded.
    #[error("cannot load the revocations")]
    Load(#[from] StoreError),
    /// The file with the signing key gives none.
    #[error("cannot use the signing key kept in {}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyFileError,
    },
    /// Two metrics bear one name.
    #[error("cannot register the metrics")]
    Metrics(#[from] prometheus::Error),
    /// The port is taken, or not ours to take.
    #[error("cannot listen on {host}:{port} (HOST and PORT choose another address)")]
    Listen {
        /// Where it should have listened.
        host: String,
        /// On which port.
        port: u16,
        /// Why it cannot.
        source: io::Error,
    },
}

impl Application {
    /// Makes everything that the service consists of. When it returns, the revocations are loaded
    /// and the port is bound.
    ///
    /// # Errors
    /// When the database, the signing key or the port is not to be had.
    pub async fn build(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartupError> {
        let deadline = config.http.request_timeout;
        let metrics = Arc::new(Metrics::new()?);
        let tokens = Tokens::new(&signing_key(&config.signing_key)?, config.tokens.clone());
        let tokens = Arc::new(tokens);
        let store = store::open(&config.database).await?;
        let RevocationSettings { capacity, max_staleness, .. } = config.revocations;
        let replica = Arc::new(Replica::new(capacity, max_staleness, Arc::clone(&clock)));
        metrics.revocation_max_staleness.set(max_staleness.as_secs_f64());

        let hashing =
            HashQueue::start(config.hashing, deadline, Arc::clone(&clock), Arc::clone(&metrics));
        let users = UserActor::new(Arc::clone(&store), hashing, Arc::clone(&clock));
        let sessions = SessionActor::load(
            &config,
            Arc::clone(&store),
            Arc::clone(&replica),
            Arc::clone(&clock),
            Arc::clone(&metrics),
        )
        .await?;

        let users = Mailbox::new(users.start(), deadline);
        let sessions = Mailbox::new(sessions.start(), deadline);
        let lifecycle = Arc::new(Lifecycle::default());
        let api = Api {
            users,
            sessions: sessions.clone(),
            tokens,
            replica,
            store: Arc::clone(&store),
            clock,
            clear_checks: metrics.revocation_checks.with_label_values(&["clear"]),
            metrics,
            body_timeout: deadline,
            trusted_proxies: config.http.trusted_proxies.clone(),
            lifecycle: Arc::clone(&lifecycle),
        };
        let (server, address) = listen(&config.http, api)?;
        Ok(Self { server, address, sessions, store, lifecycle, settings: config.http })
    }

    /// Returns the address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` resolves; then sends clients elsewhere, stops accepting, finishes the
    /// requests in flight and the commits under way, and returns.
    ///
    /// # Errors
    /// When serving fails.
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
            tracing::warn!(error = %Chain(&error), "the last revocations were not committed");
        }
        if timeout(self.settings.request_timeout, self.store.close()).await.is_err() {
            tracing::warn!("the database connections did not close in time");
        }
        Ok(())
    }
}

fn signing_key(source: &SigningKeySource) -> Result<SigningKey, StartupError> {
    match source {
        SigningKeySource::Given(key) => Ok(key.clone()),
        SigningKeySource::KeptIn(path) => tokens::load_or_create(path)
            .map_err(|source| StartupError::KeyFile { path: path.clone(), source }),
    }
}

fn listen(settings: &HttpSettings, api: Api) -> Result<(Server, SocketAddr), StartupError> {
    let HttpSettings { host, port, .. } = settings.clone();
    let failed = |source| StartupError::Listen { host: host.clone(), port, source };
    let lifecycle = Arc::clone(&api.lifecycle);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(api.clone()))
            .configure(routes)
            .wrap(from_fn(watch))
            .wrap(TracingLogger::<RootSpan>::new())
    })
    .workers(settings.workers)
    .keep_alive(KEEP_ALIVE)
    .on_connect(move |_, data| {
        data.insert(OpenConnection::count(&lifecycle));
    })
    // A client that has gone takes its request along, down to the hash that has not begun.
    .h1_allow_half_closed(false)
    .shutdown_timeout(settings.shutdown_timeout.as_secs())
    .disable_signals()
    .bind((host.as_str(), port))
    .map_err(failed)?;
    let address = server.addrs().first().copied();
    let address = address.ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
    Ok((server.run(), address))
}
