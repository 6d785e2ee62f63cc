use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{join, join_all};
use portcullis::clock::{Clock, SystemClock};
use portcullis::config::TokenSettings;
use portcullis::domain::{
    Audience, Permission, Permissions, RoleName, Roles, SecretKey, SessionId, User, Username,
};
use portcullis::tokens::{KeyRing, RootKey, Tokens};
use reqwest::Method;
use tokio::process::Command;

use super::{Process, TestApp, TestDatabase, elapsed_since, eventually, try_send};

/// Longest time after an acknowledged logout for which an instance may accept the token.
const BOUND: Duration = Duration::from_secs(2);

const TOKEN_LIFETIME: Duration = Duration::from_hours(1);

/// Number of logged-out tokens that are checked in one round.
const SAMPLE_SIZE: usize = 8;

/// Several instances on one database, and every token that was logged out at any of them.
pub struct Cluster {
    pub instances: Vec<Process>,
    tokens: Tokens,
    valid_token: String,
    logouts: Mutex<Vec<Logout>>,
    longest_acceptance: Mutex<Duration>,
}

/// An acknowledged logout.
#[derive(Clone)]
struct Logout {
    token: String,
    acknowledged_at: Duration,
}

impl Cluster {
    /// Starts one instance for each URL of the same database.
    pub async fn start(databases: &[&TestDatabase]) -> Self {
        let start = async |database| Process::spawn(&mut Self::command(database)).await;
        let instances = join_all(databases.iter().map(|database| start(database))).await;
        Self::new(instances)
    }

    pub fn new(instances: Vec<Process>) -> Self {
        let settings = TokenSettings {
            issuer: "portcullis".to_owned(),
            audience: Audience::new(Vec::new()),
            lifetime: TOKEN_LIFETIME,
            session_lifetime: TOKEN_LIFETIME,
            session_idle_timeout: None,
            sessions_per_user: 1_000,
            leeway: Duration::from_secs(5),
            cache_size: 0,
        };
        let secret = SecretKey::parse(Process::KEY.as_bytes()).expect("the secret is long enough");
        let ring = KeyRing::hs256(&secret, None).expect("a derived id");
        let root = RootKey::generate().expect("random bytes");
        let tokens = Tokens::new(Arc::new(root), ring, settings).expect("a derived key");
        let valid_token = issue_token(&tokens);
        Self {
            instances,
            tokens,
            valid_token,
            logouts: Mutex::default(),
            longest_acceptance: Mutex::default(),
        }
    }

