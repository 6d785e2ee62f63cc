use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use portcullis::clock::{Clock, SystemClock};
use portcullis::config::TokenSettings;
use portcullis::domain::{Role, Roles, SessionId, SigningKey, User, UserId, UserVersion, Username};
use portcullis::tokens::Tokens;
use reqwest::Method;
use tokio::process::Command;

use super::{Process, TestApp, TestDatabase, eventually, since, try_send};

/// The bound that the instances are given.
const BOUND: Duration = Duration::from_secs(2);

const LIFETIME: Duration = Duration::from_hours(1);

/// Tokens that are watched at once.
const WATCHED: usize = 8;

/// Several instances on one database, and all that was logged out at any of them.
pub struct Cluster {
    pub instances: Vec<Process>,
    tokens: Tokens,
    valid: String,
    logged_out: Mutex<Vec<LoggedOut>>,
    worst: Mutex<Duration>,
}

#[derive(Clone)]
struct LoggedOut {
    token: String,
    acknowledged_at: Duration,
}

impl Cluster {
    /// Starts an instance for each of the databases, which are one database by different ways.
    pub async fn start(databases: &[&TestDatabase]) -> Self {
        let start = async |database| Process::spawn(&mut Self::command(database)).await;
        Self::of(join_all(databases.iter().map(|database| start(database))).await)
    }

    pub fn of(instances: Vec<Process>) -> Self {
        let settings = TokenSettings {
            issuer: "portcullis".to_owned(),
            lifetime: LIFETIME,
            session_lifetime: LIFETIME,
            session_idle_timeout: None,
            leeway: Duration::from_secs(5),
        };
        let key = SigningKey::parse(Process::KEY.as_bytes()).expect("a key");
        let tokens = Tokens::new(&key, settings);
        let valid = token(&tokens);
        Self { instances, tokens, valid, logged_out: Mutex::default(), worst: Mutex::default() }
    }

    /// Prepares an instance that keeps the bound and does not wait for long.
    pub fn command(database: &TestDatabase) -> Command {
        let mut command = Process::command(database);
        command
            .env("REVOCATION_MAX_STALENESS", BOUND.as_secs().to_string())
            .env("REVOCATION_POLL_INTERVAL", "1")
            .env("DATABASE_ACQUIRE_TIMEOUT", "1")
            .env("REQUEST_TIMEOUT", "3")
            .env("HASH_MAX_WAIT", "2");
        command
    }

    pub fn app(&self, index: usize) -> &TestApp {
        &self.instances[index].app
    }

    pub fn token(&self) -> String {
        token(&self.tokens)
    }

    /// Logs tokens out at some instances, and checks them at all of them, while something goes on;
    /// then waits until everything is well everywhere. Returns the longest time after the
    /// acknowledgement of its logout at which a token was shown and accepted.
    pub async fn watch(&self, writers: &[usize], trouble: impl Future<Output = ()>) -> Duration {
        let is_over = AtomicBool::new(false);
        let trouble = async {
            trouble.await;
            is_over.store(true, Ordering::SeqCst);
        };
        let writing = join_all(writers.iter().map(|&index| self.log_out_until(index, &is_over)));
        let checking =
            join_all((0..self.instances.len()).map(|index| self.check_until(index, &is_over)));
        join(trouble, join(writing, checking)).await;
        self.recovers().await;
        *self.worst.lock().expect("no panic")
    }

    async fn log_out_until(&self, index: usize, is_over: &AtomicBool) {
        while !is_over.load(Ordering::SeqCst) {
            self.log_out(index, self.token()).await;
        }
    }

    /// Logs out; tells whether that was acknowledged. Otherwise nothing is promised.
    pub async fn log_out(&self, index: usize, token: String) -> bool {
        let request = self.app(index).request(Method::POST, "/auth/logout").bearer_auth(&token);
        let acknowledged = try_send(request).await.is_ok_and(|reply| reply.status == 200);
        if acknowledged {
            let acknowledged_at = SystemClock.uptime();
            let one = LoggedOut { token, acknowledged_at };
            self.logged_out.lock().expect("no panic").push(one);
        }
        acknowledged
    }

