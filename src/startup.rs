//! Startup and shutdown: the order in which the parts of the service start and stop.

use std::io;
use std::iter;
use std::net::SocketAddr;
use std::sync::Arc;

use actix::Actor;
use futures_util::future::join_all;
use thiserror::Error;
use tokio::time::timeout;

use crate::actors::{
    ClientActor, DetailsCache, Drain, KeyActor, Mailbox, RevocationWriter, RoleActor, SessionActor,
    SharedState, UserActor,
};
use crate::clock::{Clock, DatabaseClock};
use crate::config::{Config, DatabaseSettings, HttpSettings, RevocationSettings, SigningAlgorithm};
use crate::http::{
    Api, BoundServer, CompleteReads, Connections, FailureLog, FeedLimits, ListenError, Readiness,
    RunningServer,
};
use crate::keys::{self, Keys, KeysError, OpenKeysError};
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::{self, KeyStore, OpenError, SchemaPolicy, SharedSetting, Store, StoreError};
use crate::telemetry::ErrorChain;
use crate::tokens::{CounterIds, CryptoError, KeyRing, Tokens};

/// The service, bound to its ports and ready to run.
pub struct Application {
    server: RunningServer,
    sessions: Mailbox<SessionActor>,
    store: Arc<dyn Store>,
    settings: HttpSettings,
}