    /// Prepares an instance with the tested bound and short timeouts.
    pub fn command(database: &TestDatabase) -> Command {
        let mut command = Process::command(database);
        command
            // With the secret, the test issues tokens itself.
            .env("JWT_ALGORITHM", "HS256")
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

    /// Issues a token of a new session.
    pub fn issue_token(&self) -> String {
        issue_token(&self.tokens)
    }

    /// Logs tokens out at some instances and checks them at all instances for the duration of a
    /// fault, then waits for recovery. Returns the longest time between the acknowledgement of a
    /// logout and a later request that still accepted the token.
    pub async fn watch_during(
        &self,
        logout_instances: &[usize],
        fault: impl Future<Output = ()>,
    ) -> Duration {
        let is_over = AtomicBool::new(false);
        let fault = async {
            fault.await;
            is_over.store(true, Ordering::SeqCst);
        };
        let logouts =
            join_all(logout_instances.iter().map(|&index| self.keep_logging_out(index, &is_over)));
        let checks =
            join_all((0..self.instances.len()).map(|index| self.keep_checking(index, &is_over)));
        join(fault, join(logouts, checks)).await;
        self.wait_for_recovery().await;
        *self.longest_acceptance.lock().expect("no panic while locked")
    }

    async fn keep_logging_out(&self, index: usize, is_over: &AtomicBool) {
        while !is_over.load(Ordering::SeqCst) {
            self.log_out(index, self.issue_token()).await;
        }
    }

    /// Logs a token out. Returns `true` if the instance acknowledged it; otherwise the token may be
    /// valid or revoked.
    pub async fn log_out(&self, index: usize, token: String) -> bool {
        let request = self.app(index).request(Method::POST, "/auth/logout").bearer_auth(&token);
        let is_acknowledged = try_send(request).await.is_ok_and(|reply| reply.status == 200);
        if is_acknowledged {
            let logout = Logout { token, acknowledged_at: SystemClock.uptime() };
            self.logouts.lock().expect("no panic while locked").push(logout);
        }
        is_acknowledged
    }

    /// Logs several tokens out, each with retries until it is acknowledged.
    pub async fn log_out_several(&self, index: usize) {
        for _ in 0..SAMPLE_SIZE {
            eventually("a logout succeeds", || self.log_out(index, self.issue_token())).await;
        }
    }

    async fn keep_checking(&self, index: usize, is_over: &AtomicBool) {
        while !is_over.load(Ordering::SeqCst) {
            for logout in self.sample_recent_logouts() {
                self.is_still_accepted(index, &logout).await;
            }
            let status = self.dashboard_status(index, &self.valid_token).await;
            assert_ne!(status, Some(401), "instance {index} refuses a valid token");
        }
    }

    /// Returns logouts of all ages up to twice the bound, and always the latest.
    fn sample_recent_logouts(&self) -> Vec<Logout> {
        let all = self.logouts.lock().expect("no panic while locked");
        let old = all.partition_point(|logout| elapsed_since(logout.acknowledged_at) > 2 * BOUND);
        let recent = &all[old..];
        let sample = recent.iter().rev().step_by(recent.len() / SAMPLE_SIZE + 1);
        sample.chain(recent.last()).cloned().collect()
    }

    /// Presents the latest logged-out token until the instance refuses it. Returns the time since
    /// the acknowledgement.
    pub async fn time_to_refusal(&self, index: usize) -> Duration {
        let latest = self.logouts.lock().expect("no panic while locked").last().cloned();
        let latest = latest.expect("a token was logged out");
        while self.is_still_accepted(index, &latest).await {}
        elapsed_since(latest.acknowledged_at)
    }

    /// Presents a logged-out token, and panics if it is accepted later than the bound. Its age is
    /// measured before the request, so that a slow machine cannot cause a failure.
    async fn is_still_accepted(&self, index: usize, logout: &Logout) -> bool {
        let age = elapsed_since(logout.acknowledged_at);
        let is_accepted = self.dashboard_status(index, &logout.token).await == Some(200);
        if is_accepted {
            assert!(age <= BOUND, "instance {index} accepts a token {age:?} after its logout");
            let mut longest = self.longest_acceptance.lock().expect("no panic while locked");
            *longest = age.max(*longest);
        }
        is_accepted
    }

    /// Requests the dashboard. Returns `None` if the instance does not reply.
    async fn dashboard_status(&self, index: usize, token: &str) -> Option<u16> {
        let request = self.app(index).request(Method::GET, "/protected/dashboard");
        // A frozen instance never replies.
        let request = request.bearer_auth(token).timeout(3 * BOUND);
        try_send(request).await.ok().map(|reply| reply.status.as_u16())
    }

    /// Waits until every instance is ready, logs out again, and refuses every logged-out token.
    /// Panics if an instance then refuses the valid token.
    async fn wait_for_recovery(&self) {
        for (index, instance) in self.instances.iter().enumerate() {
            let is_ready = async || {
                let request = instance.app.request(Method::GET, "/health/ready").timeout(BOUND);
                try_send(request).await.is_ok_and(|reply| reply.status == 200)
            };
            eventually("the instance is ready", is_ready).await;
            eventually("a logout succeeds", || self.log_out(index, self.issue_token())).await;
        }
        let logouts = self.logouts.lock().expect("no panic while locked").clone();
        for index in 0..self.instances.len() {
            let status = self.dashboard_status(index, &self.valid_token).await;
            assert_eq!(status, Some(200), "instance {index}");
            for logout in &logouts {
                let is_refused =
                    async || self.dashboard_status(index, &logout.token).await == Some(401);
                eventually("a logged-out token is refused", is_refused).await;
            }
        }
    }
}

/// Waits for twice the bound: an instance that learns nothing in the meantime is stale.
pub async fn wait_past_the_bound() {
    let started_at = SystemClock.uptime();
    let is_past = async || elapsed_since(started_at) > 2 * BOUND;
    eventually("twice the bound has passed", is_past).await;
}

fn issue_token(tokens: &Tokens) -> String {
    let username = Username::parse("alice").expect("the username is valid");
    let now = SystemClock.now();
    let user = User {
        permissions: Permissions::from_iter([Permission::DASHBOARD_READ]),
        ..User::new(username, Roles::from_iter([RoleName::USER]), now)
    };
    let issued = tokens.issue(&user, SessionId::random(), None, now + TOKEN_LIFETIME, now);
    issued.expect("the token is issued").access_token
}
