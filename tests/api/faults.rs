//! Requests while the database is unreachable, stalled or locked.

use std::time::Duration;

use futures_util::future::join_all;
use portcullis::config::Config;
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

use crate::support::{
    Proxy, ProxyMode, Reply, TestApp, TestDatabase, decode_claims, eventually, on_both_databases,
};

on_both_databases![stale_instance_falls_back_to_database];

fn shorten_timeouts(config: &mut Config) {
    config.http.request_timeout = Duration::from_secs(1);
    config.database.acquire_timeout = Duration::from_millis(500);
}

#[track_caller]
fn assert_unavailable(reply: &Reply) {
    reply.assert_error(503, "unavailable", "Service temporarily unavailable, try again later");
    assert_eq!(reply.header("retry-after"), Some("1"));
}

/// Tests an outage of the database, and the recovery from it.
async fn test_outage(mode: ProxyMode) {
    let test = async |database| {
        let proxy = Proxy::start(&database).await;
        let app = TestApp::start_with(&proxy.database, shorten_timeouts).await;
        let token = app.register_and_log_in("alice").await;

        proxy.set_mode(mode);
        assert_unavailable(&app.log_in("alice", "correct horse").await);
        assert_unavailable(&app.register("bob", "correct horse").await);
        assert_unavailable(&app.log_out(&token).await);
        assert_eq!(app.dashboard(&token).await.status, 200, "checking a token needs no database");
        assert_eq!(app.get("/health/live").await.status, 200);
        let not_ready = app.get("/health/ready").await;
        not_ready.assert_error(503, "database_unreachable", "The database cannot be reached");

        proxy.set_mode(ProxyMode::Forward);
        eventually("the service is ready again", async || {
            app.get("/health/ready").await.status == 200
        })
        .await;
        eventually("a login succeeds", async || {
            app.log_in("alice", "correct horse").await.status == 200
        })
        .await;
        app.log_out(&token).await.assert(200, &json!({ "msg": "Successfully logged out" }));
        assert_eq!(app.dashboard(&token).await.status, 401);
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn disconnected_database_recovers_without_restart() {
    test_outage(ProxyMode::Cut).await;
}

#[actix_web::test]
async fn stalled_database_recovers_without_restart() {
    test_outage(ProxyMode::Stall).await;
}

#[actix_web::test]
async fn terminated_connections_recover_on_retry() {
    let test = async |database: TestDatabase| {
        let app = TestApp::start(&database).await;
        let token = app.register_and_log_in("alice").await;

        let terminate = "select pg_terminate_backend(pid) from pg_stat_activity
                         where datname = current_database() and pid <> pg_backend_pid()";
        database.execute(terminate).await;

        eventually("a login succeeds", async || {
            app.log_in("alice", "correct horse").await.status == 200
        })
        .await;
        assert_eq!(app.log_out(&token).await.status, 200);
    };
    TestDatabase::postgres().await.run(test).await;
}

async fn stale_instance_falls_back_to_database(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        config.revocations.poll_interval = Duration::from_hours(1);
    })
    .await;
    let valid = app.register_and_log_in("alice").await;
    app.get("/health/ready").await.assert(200, &json!({ "msg": "Ready" }));
    // The last read for an hour: on Postgres once the listener is connected, on SQLite at startup.
    let is_embedded = matches!(database, TestDatabase::Sqlite(_));
    let cause = if is_embedded { "poll" } else { "hint" };
    let reads = format!(r#"portcullis_revocation_feed_reads_total{{cause="{cause}"}}"#);
    eventually("the feed is read", async || app.metric(&reads).await == 1).await;

    app.clock.advance(Duration::from_secs(6));

    let msg = "The known revocations are too old";
    app.get("/health/ready").await.assert_error(503, "revocations_stale", msg);
    let checks = join_all((0..50).map(|_| app.dashboard(&valid))).await;
    assert!(checks.iter().all(|reply| reply.status == 200), "{checks:?}");
    let fallback_checks = r#"portcullis_revocation_checks_total{result="fallback_clear"}"#;
    assert_eq!(app.metric(fallback_checks).await, 50);
}

#[actix_web::test]
async fn locked_sqlite_file_recovers_without_restart() {
    let database = TestDatabase::sqlite();
    let app = TestApp::start_with(&database, shorten_timeouts).await;
    let token = app.register_and_log_in("alice").await;
    let mut other_connection = open_sqlite_connection(&database).await;

    other_connection.execute("begin immediate").await.unwrap();
    assert_unavailable(&app.register("bob", "correct horse").await);
    assert_unavailable(&app.log_out(&token).await);
    assert_eq!(app.dashboard(&token).await.status, 200);
    other_connection.execute("rollback").await.unwrap();

    eventually("a registration succeeds", async || {
        app.register("bob", "correct horse").await.status == 201
    })
    .await;
    assert_eq!(app.log_out(&token).await.status, 200);
    other_connection.close().await.unwrap();
}

async fn open_sqlite_connection(database: &TestDatabase) -> SqliteConnection {
    let options: SqliteConnectOptions = database.url().parse().unwrap();
    options.connect().await.unwrap()
}

#[actix_web::test]
async fn logout_holds_when_commit_is_late() {
    let test = async |database: TestDatabase| {
        let app = TestApp::start_with(&database, shorten_timeouts).await;
        let token = app.register_and_log_in("alice").await;
        let id = decode_claims(&token)["sid"].as_str().unwrap().to_owned();
        let mut other_connection = database.connect().await;
        let insert = "insert into revocations (id, expires_at) values";
        let insert_same_id = format!("begin; {insert} ('{id}', now())");
        other_connection.execute(AssertSqlSafe(insert_same_id)).await.unwrap();

        assert_unavailable(&app.log_out(&token).await);
        assert_eq!(app.dashboard(&token).await.status, 200);
        other_connection.execute("rollback").await.unwrap();

        eventually("the token is refused", async || app.dashboard(&token).await.status == 401)
            .await;
    };
    TestDatabase::postgres().await.run(test).await;
}
