//! Logs: a reader that stops, and failures that repeat.

use futures_util::future::join_all;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{BufReader, Lines};
use tokio::process::ChildStdout;

use crate::support::{PostgresServer, Process, TestApp, TestDatabase, eventually};

const DROPPED: &str = "portcullis_log_lines_dropped_total";

/// Spawns a program that logs much, whose log is not read.
async fn spawn_unread(database: &TestDatabase) -> (Process, Lines<BufReader<ChildStdout>>) {
    let mut command = Process::command(database);
    Process::spawn_unread(command.env("RUST_LOG", "trace")).await
}

/// Names of the first fields of every line.
const COMMON_FIELDS: [&str; 4] = ["timestamp", "level", "target", "message"];

#[actix_web::test]
async fn every_line_begins_with_the_same_fields() {
    let database = TestDatabase::sqlite();
    let mut command = Process::command(&database);
    let mut process = Process::spawn(command.env("RUST_LOG", "trace")).await;
    process.app.register_and_log_in("alice").await;
    process.app.log_in("alice", "wrong battery").await;
    process.send_signal(Signal::TERM);
    process.wait_for_exit().await;

    let log = process.log();
    for line in log.lines() {
        let (mut rest, parsed) = (line, serde_json::from_str::<Value>(line).expect("it is JSON"));
        for name in COMMON_FIELDS {
            assert!(parsed[name].is_string(), "{line}");
            let (_, after) = rest.split_once(&format!("\"{name}\":\"")).expect("it is in order");
            rest = after;
        }
    }
    for part in ["portcullis::", "sqlx::", "actix_server::"] {
        assert!(log.contains(&format!("\"target\":\"{part}")), "{part}");
    }
}

/// Sends requests until log lines are dropped.
async fn overflow_log(app: &TestApp) {
    eventually("lines are dropped", async || {
        let replies = join_all((0..100).map(|_| app.get("/"))).await;
        assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
        app.metric(DROPPED).await > 0
    })
    .await;
}

/// Returns the lines of a log that have a message, parsed.
fn lines_with(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str(line).expect("the line is JSON"));
    lines.filter(|line: &Value| line["message"] == message).collect()
}

#[actix_web::test]
async fn unread_log_stops_nothing_and_reports_what_was_dropped() {
    let database = TestDatabase::sqlite();
    let (process, unread_log) = spawn_unread(&database).await;
    overflow_log(&process.app).await;

    process.read_log(unread_log);

    let message = "dropped log lines because nothing read them";
    eventually("the dropped lines are reported", async || process.log().contains(message)).await;
    let report = &lines_with(&process.log(), message)[0];
    assert!(report["lines"].as_u64().unwrap() > 0, "{report}");
}

#[actix_web::test]
async fn sigterm_ends_a_process_whose_log_is_unread() {
    let database = TestDatabase::sqlite();
    let (mut process, _unread_log) = spawn_unread(&database).await;
    overflow_log(&process.app).await;

    process.send_signal(Signal::TERM);

    assert_eq!(process.wait_for_exit().await.code(), Some(0));
}

#[actix_web::test]
async fn closed_log_stops_nothing() {
    let database = TestDatabase::sqlite();
    let (mut process, unread_log) = spawn_unread(&database).await;

    drop(unread_log);
    overflow_log(&process.app).await;
    process.send_signal(Signal::TERM);

    assert_eq!(process.wait_for_exit().await.code(), Some(0));
}

#[actix_web::test]
async fn repeated_failures_are_logged_once_and_counted() {
    let mut server = PostgresServer::start().await;
    let process = Process::start(&server.database).await;
    let app = &process.app;
    let token = app.register_and_log_in("alice").await;
    server.crash().await;

    let requests = (0..50).map(|_| app.send_with_token(Method::GET, "/auth/me", &token));
    let replies = join_all(requests).await;

    assert!(replies.iter().all(|reply| reply.status == 503), "{replies:?}");
    let failures = async || lines_with(&process.log(), "request failed");
    let repeats = async || lines_with(&process.log(), "more requests failed");
    eventually("every failure is logged or counted", async || {
        let counted = repeats().await;
        let counted = counted.iter().map(|line| line["requests"].as_u64().unwrap());
        failures().await.len() as u64 + counted.sum::<u64>() == 50
    })
    .await;
    let mut causes: Vec<_> =
        failures().await.iter().map(|line| line["error"].to_string()).collect();
    let count = causes.len();
    causes.sort();
    causes.dedup();
    assert_eq!(causes.len(), count, "each cause is logged once: {causes:?}");
    server.start_again().await;
    server.shut_down().await;
}

#[actix_web::test]
async fn unready_instance_logs_why() {
    let mut server = PostgresServer::start().await;
    let process = Process::start(&server.database).await;
    let causes = async || -> Vec<String> {
        let lines = lines_with(&process.log(), "request failed");
        lines.iter().map(|line| line["error"].to_string()).collect()
    };

    server.crash().await;
    eventually("it is unready", async || process.app.get("/health/ready").await.status == 503)
        .await;
    eventually("the refused connection is logged", async || {
        causes().await.iter().any(|cause| cause.contains("Connection refused"))
    })
    .await;

    server.start_again().await;
    eventually("it is ready", async || process.app.get("/health/ready").await.status == 200).await;
    server.freeze().await;
    eventually("the silence is logged", async || {
        process.app.get("/health/ready").await;
        causes().await.iter().any(|cause| cause.contains("did not respond within"))
    })
    .await;
    let causes = causes().await;
    assert!(!causes.iter().any(|cause| cause.contains("pool timed out")), "{causes:?}");
    server.thaw().await;
    server.shut_down().await;
}
