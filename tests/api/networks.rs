//! Fairness among networks: floods of logins beside honest ones, and the paces of a network.

use std::num::NonZeroU32;
use std::time::Duration;

use actix_web::rt::spawn;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use portcullis::config::{Config, Rate};
use reqwest::Method;
use serde_json::json;
use tokio::time::sleep;

use crate::support::{
    Reply, TestApp, TestDatabase, credentials, eventually, on_both_databases, send,
};

on_both_databases![
    honest_logins_succeed_beside_64_flooding_connections,
    honest_logins_succeed_beside_400_flooding_connections,
    honest_logins_succeed_beside_a_flood_from_a_56,
    honest_logins_succeed_beside_a_flood_from_more_networks_than_places,
    one_address_is_limited_over_a_thousand_accounts,
    addresses_of_a_56_have_one_pace,
    registrations_from_one_network_are_limited,
];

/// Longest expected wait in a queue of some thirty places.
const MAX_WAIT: Duration = Duration::from_millis(150);

/// Rate whose interval does not pass during a test.
fn at_once(burst: u32) -> Rate {
    Rate { burst, interval: Duration::from_hours(24) }
}

/// Starts the application behind a proxy, which is the test.
async fn start_behind_proxy(database: &TestDatabase, adjust: impl FnOnce(&mut Config)) -> TestApp {
    TestApp::start_with(database, |config| {
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        adjust(config);
    })
    .await
}

/// Address in a network of its own.
fn own_network(number: usize) -> String {
    format!("198.51.{}.{}", number / 256, number % 256)
}

/// Address in one /56 of IPv6.
fn same_56(number: usize) -> String {
    format!("2001:db8:0:1{:02x}::{number:x}", number % 256)
}

async fn log_in_from(app: &TestApp, address: &str, username: &str, password: &str) -> Reply {
    let login = app.request(Method::POST, "/auth/login").header("x-forwarded-for", address);
    send(login.json(&credentials(username, password))).await
}

async fn register_from(app: &TestApp, address: &str, username: &str) -> Reply {
    let register = app.request(Method::POST, "/auth/register").header("x-forwarded-for", address);
    send(register.json(&credentials(username, "correct horse"))).await
}

