//! Startup and shutdown: the order in which the parts of the service start and stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use actix::Actor;
use actix_web::dev::Server;
use thiserror::Error;
use tokio::time::timeout;

use crate::actors::{Drain, HashQueue, Mailbox, RevocationWriter, SessionActor, UserActor};
use crate::clock::{Clock, DatabaseClock};
use crate::config::{Config, DatabaseSettings, HttpSettings, RevocationSettings, SigningKeySource};
use crate::domain::SigningKey;
use crate::http::{Api, BoundServer, Connections, FailureLog, ListenError, Readiness};
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::{self, OpenError, SchemaPolicy, Store, StoreError};
use crate::telemetry::ErrorChain;
use crate::tokens::{self, KeyDerivationError, KeyFileError, Tokens};

/// The service, bound to its port and ready to run.
pub struct Application {
    server: Server,
    address: SocketAddr,
    sessions: Mailbox<SessionActor>,
    store: Arc<dyn Store>,
    connections: Arc<Connections>,
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
    /// The port is taken or reserved.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl Application {
    /// Binds the port, opens the database, loads the revocations, starts the actors and the server.
    ///
    /// # Errors
    /// Returns the first [`StartupError`].
    pub async fn build(
        config: Config,
        host: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartupError> {
        let server = BoundServer::bind(&config.http)?;
        let database_clock = Arc::new(DatabaseClock::new(host));
        let clock: Arc<dyn Clock> = Arc::clone(&database_clock) as _;
        let signing_key = signing_key(&config.signing_key)?;
        let tokens = Arc::new(Tokens::new(&signing_key, config.tokens.clone())?);
        let store = open_store(&config.database).await?;
        let replica = Arc::new(new_replica(config.revocations, &clock, &metrics));
        let (users, sessions) = start_actors(
            &config,
            Arc::clone(&store),
            Arc::clone(&replica),
            database_clock,
            Arc::clone(&metrics),
        )
        .await?;
        let connections = Arc::new(Connections::new(&config.http, Arc::clone(&metrics)));
        let api = Api {
            readiness: Arc::new(Readiness::new(users.clone(), Arc::clone(&clock))),
            users,
            sessions: sessions.clone(),
            tokens,
            replica,
            store: Arc::clone(&store),
            clock,
            metrics,
            body_timeout: config.http.request_timeout,
            trusted_proxies: config.http.trusted_proxies.clone(),
            connections: Arc::clone(&connections),
            failures: FailureLog::default(),
        };
        let (server, address) = server.serve(&api)?;
        Ok(Self { server, address, sessions, store, connections, settings: config.http })
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
            self.connections.drain(self.settings.shutdown_drain).await;
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

/// Starts the actors, with the hashing queue and the writer of revocations that they share.
async fn start_actors(
    config: &Config,
    store: Arc<dyn Store>,
    replica: Arc<Replica>,
    database_clock: Arc<DatabaseClock>,
    metrics: Arc<Metrics>,
) -> Result<(Mailbox<UserActor>, Mailbox<SessionActor>), StoreError> {
    let clock: Arc<dyn Clock> = Arc::clone(&database_clock) as _;
    let timeout = config.http.request_timeout;
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
        config,
        Arc::clone(&store),
        replica,
        Arc::clone(&revocations),
        database_clock,
        metrics,
    )
    .await?;
    let users = UserActor::new(store, hashing, revocations, clock);
    Ok((Mailbox::new(users.start(), timeout), Mailbox::new(sessions.start(), timeout)))
}

fn new_replica(settings: RevocationSettings, clock: &Arc<dyn Clock>, metrics: &Metrics) -> Replica {
    let RevocationSettings { capacity, max_staleness, .. } = settings;
    metrics.revocation_max_staleness.set(max_staleness.as_secs_f64());
    Replica::new(capacity, max_staleness, Arc::clone(clock))
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