    /// Logs some tokens out, trying until that is acknowledged.
    pub async fn log_out_some(&self, index: usize) {
        for _ in 0..WATCHED {
            eventually("a logout", || self.log_out(index, self.token())).await;
        }
    }

    async fn check_until(&self, index: usize, is_over: &AtomicBool) {
        while !is_over.load(Ordering::SeqCst) {
            for one in self.some_logged_out() {
                self.check(index, &one).await;
            }
            let status = self.status(index, &self.valid).await;
            assert_ne!(status, Some(401), "instance {index} refuses a valid token");
        }
    }

    /// Returns some of every age up to twice the bound, and the very latest.
    fn some_logged_out(&self) -> Vec<LoggedOut> {
        let all = self.logged_out.lock().expect("no panic");
        let old = all.partition_point(|one| since(one.acknowledged_at) > 2 * BOUND);
        let recent = &all[old..];
        let spread = recent.iter().rev().step_by(recent.len() / WATCHED + 1);
        spread.chain(recent.last()).cloned().collect()
    }

    /// Shows the token that was logged out last to an instance until that refuses it, and returns how
    /// long after the acknowledgement that was.
    pub async fn time_to_refusal(&self, index: usize) -> Duration {
        let last = self.logged_out.lock().expect("no panic").last().cloned();
        let last = last.expect("a logout");
        while self.check(index, &last).await {}
        since(last.acknowledged_at)
    }

    /// Shows a token that was logged out; tells whether it was accepted. How long ago is counted until just before it is shown, so
    /// that a slow machine makes nobody guilty.
    async fn check(&self, index: usize, one: &LoggedOut) -> bool {
        let age = since(one.acknowledged_at);
        let is_accepted = self.status(index, &one.token).await == Some(200);
        if is_accepted {
            assert!(age <= BOUND, "instance {index} accepts a token {age:?} after its logout");
            let mut worst = self.worst.lock().expect("no panic");
            *worst = age.max(*worst);
        }
        is_accepted
    }

    async fn status(&self, index: usize, token: &str) -> Option<u16> {
        let dashboard = self.app(index).request(Method::GET, "/protected/dashboard");
        // An instance that is frozen is not waited for.
        let request = dashboard.bearer_auth(token).timeout(3 * BOUND);
        try_send(request).await.ok().map(|reply| reply.status.as_u16())
    }

    /// Waits until every instance is ready and logs out again, and has all tokens refused that were
    /// logged out, and the valid one accepted.
    async fn recovers(&self) {
        for (index, instance) in self.instances.iter().enumerate() {
            let is_ready = async || {
                let ready = instance.app.request(Method::GET, "/health/ready").timeout(BOUND);
                try_send(ready).await.is_ok_and(|reply| reply.status == 200)
            };
            eventually("an instance that is ready", is_ready).await;
            eventually("a logout", || self.log_out(index, self.token())).await;
        }
        let all = self.logged_out.lock().expect("no panic").clone();
        for index in 0..self.instances.len() {
            assert_eq!(self.status(index, &self.valid).await, Some(200), "instance {index}");
            for one in &all {
                let is_refused = async || self.status(index, &one.token).await == Some(401);
                eventually("a refusal", is_refused).await;
            }
        }
    }
}

/// Waits for so long that an instance which learns nothing in the meantime knows too little.
pub async fn for_longer_than_the_bound() {
    let began_at = SystemClock.uptime();
    eventually("the passing of time", async || since(began_at) > 2 * BOUND).await;
}

fn token(tokens: &Tokens) -> String {
    let user = User {
        id: UserId::random(),
        username: Username::parse("alice").expect("a name"),
        roles: Roles::from_iter([Role::User]),
        created_at: SystemClock.now(),
        disabled_at: None,
        version: UserVersion::FIRST,
    };
    let (now, session) = (SystemClock.now(), SessionId::random());
    tokens.issue(&user, session, now + LIFETIME, now).expect("a token").access_token
}