/// Logs in 20 times, each time from another network, while clients that ignore `Retry-After`
/// keep the queue full. Their passwords are malformed, so that nothing but the queue limits them.
async fn assert_honest_logins_succeed(
    database: TestDatabase,
    connections: usize,
    max_wait: Duration,
    address: fn(usize) -> String,
) {
    let app = start_behind_proxy(&database, |config| {
        config.hashing.threads = 1;
        // About five milliseconds, if the machine has nothing else to do.
        config.hashing.iterations = NonZeroU32::new(20_000).unwrap();
        config.hashing.max_wait = max_wait;
        // A machine that is busy with the flood reads the feed late.
        config.revocations.max_staleness = Duration::from_mins(1);
    })
    .await;
    app.register("alice", "correct horse").await;
    // A thousand logins a second, of all connections together.
    let pause = Duration::from_millis(connections as u64);
    let flood = (0..connections).map(|number| {
        let app = app.clone();
        spawn(async move {
            loop {
                let login = app.request(Method::POST, "/auth/login");
                let login = login.header("x-forwarded-for", address(number));
                login.json(&credentials("mallory", "\0")).send().await.unwrap();
                sleep(pause).await;
            }
        })
    });
    let flood: Vec<_> = flood.collect();
    let jobs = async |outcome| {
        app.metric(&format!(r#"portcullis_hash_jobs_total{{outcome="{outcome}"}}"#)).await
    };
    eventually("the queue is full", async || jobs("shed").await > 0).await;
    eventually("every network has had turns", async || jobs("completed").await >= 24).await;

    let mut refused = Vec::new();
    for number in 0..20 {
        let login = log_in_from(&app, &own_network(number), "alice", "correct horse").await;
        if login.status != 200 {
            refused.push(login);
        }
    }
    for client in flood {
        client.abort();
    }

    assert!(refused.is_empty(), "{} of 20 were refused: {refused:?}", refused.len());
}

async fn honest_logins_succeed_beside_64_flooding_connections(database: TestDatabase) {
    assert_honest_logins_succeed(database, 64, MAX_WAIT, |_| "192.0.2.1".to_owned()).await;
}

async fn honest_logins_succeed_beside_400_flooding_connections(database: TestDatabase) {
    assert_honest_logins_succeed(database, 400, MAX_WAIT, |_| "192.0.2.1".to_owned()).await;
}

async fn honest_logins_succeed_beside_a_flood_from_a_56(database: TestDatabase) {
    assert_honest_logins_succeed(database, 64, MAX_WAIT, same_56).await;
}

async fn honest_logins_succeed_beside_a_flood_from_more_networks_than_places(
    database: TestDatabase,
) {
    let address = |number| format!("192.0.2.{}", number % 4);
    assert_honest_logins_succeed(database, 64, Duration::from_millis(10), address).await;
}

/// Tries the password of `alice` and of 999 names without an account, 64 at once, and asserts that 20
/// names are tried, and those that were in turn when the last of them failed.
async fn assert_names_are_limited(app: &TestApp, address: fn(usize) -> String) {
    let guesses = (0..1_000).map(|number| {
        let name = if number == 0 { "alice".to_owned() } else { format!("user{number}") };
        async move { log_in_from(app, &address(number), &name, "wrong guess").await }
    });
    let replies: Vec<_> = stream::iter(guesses).buffer_unordered(64).collect().await;

    let (tried, refused): (Vec<_>, Vec<_>) =
        replies.into_iter().partition(|reply| reply.status == 401);
    assert!((20..30).contains(&tried.len()), "{}", tried.len());
    for reply in &refused {
        reply.assert_error(429, "too_many_attempts", "Too many attempts, try again later");
        assert!(reply.header("retry-after").is_some());
    }
    let hashed = app.metric(r#"portcullis_hash_jobs_total{outcome="completed"}"#).await;
    assert_eq!(hashed, tried.len() as u64 + 1, "one is of the registration");
    let counted = app.metric(r#"portcullis_logins_total{outcome="too_many_attempts"}"#).await;
    assert_eq!(counted, refused.len() as u64);
}

async fn one_address_is_limited_over_a_thousand_accounts(database: TestDatabase) {
    let app = start_behind_proxy(&database, |config| {
        config.networks.failed_names = Some(at_once(20));
    })
    .await;
    app.register("alice", "correct horse").await;

    assert_names_are_limited(&app, |_| "192.0.2.1".to_owned()).await;

    let other = log_in_from(&app, "192.0.2.2", "alice", "correct horse").await;
    assert_eq!(other.status, 200, "another network: {other:?}");
}

async fn addresses_of_a_56_have_one_pace(database: TestDatabase) {
    let app = start_behind_proxy(&database, |config| {
        config.networks.failed_names = Some(at_once(20));
    })
    .await;
    app.register("alice", "correct horse").await;

    assert_names_are_limited(&app, same_56).await;
}

async fn registrations_from_one_network_are_limited(database: TestDatabase) {
    let app = start_behind_proxy(&database, |config| {
        config.networks.registrations = Some(at_once(10));
    })
    .await;
    let admin = app.register_admin(&database).await;
    let flood = join_all((0..20).map(|number| {
        let (app, name) = (&app, format!("user{number}"));
        async move { register_from(app, "192.0.2.1", &name).await }
    }));

    let (created, refused): (Vec<_>, Vec<_>) =
        flood.await.into_iter().partition(|reply| reply.status == 201);

    assert_eq!(created.len(), 10);
    for reply in &refused {
        let msg = "Too many registrations, try again later";
        reply.assert_error(429, "too_many_registrations", msg);
        assert_eq!(reply.header("retry-after"), Some("86400"));
    }
    let sample = r#"portcullis_registrations_total{outcome="too_many_registrations"}"#;
    assert_eq!(app.metric(sample).await, 10);
    assert_eq!(register_from(&app, "192.0.2.2", "bob").await.status, 201);
    let created_by_admin = app
        .request(Method::POST, "/admin/users")
        .header("x-forwarded-for", "192.0.2.1")
        .bearer_auth(&admin)
        .json(&json!({ "username": "carol", "password": "correct horse" }));
    assert_eq!(send(created_by_admin).await.status, 201);
}
