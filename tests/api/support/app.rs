use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use portcullis::clock::{Clock, SystemClock};
use portcullis::config::{
    Config, DatabaseSettings, HashSettings, HttpSettings, LogFormat, LogSettings,
    RevocationSettings, SigningKeySource, TokenSettings,
};
use portcullis::domain::SigningKey;
use portcullis::startup::Application;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;
use tracing_subscriber::filter::Targets;

use super::{ManualClock, TestDatabase, assert_documented, since};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_mins(1);

/// The application, running in this process, and a client that speaks to it.
#[derive(Clone)]
pub struct TestApp {
    pub address: SocketAddr,
    pub clock: Arc<ManualClock>,
    client: Client,
}

/// An answer, read whole.
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

    /// Starts the application with some settings of its own.
    pub async fn start_with(database: &TestDatabase, adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(database);
        adjust(&mut config);
        let clock = Arc::new(ManualClock::default());
        let application = Application::build(config, Arc::clone(&clock) as Arc<dyn Clock>).await;
        let application = application.expect("the application starts");
        let address = application.address();
        actix_web::rt::spawn(application.run_until_stopped(std::future::pending()));
        Self { clock, ..Self::at(address) }
    }

    /// Speaks to an application that runs elsewhere.
    pub fn at(address: SocketAddr) -> Self {
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

    /// Registers a user and logs in, and returns the access token.
    pub async fn token_of(&self, username: &str) -> String {
        self.register(username, "correct horse").await;
        self.another_token_of(username).await
    }

    /// Logs in a registered user once more.
    pub async fn another_token_of(&self, username: &str) -> String {
        self.log_in(username, "correct horse").await.access_token()
    }

    /// Registers an administrator, `root`, and logs in, and returns the access token.
    pub async fn admin_token(&self, database: &TestDatabase) -> String {
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
        self.another_token_of("root").await
    }

    /// Registers a user and logs in, and returns both tokens.
    pub async fn pair_of(&self, username: &str) -> Reply {
        self.register(username, "correct horse").await;
        self.log_in(username, "correct horse").await
    }

    pub async fn refresh(&self, refresh_token: &str) -> Reply {
        self.post("/auth/refresh", &json!({ "refresh_token": refresh_token })).await
    }

    pub async fn with_token(&self, method: Method, path: &str, token: &str) -> Reply {
        send(self.request(method, path).bearer_auth(token)).await
    }

    pub async fn dashboard(&self, token: &str) -> Reply {
        send(self.request(Method::GET, "/protected/dashboard").bearer_auth(token)).await
    }

    pub async fn log_out(&self, token: &str) -> Reply {
        send(self.request(Method::POST, "/auth/logout").bearer_auth(token)).await
    }

    /// Returns the whole number that a metric shows, by its name with its labels.
    pub async fn metric(&self, sample: &str) -> u64 {
        let text = self.get("/metrics").await.text;
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {sample} in\n{text}")).parse().expect("a whole number")
    }
}

impl Reply {
    pub fn access_token(&self) -> String {
        self.body["access_token"]
            .as_str()
            .unwrap_or_else(|| panic!("no token: {self:?}"))
            .to_owned()
    }

    pub fn refresh_token(&self) -> String {
        self.body["refresh_token"]
            .as_str()
            .unwrap_or_else(|| panic!("no refresh token: {self:?}"))
            .to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    #[track_caller]
    pub fn assert(&self, status: u16, body: &Value) {
        assert_eq!((self.status.as_u16(), &self.body), (status, body));
    }

    #[track_caller]
    pub fn assert_error(&self, status: u16, code: &str, msg: &str) {
        self.assert(status, &json!({ "msg": msg, "code": code }));
    }
}

pub async fn send(request: RequestBuilder) -> Reply {
    try_send(request).await.expect("a reply")
}

pub async fn try_send(request: RequestBuilder) -> Result<Reply, reqwest::Error> {
    let (client, request) = request.build_split();
    let request = request?;
    let (method, path) = (request.method().clone(), request.url().path().to_owned());
    let response = client.execute(request).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or_default();
    let reply = Reply { status, headers, body, text };
    assert_documented(&method, &path, &reply);
    Ok(reply)
}

/// Reads the claims of a token.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

/// Signs claims with the key of the application.
pub fn signed(claims: &Value) -> String {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(&[7; 32]))
        .expect("a token")
}

pub fn credentials(username: &str, password: &str) -> Value {
    json!({ "username": username, "password": password })
}

/// Returns a port that nobody listens on, for programs that cannot take any.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

/// Waits until a condition holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let began_at = SystemClock.uptime();
    while !holds().await {
        assert!(since(began_at) < PATIENCE, "{what}: still not after {PATIENCE:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Returns settings that are patient: the machine may be busy with something else.
fn config(database: &TestDatabase) -> Config {
    Config {
        http: HttpSettings {
            host: "127.0.0.1".to_owned(),
            port: 0,
            workers: 2,
            trusted_proxies: Vec::new(),
            request_timeout: Duration::from_mins(1),
            shutdown_drain: Duration::from_secs(2),
            shutdown_timeout: Duration::from_mins(1),
        },
        database: DatabaseSettings {
            database: database.config(),
            max_connections: 4,
            acquire_timeout: Duration::from_secs(3),
        },
        tokens: TokenSettings {
            issuer: "portcullis".to_owned(),
            lifetime: Duration::from_hours(1),
            session_lifetime: Duration::from_hours(30 * 24),
            session_idle_timeout: None,
            leeway: Duration::from_secs(5),
        },
        signing_key: SigningKeySource::Given(SigningKey::parse(&[7; 32]).expect("a key")),
        hashing: HashSettings {
            iterations: NonZeroU32::new(1_000).expect("not zero"),
            threads: 2,
            max_wait: Duration::from_secs(50),
        },
        revocations: RevocationSettings {
            capacity: 10_000,
            sweep_interval: Duration::from_mins(1),
            max_staleness: Duration::from_secs(5),
            poll_interval: Duration::from_millis(200),
        },
        audit_retention: Duration::from_hours(24),
        log: LogSettings { format: LogFormat::Json, filter: Targets::new() },
    }
}
