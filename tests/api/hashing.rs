//! Load shedding during a flood of logins.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::join_all;
use portcullis::config::Config;
use reqwest::Method;

use crate::support::{
    Proxy, ProxyMode, TestApp, TestDatabase, credentials, eventually, on_both_databases,
};

on_both_databases![login_flood_leaves_dashboard_responsive, abandoned_login_is_not_hashed,];

/// Configures one hashing thread and hashes that take about a tenth of a second.
fn slow_down_hashing(config: &mut Config) {
    config.hashing.threads = 1;
    config.hashing.iterations = NonZeroU32::new(400_000).unwrap();
}

async fn login_flood_leaves_dashboard_responsive(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        slow_down_hashing(config);
        config.hashing.max_wait = Duration::ZERO;
    })
    .await;
    let token = app.register_and_log_in("alice").await;

    let flood = join_all((0..32).map(|_| app.log_in("alice", "correct horse")));
    let checks = join_all((0..32).map(|_| app.dashboard(&token)));
    let (logins, checks) = futures_util::future::join(flood, checks).await;

    assert!(checks.iter().all(|reply| reply.status == 200), "{checks:?}");
    let (shed, served): (Vec<_>, Vec<_>) = logins.iter().partition(|reply| reply.status == 503);
    assert!(!shed.is_empty() && !served.is_empty(), "{shed:?} {served:?}");
    assert!(served.iter().all(|reply| reply.status == 200), "{served:?}");
    for reply in &shed {
        reply.assert_error(503, "overloaded", "Too many requests at once, try again later");
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    let count = shed.len() as u64;
    assert_eq!(app.metric(r#"portcullis_logins_total{outcome="overloaded"}"#).await, count);
    assert_eq!(app.metric(r#"portcullis_hash_jobs_total{outcome="shed"}"#).await, count);
    assert_eq!(app.metric("portcullis_hash_queue_depth").await, 0);
}

async fn abandoned_login_is_not_hashed(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        slow_down_hashing(config);
        // Slow enough that all logins of the test reach the queue.
        config.hashing.iterations = NonZeroU32::new(2_000_000).unwrap();
    })
    .await;
    let login = || {
        let request = app.request(Method::POST, "/auth/login");
        actix_web::rt::spawn(request.json(&credentials("alice", "correct horse")).send())
    };
    let depth_is = async |depth: u64| app.metric("portcullis_hash_queue_depth").await == depth;

    let waiting = login();
    eventually("one job is queued", || depth_is(1)).await;
    let abandoned_logins: Vec<_> = (0..3).map(|_| login()).collect();
    eventually("four jobs are queued", || depth_is(4)).await;
    for login in &abandoned_logins {
        login.abort();
    }

    assert_eq!(waiting.await.unwrap().unwrap().status(), 401);
    eventually("the queue is empty", || depth_is(0)).await;
    let abandoned = app.metric(r#"portcullis_hash_jobs_total{outcome="abandoned"}"#).await;
    assert!(
        abandoned >= 2,
        "{} of three abandoned logins were hashed; at most one may have begun",
        3 - abandoned
    );
}

#[actix_web::test]
async fn shed_login_does_not_use_database() {
    let test = async |database| {
        let proxy = Proxy::start(&database).await;
        let app = TestApp::start_with(&proxy.database, |config| {
            slow_down_hashing(config);
            config.hashing.max_wait = Duration::ZERO;
            config.http.request_timeout = Duration::from_secs(1);
        })
        .await;
        proxy.set_mode(ProxyMode::Stall);

        let waiting = app.log_in("alice", "correct horse");
        let shed = async {
            eventually("the only place in the queue is taken", async || {
                app.metric("portcullis_hash_queue_depth").await == 1
            })
            .await;
            app.log_in("bob", "correct horse").await
        };
        let (waiting, shed) = futures_util::future::join(waiting, shed).await;

        assert_eq!(waiting.body["code"], "unavailable", "{waiting:?}");
        assert_eq!(shed.body["code"], "overloaded", "{shed:?}");
    };
    TestDatabase::postgres().await.run(test).await;
}