/// Reason why the service did not start.
#[derive(Debug, Error)]
pub enum StartupError {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The keys or the revocations cannot be loaded.
    #[error("failed to load the keys and the revocations")]
    Load(#[from] StoreError),
    /// The root key cannot be decrypted.
    #[error("failed to open the keys in the database")]
    OpenKeys(#[from] OpenKeysError),
    /// The first signing keys cannot be made.
    #[error("failed to make the first signing keys")]
    StartKeys(#[from] KeysError),
    /// A key cannot be derived.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// A port is taken or reserved.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl Application {
    /// Binds the ports, opens the database, loads the revocations, starts the actors and the server.
    ///
    /// # Errors
    /// Returns the first [`StartupError`].
    pub async fn build(
        config: Config,
        host: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartupError> {
        let server = BoundServer::bind(&config.http)?;
        let database_clock = Arc::new(DatabaseClock::new(Arc::clone(&host)));
        let clock: Arc<dyn Clock> = Arc::clone(&database_clock) as _;
        let store = open_store(&config.database).await?;
        let (keys, tokens) = within(&config, open_keys(&config, &store, host)).await?;
        within(&config, announce(&config, &*store, &metrics)).await?;
        let replica = Arc::new(new_replica(config.revocations, &clock, &metrics));
        let state = SharedState { replica, tokens, clients: Arc::default() };
        let actors = start_actors(&config, keys, &store, &state, database_clock, &metrics).await?;
        let complete_reads = CompleteReads::new(
            Arc::clone(&state.replica),
            actors.sessions.clone(),
            Arc::clone(&clock),
            config.http.request_timeout,
        );
        let connections = Arc::new(Connections::new(&config.http, Arc::clone(&metrics)));
        let api = Api {
            readiness: Arc::new(Readiness::new(actors.users.clone(), Arc::clone(&clock))),
            feed_limits: Arc::new(FeedLimits::new(config.revocations, &clock)),
            users: actors.users,
            sessions: actors.sessions.clone(),
            roles: actors.roles,
            keys: actors.keys,
            clients: actors.clients,
            details: actors.details,
            directory: state.clients,
            tokens: state.tokens,
            replica: state.replica,
            store: Arc::clone(&store),
            clock,
            metrics,
            public_url: config.public_url.clone(),
            is_registration_open: config.is_registration_open,
            passwords: config.passwords.clone(),
            jwks_max_age: config.keys.jwks_max_age,
            body_timeout: config.http.request_timeout,
            trusted_proxies: config.http.trusted_proxies.clone(),
            cors_allowed_origins: config.http.cors_allowed_origins.clone(),
            connections,
            failures: FailureLog::default(),
            complete_reads: Arc::new(complete_reads),
        };
        Ok(Self {
            server: server.serve(&api)?,
            sessions: actors.sessions,
            store,
            settings: config.http,
        })
    }

    /// Returns the address of the public listener.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.public.address
    }

    /// Returns the address of the listener for operators, if there is one.
    #[must_use]
    pub fn management_address(&self) -> Option<SocketAddr> {
        self.server.management.as_ref().map(|listener| listener.address)
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
        let RunningServer { server, public, management } = self.server;
        let handle = server.handle();
        let limit = self.settings.shutdown_drain;
        actix::spawn(async move {
            stop.await;
            tracing::info!("shutting down: finishing requests in flight");
            let listeners = iter::once(public).chain(management);
            join_all(listeners.map(async |listener| listener.connections.drain(limit).await)).await;
            handle.stop(true).await;
        });
        server.await?;

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

/// The actors, and the cache that one of them fills.
struct Actors {
    users: Mailbox<UserActor>,
    details: DetailsCache,
    sessions: Mailbox<SessionActor>,
    roles: Mailbox<RoleActor>,
    clients: Mailbox<ClientActor>,
    keys: Mailbox<KeyActor>,
}

/// Loads the shared state, and starts the actors with the writer of revocations that they share.
async fn start_actors(
    config: &Config,
    keys: Keys,
    store: &Arc<dyn Store>,
    state: &SharedState,
    database_clock: Arc<DatabaseClock>,
    metrics: &Arc<Metrics>,
) -> Result<Actors, StartupError> {
    let clock: Arc<dyn Clock> = Arc::clone(&database_clock) as _;
    let timeout = config.http.request_timeout;
    let revocations = Arc::new(RevocationWriter::start(
        Arc::clone(store),
        Arc::clone(&state.replica),
        config.tokens.clone(),
        timeout,
        Arc::clone(&clock),
        Arc::clone(metrics),
    ));
    let sessions = SessionActor::load(
        config,
        Arc::clone(store),
        state,
        Arc::clone(&revocations),
        database_clock,
        Arc::clone(metrics),
    )
    .await?;
    let roles = RoleActor::new(
        config,
        Arc::clone(store),
        Arc::clone(&state.replica),
        sessions.versions(),
        Arc::clone(metrics),
    );
    let clients = ClientActor::new(
        config,
        Arc::clone(store),
        state,
        Arc::clone(&revocations),
        Arc::clone(&clock),
    );
    let ids = CounterIds::new(&keys.root)?;
    let keys = KeyActor::new(config, keys, state, Arc::clone(&clock));
    let metrics = Arc::clone(metrics);
    let users = UserActor::new(config, Arc::clone(store), ids, revocations, clock, metrics);
    Ok(Actors {
        details: users.details_cache(),
        users: Mailbox::new(users.start(), timeout),
        sessions: Mailbox::new(sessions.start(), timeout),
        roles: Mailbox::new(roles.start(), timeout),
        clients: Mailbox::new(clients.start(), timeout),
        keys: Mailbox::new(keys.start(), timeout),
    })
}

fn new_replica(settings: RevocationSettings, clock: &Arc<dyn Clock>, metrics: &Metrics) -> Replica {
    let RevocationSettings { capacity, max_staleness, .. } = settings;
    metrics.revocation_max_staleness.set(max_staleness.as_secs_f64());
    Replica::new(capacity, max_staleness, Arc::clone(clock))
}

/// Opens the keys of the database, and makes the first ones.
async fn open_keys(
    config: &Config,
    store: &Arc<dyn Store>,
    host: Arc<dyn Clock>,
) -> Result<(Keys, Arc<Tokens>), StartupError> {
    let store = Arc::clone(store) as Arc<dyn KeyStore>;
    let (secret, root) = keys::open_root_key(&*store, &config.keys).await?;
    let keys = Keys { store, root: Arc::new(root), periods: config.key_periods(), host };
    let ring = match config.keys.algorithm {
        SigningAlgorithm::Es256 => KeyRing::es256(&keys.provide().await?, &keys.root),
        SigningAlgorithm::Hs256 => KeyRing::hs256(&secret, config.keys.previous_secret.as_ref())?,
    };
    let tokens = Tokens::new(Arc::clone(&keys.root), ring, config.tokens.clone())?;
    Ok((keys, Arc::new(tokens)))
}

/// Awaits a step of the start. A database can fall silent between two of them.
async fn within<T>(
    config: &Config,
    step: impl Future<Output = Result<T, StartupError>>,
) -> Result<T, StartupError> {
    let limit = config.http.request_timeout;
    timeout(limit, step).await.unwrap_or(Err(StoreError::Timeout(limit).into()))
}

/// Stores the settings that all instances have to share. Those with another issuer or algorithm
/// refuse each other's access tokens.
async fn announce(
    config: &Config,
    store: &dyn Store,
    metrics: &Metrics,
) -> Result<(), StartupError> {
    let issuer = config.tokens.issuer.as_str();
    let rotation_interval = config.keys.rotation_interval.unwrap_or_default();
    metrics.key_rotation_interval.set(rotation_interval.as_secs_f64());
    metrics.issuer_info.with_label_values(&[issuer]).set(1);
    if let Some(former) = store.announce(SharedSetting::Issuer, issuer).await? {
        tracing::warn!(
            issuer,
            former,
            "the issuer has changed: access tokens with the former one are refused"
        );
    }
    let algorithm = config.keys.algorithm.into_str();
    if let Some(former) = store.announce(SharedSetting::Algorithm, algorithm).await? {
        tracing::warn!(
            algorithm,
            former,
            "JWT_ALGORITHM has changed: access tokens with the former one are refused"
        );
    }
    Ok(())
}
