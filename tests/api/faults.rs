//! What becomes of requests when the database is gone, hangs, or is held by somebody else.

use std::time::Duration;

use futures_util::future::join_all;
use portcullis::config::Config;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use crate::support::{
    Proxy, Reply, TestApp, TestDatabase, Traffic, claims, eventually, on_both_databases,
};

fn impatient(config: &mut Config) {
    config.http.request_timeout = Duration::from_secs(1);
    config.database.acquire_timeout = Duration::from_millis(500);
}

#[track_caller]
fn assert_unavailable(reply: &Reply) {
    reply.assert_error(503, "unavailable", "Service temporarily unavailable, try again later");
    assert_eq!(reply.header("retry-after"), Some("1"));
}

/// The database stops answering in one way or another, and comes back.
async fn an_outage(traffic: Traffic) {
    let outage = async |database| {
        let proxy = Proxy::before(&database).await;
        let app = TestApp::start_with(&proxy.database, impatient).await;
        let token = app.token_of("alice").await;

        proxy.set(traffic);
        assert_unavailable(&app.log_in("alice", "correct horse").await);
        assert_unavailable(&app.register("bob", "correct horse").await);
        assert_unavailable(&app.log_out(&token).await);
        assert_eq!(app.dashboard(&token).await.status, 200, "checking does no I/O");
        assert_eq!(app.get("/health/live").await.status, 200);
        let not_ready = app.get("/health/ready").await;
        not_ready.assert_error(503, "database_unreachable", "The database cannot be reached");

        proxy.set(Traffic::Flows);
        eventually("ready again", async || app.get("/health/ready").await.status == 200).await;
        eventually("a login", async || app.log_in("alice", "correct horse").await.status == 200)
            .await;
        app.log_out(&token).await.assert(200, &json!({ "msg": "Successfully logged out" }));
        assert_eq!(app.dashboard(&token).await.status, 401);
    };
    TestDatabase::postgres().await.lend(outage).await;
}

#[actix_web::test]
async fn a_dead_database_is_503_in_time_and_recovers_without_a_restart() {
    an_outage(Traffic::IsCut).await;
}

#[actix_web::test]
async fn a_database_that_hangs_is_503_in_time_and_recovers_without_a_restart() {
    an_outage(Traffic::Stalls).await;
}

#[actix_web::test]
async fn every_backend_terminated_costs_no_more_than_a_retry() {
    let termination = async |database: TestDatabase| {
        let app = TestApp::start(&database).await;
        let token = app.token_of("alice").await;

        let terminate = "select pg_terminate_backend(pid) from pg_stat_activity
                         where datname = current_database() and pid <> pg_backend_pid()";
        database.execute(terminate).await;

        eventually("a login", async || app.log_in("alice", "correct horse").await.status == 200)
            .await;
        assert_eq!(app.log_out(&token).await.status, 200);
    };
    TestDatabase::postgres().await.lend(termination).await;
}

on_both_databases! {
    async fn an_instance_whose_knowledge_is_old_says_so_and_asks_the_database(
        database: TestDatabase
    ) {
        let app = TestApp::start_with(&database, |config| {
            config.revocations.poll_interval = Duration::from_hours(1);
        }).await;
        let valid = app.token_of("alice").await;
        app.get("/health/ready").await.assert(200, &json!({ "msg": "Ready" }));
        // The last read for an hour: once it listens, or, on SQLite, once it has started.
        let is_embedded = matches!(database, TestDatabase::Sqlite(_));
        let cause = if is_embedded { "poll" } else { "hint" };
        let reads = format!(r#"portcullis_revocation_feed_reads_total{{cause="{cause}"}}"#);
        eventually("the last read", async || app.metric(&reads).await == 1).await;

        app.clock.advance(Duration::from_secs(6));

        let msg = "What is known of revocations is too old";
        app.get("/health/ready").await.assert_error(503, "revocations_stale", msg);
        let checks = join_all((0..50).map(|_| app.dashboard(&valid))).await;
        assert!(checks.iter().all(|reply| reply.status == 200), "{checks:?}");
        let asked = r#"portcullis_revocation_checks_total{result="fallback_clear"}"#;
        assert_eq!(app.metric(asked).await, 50);
    }
}

#[actix_web::test]
async fn a_file_that_somebody_else_is_writing_is_503_in_time_and_recovers() {
    let database = TestDatabase::sqlite();
    let app = TestApp::start_with(&database, impatient).await;
    let token = app.token_of("alice").await;
    let mut other = other_writer(&database).await;

    other.execute("begin immediate").await.unwrap();
    assert_unavailable(&app.register("bob", "correct horse").await);
    assert_unavailable(&app.log_out(&token).await);
    assert_eq!(app.dashboard(&token).await.status, 200);
    other.execute("rollback").await.unwrap();

    eventually("a registration", async || app.register("bob", "correct horse").await.status == 201)
        .await;
    assert_eq!(app.log_out(&token).await.status, 200);
    other.close().await.unwrap();
}

async fn other_writer(database: &TestDatabase) -> SqliteConnection {
    let options: SqliteConnectOptions = database.url().parse().unwrap();
    options.connect().await.unwrap()
}

#[actix_web::test]
async fn a_logout_whose_commit_came_too_late_for_its_answer_holds_all_the_same() {
    let late = async |database: TestDatabase| {
        let app = TestApp::start_with(&database, impatient).await;
        let token = app.token_of("alice").await;
        let id = claims(&token)["sid"].as_str().unwrap().to_owned();
        let mut other = database.connect().await;
        let insert = "insert into revocations (id, expires_at) values";
        let same = format!("begin; {insert} ('{id}', now())");
        other.execute(AssertSqlSafe(same)).await.unwrap();

        assert_unavailable(&app.log_out(&token).await);
        assert_eq!(app.dashboard(&token).await.status, 200);
        other.execute("rollback").await.unwrap();

        eventually("a refusal", async || app.dashboard(&token).await.status == 401).await;
    };
    TestDatabase::postgres().await.lend(late).await;
}
