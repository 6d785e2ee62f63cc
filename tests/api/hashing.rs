//! What a flood of logins can do, and what it cannot.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::join_all;
use portcullis::config::Config;

use crate::support::{
    Proxy, TestApp, TestDatabase, Traffic, credentials, eventually, on_both_databases,
};

/// One hashing thread, and hashes that take a tenth of a second or so.
fn slow(config: &mut Config) {
    config.hashing.threads = 1;
    config.hashing.iterations = NonZeroU32::new(400_000).unwrap();
}

on_both_databases! {
    async fn a_flood_is_shed_while_the_dashboard_answers(database: TestDatabase) {
        let app = TestApp::start_with(&database, |config| {
            slow(config);
            config.hashing.max_wait = Duration::ZERO;
        }).await;
        let token = app.token_of("alice").await;

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

    async fn a_login_whose_client_has_gone_is_not_hashed(database: TestDatabase) {
        let app = TestApp::start_with(&database, |config| {
            slow(config);
            // Long enough for all of them to get into the queue.
            config.hashing.iterations = NonZeroU32::new(2_000_000).unwrap();
        }).await;
        let login = || {
            let request = app.request(reqwest::Method::POST, "/auth/login");
            actix_web::rt::spawn(request.json(&credentials("alice", "correct horse")).send())
        };
        let depth_is = async |depth: u64| app.metric("portcullis_hash_queue_depth").await == depth;

        let patient = login();
        eventually("one job", || depth_is(1)).await;
        let impatient: Vec<_> = (0..3).map(|_| login()).collect();
        eventually("four jobs", || depth_is(4)).await;
        for login in &impatient {
            login.abort();
        }

        assert_eq!(patient.await.unwrap().unwrap().status(), 401);
        eventually("an empty queue", || depth_is(0)).await;
        let abandoned = app.metric(r#"portcullis_hash_jobs_total{outcome="abandoned"}"#).await;
        assert!(abandoned >= 2, "of three at most one had begun, and not {}", 3 - abandoned);
    }
}

#[actix_web::test]
async fn a_login_that_is_shed_costs_the_database_nothing() {
    let flooded = async |database| {
        let proxy = Proxy::before(&database).await;
        let app = TestApp::start_with(&proxy.database, |config| {
            slow(config);
            config.hashing.max_wait = Duration::ZERO;
            config.http.request_timeout = Duration::from_secs(1);
        })
        .await;
        proxy.set(Traffic::Stalls);

        let waiting = app.log_in("alice", "correct horse");
        let shed = async {
            eventually("the only place is taken", async || {
                app.metric("portcullis_hash_queue_depth").await == 1
            })
            .await;
            app.log_in("bob", "correct horse").await
        };
        let (waiting, shed) = futures_util::future::join(waiting, shed).await;

        assert_eq!(waiting.body["code"], "unavailable", "{waiting:?}");
        assert_eq!(shed.body["code"], "overloaded", "{shed:?}");
    };
    TestDatabase::postgres().await.lend(flooded).await;
}
