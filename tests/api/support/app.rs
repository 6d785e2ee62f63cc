use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::clock::{Clock, SystemClock};
use portcullis::config::{
    Config, DatabaseSettings, HashSettings, HttpSettings, KeySettings, ListenAddress, LogFormat,
    LogSettings, NetworkSettings, RevocationSettings, SecretKeySource, SigningAlgorithm,
    ThrottleSettings, TokenSettings,
};
use portcullis::domain::{Audience, FailureLimits, PasswordPolicy, SecretKey};
use portcullis::metrics::Metrics;
use portcullis::startup::Application;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use ring::hmac;
use serde_json::{Value, json};
use tokio::time::sleep;
use tracing_subscriber::filter::Targets;

use super::{ManualClock, TestDatabase, assert_documented, elapsed_since};

/// Longest time that [`eventually`] waits.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// A running application, in this process unless made by [`TestApp::new`], and a client for it.
#[derive(Clone)]
pub struct TestApp {
    pub address: SocketAddr,
    pub clock: Arc<ManualClock>,
    client: Client,
}

/// A reply with its whole body.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl TestApp {
    pub async fn start(database: &TestDatabase) -> Self {
        Self::start_with(database, |_| {}).await
    }

    /// Starts the application with a secret that the test shares, for [`forge`].
    pub async fn start_with_shared_secret(database: &TestDatabase) -> Self {
        Self::start_with(database, |config| config.keys.algorithm = SigningAlgorithm::Hs256).await
    }

    /// Starts the application with a clock that only the test moves: the feed is not polled, so
    /// that no read sets the clock to the database's time. A secret signs, since a key pair would
    /// have to be renewed after each move.
    pub async fn start_with_own_clock(
        database: &TestDatabase,
        adjust: impl FnOnce(&mut Config),
    ) -> Self {
        Self::start_with(database, |config| {
            config.revocations.poll_interval = Duration::from_hours(24);
            config.revocations.max_staleness = Duration::from_hours(365 * 24);
            config.keys.algorithm = SigningAlgorithm::Hs256;
            adjust(config);
        })
        .await
    }

    /// Starts the application with changed settings.
    pub async fn start_with(
        database: &TestDatabase,
        change_settings: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = config(database);
        change_settings(&mut config);
        Self::build(config).await.0
    }

    /// Starts the application with a listener for operators. Returns clients for both.
    pub async fn start_with_management(
        database: &TestDatabase,
        change_settings: impl FnOnce(&mut Config),
    ) -> (Self, Self) {
        let mut config = config(database);
        config.http.management_address = Some(any_port());
        change_settings(&mut config);
        let (public, management_address) = Self::build(config).await;
        (public, Self::new(management_address.expect("there are two listeners")))
    }

    /// Returns the application and its address for operators.
    async fn build(config: Config) -> (Self, Option<SocketAddr>) {
        let clock = Arc::new(ManualClock::default());
        let metrics = Arc::new(Metrics::new().expect("the metrics have different names"));
        let application =
            Application::build(config, Arc::clone(&clock) as Arc<dyn Clock>, metrics).await;
        let application = application.expect("the application starts");
        let (address, management) = (application.address(), application.management_address());
        actix_web::rt::spawn(application.run_until_stopped(std::future::pending()));
        (Self { clock, ..Self::new(address) }, management)
    }

    /// Creates a client for an application that is already running.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, clock: Arc::default(), client: Client::new() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub async fn get(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn register(&self, username: &str, password: &str) -> Reply {
        self.post("/auth/register", &credentials(username, password)).await
    }

    pub async fn log_in(&self, username: &str, password: &str) -> Reply {
        self.post("/auth/login", &credentials(username, password)).await
    }

    /// Registers a user with the password `correct horse`, logs in and returns the access token.
    pub async fn register_and_log_in(&self, username: &str) -> String {
        self.register(username, "correct horse").await;
        self.log_in_for_token(username).await
    }

    /// Logs in with the password `correct horse` and returns the access token.
    pub async fn log_in_for_token(&self, username: &str) -> String {
        self.log_in(username, "correct horse").await.access_token()
    }

    /// Registers the administrator `root`, logs in and returns the access token.
    pub async fn register_admin(&self, database: &TestDatabase) -> String {
        self.register("root", "correct horse").await;
        database
            .execute(match database {
                TestDatabase::Postgres { .. } => {
                    "update users set roles = '{user,admin}' where username = 'root'"
                }
                TestDatabase::Sqlite(_) => {
                    "update users set roles = 'user admin' where username = 'root'"
                }
            })
            .await;
        self.log_in_for_token("root").await
    }

    /// Registers a user with the password `correct horse`, logs in and returns the reply, which has
    /// both tokens.
    pub async fn register_and_open_session(&self, username: &str) -> Reply {
        self.register(username, "correct horse").await;
        self.log_in(username, "correct horse").await
    }

    pub async fn refresh(&self, refresh_token: &str) -> Reply {
        self.post("/auth/refresh", &json!({ "refresh_token": refresh_token })).await
    }

    pub async fn send_with_token(&self, method: Method, path: &str, token: &str) -> Reply {
        send(self.request(method, path).bearer_auth(token)).await
    }

    pub async fn dashboard(&self, token: &str) -> Reply {
        send(self.request(Method::GET, "/protected/dashboard").bearer_auth(token)).await
    }

    pub async fn log_out(&self, token: &str) -> Reply {
        send(self.request(Method::POST, "/auth/logout").bearer_auth(token)).await
    }

    /// Returns the value of a metric. The sample is its name, with its labels if it has any.
    pub async fn metric(&self, sample: &str) -> u64 {
        let text = self.get("/metrics").await.text;
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("no metric {sample} in\n{text}"));
        value.parse().expect("the value is a whole number")
    }
}

impl Reply {
    pub fn access_token(&self) -> String {
        let token = self.body["access_token"].as_str();
        token.unwrap_or_else(|| panic!("no access token in {self:?}")).to_owned()
    }

    pub fn refresh_token(&self) -> String {
        let token = self.body["refresh_token"].as_str();
        token.unwrap_or_else(|| panic!("no refresh token in {self:?}")).to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("the header is text"))
    }

    #[track_caller]
    pub fn assert(&self, status: u16, body: &Value) {
        assert_eq!((self.status.as_u16(), &self.body), (status, body));
    }

    /// Asserts the status and the `code` in the body, but not the text.
    #[track_caller]
    pub fn assert_code(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), &self.body["code"]), (status, &json!(code)));
    }

    #[track_caller]
    pub fn assert_error(&self, status: u16, code: &str, msg: &str) {
        self.assert(status, &json!({ "msg": msg, "code": code }));
    }
}

pub async fn send(request: RequestBuilder) -> Reply {
    try_send(request).await.expect("the application replies")
}

pub async fn try_send(request: RequestBuilder) -> Result<Reply, reqwest::Error> {
    let (client, request) = request.build_split();
    let request = request?;
    let method = request.method().clone();
    let path = request.url().path().to_owned();
    let response = client.execute(request).await?;
    let status = response.status();
    let headers = response.headers().clone();
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or_default();
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    assert!(
        !is_json || method == Method::HEAD || text.ends_with("}\n"),
        "{method} {path}: {text:?}"
    );
    let reply = Reply { status, headers, body, text };
    assert_documented(&method, &path, &reply);
    Ok(reply)
}

/// Returns the claims of a token, without verifying it.
pub fn decode_claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("the token has a payload");
    let json = URL_SAFE_NO_PAD.decode(payload).expect("the payload is base64url");
    serde_json::from_slice(&json).expect("the payload is JSON")
}

/// Signs a copy of a token with other claims. The application must sign with the shared secret.
pub fn forge(token: &str, changes: &[(&str, Value)]) -> String {
    let mut claims = decode_claims(token);
    for (name, value) in changes {
        claims[*name] = value.clone();
    }
    let (header, _) = token.split_once('.').expect("the token has a header");
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}

pub fn credentials(username: &str, password: &str) -> Value {
    json!({ "username": username, "password": password })
}

/// Returns a free port, for programs that cannot pick one themselves.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("the listener has an address").port()
}

/// Waits until a condition holds. The description completes "timed out waiting until …".
pub async fn eventually<F: Future<Output = bool>>(
    description: &str,
    mut condition: impl FnMut() -> F,
) {
    let started_at = SystemClock.uptime();
    while !condition().await {
        assert!(elapsed_since(started_at) < MAX_WAIT, "timed out waiting until {description}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn key_settings() -> KeySettings {
    let secret = SecretKey::parse(&[7; 32]).expect("the secret is long enough");
    KeySettings {
        secret: SecretKeySource::Given(secret),
        previous_secret: None,
        algorithm: SigningAlgorithm::Es256,
        jwks_max_age: Duration::from_mins(5),
        rotation_interval: None,
    }
}

fn any_port() -> ListenAddress {
    ListenAddress { host: "127.0.0.1".to_owned(), port: 0 }
}

fn http_settings() -> HttpSettings {
    HttpSettings {
        address: any_port(),
        management_address: None,
        serves_docs: true,
        workers: 2,
        trusted_proxies: Vec::new(),
        cors_allowed_origins: Vec::new(),
        max_connections: 1_000,
        max_connections_per_address: 1_000,
        head_timeout: Duration::from_mins(1),
        reply_timeout: Duration::from_mins(1),
        request_timeout: Duration::from_mins(1),
        shutdown_drain: Duration::from_secs(2),
        shutdown_timeout: Duration::from_mins(1),
    }
}

/// Returns settings whose timeouts are long enough for a busy machine.
fn config(database: &TestDatabase) -> Config {
    Config {
        http: http_settings(),
        database: DatabaseSettings {
            database: database.config(),
            max_connections: 4,
            acquire_timeout: Duration::from_secs(3),
        },
        tokens: TokenSettings {
            issuer: "portcullis".to_owned(),
            audience: Audience::new(vec!["orders".to_owned()]),
            lifetime: Duration::from_hours(1),
            session_lifetime: Duration::from_hours(30 * 24),
            session_idle_timeout: None,
            sessions_per_user: 1_000,
            leeway: Duration::from_secs(5),
            cache_size: 1024 * 1024,
        },
        public_url: None,
        is_registration_open: true,
        keys: key_settings(),
        hashing: HashSettings {
            iterations: NonZeroU32::new(1_000).expect("the number is not zero"),
            threads: 2,
            max_wait: Duration::from_secs(50),
        },
        passwords: PasswordPolicy::default(),
        throttle: ThrottleSettings {
            login: FailureLimits { free: 5, max: 100 },
            session: FailureLimits { free: 5, max: 10 },
        },
        // All tests are in one network, and some register many accounts.
        networks: NetworkSettings { failed_names: None, registrations: None },
        revocations: RevocationSettings {
            capacity: 10_000,
            sweep_interval: Duration::from_mins(1),
            max_staleness: Duration::from_secs(5),
            poll_interval: Duration::from_millis(200),
            receiver_rate: RevocationSettings::RECEIVER_RATE,
        },
        audit_retention: Duration::from_hours(24),
        deleted_account_retention: Duration::from_hours(24),
        log: LogSettings { format: LogFormat::Json, filter: Targets::new() },
        warnings: Vec::new(),
    }
}
