//! Request IDs, metrics, probes and logs.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use flate2::read::GzDecoder;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, VARY};
use reqwest::{Method, Version};
use serde_json::{Value, json};

use crate::support::{
    Process, TestApp, TestDatabase, credentials, decode_claims, eventually, on_both_databases, send,
};

on_both_databases![
    refused_login_is_logged_with_account_and_address,
    every_reply_has_a_request_id,
    replies_are_neither_sniffed_nor_stored,
    large_replies_are_compressed_for_clients_that_accept_it,
    probes_report_alive_and_ready,
    requests_are_counted_by_route,
    logins_registrations_and_revocations_are_counted,
    expired_revocations_are_deleted,
    request_logs_carry_ids_but_no_secrets,
    lines_of_a_request_have_the_ids_of_its_trace,
];

const DASHBOARD: &str = "monitoring/grafana/dashboards/portcullis.json";

const BUILD_INFO: &str = concat!(
    "portcullis_build_info{commit=\"",
    env!("PORTCULLIS_COMMIT"),
    "\",version=\"",
    env!("CARGO_PKG_VERSION"),
    "\"}"
);

async fn echoed_request_id(app: &TestApp, id: &str) -> String {
    let reply = send(app.request(Method::GET, "/").header("x-request-id", id)).await;
    reply.header("x-request-id").expect("the reply has a request ID").to_owned()
}

/// Returns the names of the metrics that a file mentions, without the suffixes of histograms.
fn metrics_in(path: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(path)).unwrap();
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let prefixes = ["portcullis_", "http_request", "process_"];
    let metrics = words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix)));
    metrics.map(|metric| without_histogram_suffix(metric).to_owned()).collect()
}

fn without_histogram_suffix(metric: &str) -> &str {
    let suffixes = ["_bucket", "_sum", "_count"];
    suffixes.iter().find_map(|suffix| metric.strip_suffix(suffix)).unwrap_or(metric)
}

#[actix_web::test]
async fn documented_metrics_are_exported() {
    let test = async |database: TestDatabase| {
        let app = TestApp::start(&database).await;
        eventually("the listener is connected", async || {
            app.get("/metrics").await.text.contains("portcullis_revocation_listener_connected 1")
        })
        .await;
        let text = app.get("/metrics").await.text;
        for path in [
            "monitoring/alerts.yml",
            "monitoring/alerts_test.yml",
            DASHBOARD,
            "docs/keys.md",
            "docs/revocation.md",
        ] {
            let metrics = metrics_in(path);
            assert!(!metrics.is_empty(), "{path}");
            for metric in metrics {
                assert!(
                    text.contains(&format!("# TYPE {metric} ")),
                    "{metric} in {path} is not exported"
                );
            }
        }
        let shown = metrics_in(DASHBOARD);
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE portcullis_")) {
            let (name, _) = line.split_once(' ').expect("the line has a name and a type");
            let metric = format!("portcullis_{name}");
            assert!(shown.contains(&metric), "{metric} is not on the dashboard");
        }
    };
    TestDatabase::postgres().await.run(test).await;
}

async fn refused_login_is_logged_with_account_and_address(database: TestDatabase) {
    let process = Process::start(&database).await;
    let token = process.app.register_and_log_in("alice").await;

    process.app.log_in("alice", "wrong password").await.assert_code(401, "invalid_credentials");
    process.app.log_in("hunter2", "alice").await.assert_code(401, "invalid_credentials");

    let lines = || {
        let log = process.log();
        let lines = log.lines().filter(|line| line.contains("login refused"));
        lines.map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    eventually("both refusals are logged", async || lines().len() == 2).await;
    let lines = lines();
    assert_eq!(lines[0]["user.id"], decode_claims(&token)["sub"]);
    assert_eq!(lines[0]["user.name"], "alice");
    assert_eq!(lines[1]["user.id"], Value::Null);
    for line in &lines {
        assert_eq!(
            (&line["level"], &line["client.address"]),
            (&json!("INFO"), &json!("127.0.0.1"))
        );
    }
    assert!(!process.log().contains("hunter2"), "{}", process.log());
}

async fn every_reply_has_a_request_id(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    assert_eq!(echoed_request_id(&app, "checkout-42.retry_1").await, "checkout-42.retry_1");
    for malformed in ["", "two words", &"x".repeat(129)] {
        let id = echoed_request_id(&app, malformed).await;
        assert!(uuid::Uuid::parse_str(&id).is_ok(), "{id}");
    }
    for refused in [app.get("/nowhere").await, app.get("/protected/dashboard").await] {
        assert!(refused.header("x-request-id").is_some(), "{refused:?}");
    }
}

async fn replies_are_neither_sniffed_nor_stored(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let session = app.register_and_open_session("alice").await;
    let token = session.access_token();
    let refresh = app.refresh(&session.refresh_token()).await;

    for reply in [
        session,
        refresh,
        app.dashboard(&token).await,
        app.dashboard("forged").await,
        app.log_out(&token).await,
        app.get("/").await,
        app.get("/nowhere").await,
        send(app.request(Method::PUT, "/")).await,
    ] {
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{reply:?}");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
    }
    let script = app.get("/docs/swagger-ui-bundle.js").await;
    assert_eq!(script.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(script.header("cache-control"), Some("public, max-age=3600"));
}

/// Asks for a reply, and returns its encoding and its text.
async fn get_encoded(
    app: &TestApp,
    path: &str,
    token: &str,
    accepted: &str,
) -> (Option<HeaderValue>, String) {
    let request = app.request(Method::GET, path).bearer_auth(token);
    let reply = request.header(ACCEPT_ENCODING, accepted).send().await.unwrap();
    assert_eq!(reply.status(), 200, "{path}");
    assert_eq!(reply.headers()[VARY], "accept-encoding", "{path}");
    let encoding = reply.headers().get(CONTENT_ENCODING).cloned();
    let body = reply.bytes().await.unwrap();
    let mut text = String::new();
    match encoding {
        Some(_) => GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap(),
        None => (&body[..]).read_to_string(&mut text).unwrap(),
    };
    (encoding, text)
}

async fn large_replies_are_compressed_for_clients_that_accept_it(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_admin(&database).await;
    for number in 0..8 {
        app.register(&format!("user{number}"), "correct horse").await;
    }

    for path in ["/openapi.json", "/admin/users", "/admin/audit"] {
        let (encoding, text) = get_encoded(&app, path, &token, "br, gzip").await;
        assert_eq!(encoding.unwrap(), "gzip", "{path}");
        for accepted in ["identity", "br", "gzip;q=0", "deflate, identity;q=0.5, gzip;q=0.1"] {
            let plain = get_encoded(&app, path, &token, accepted).await;
            assert_eq!(plain, (None, text.clone()), "{path}");
        }
    }
    let (encoding, metrics) = get_encoded(&app, "/metrics", &token, "gzip").await;
    assert_eq!(encoding.unwrap(), "gzip");
    assert!(
        metrics.contains("\nportcullis_registrations_total{outcome=\"success\"} 9\n"),
        "{metrics}"
    );
    let (_, style_sheet) = get_encoded(&app, "/docs/swagger-ui.css", &token, "gzip").await;
    assert!(style_sheet.contains(".swagger-ui"), "{style_sheet}");
    let (encoding, _) = get_encoded(&app, "/admin/users?limit=1", &token, "gzip").await;
    assert_eq!(encoding, None, "it is small");
    let old = app.request(Method::GET, "/metrics").header(ACCEPT_ENCODING, "gzip");
    let old = old.version(Version::HTTP_10).send().await.unwrap();
    assert!(old.headers().contains_key(CONTENT_LENGTH), "HTTP/1.0 has no chunks: {old:?}");
    let head = app.request(Method::HEAD, "/metrics").header(ACCEPT_ENCODING, "gzip");
    let head = head.send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()[CONTENT_ENCODING], "gzip");

    // A reply with tokens is not compressed.
    let login = app.request(Method::POST, "/auth/login").header(ACCEPT_ENCODING, "gzip");
    let login = send(login.json(&credentials("user0", "correct horse"))).await;
    assert_eq!((login.header("content-encoding"), login.header("vary")), (None, None));
}

async fn probes_report_alive_and_ready(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    app.get("/").await.assert(200, &json!({ "msg": "API is working" }));
    app.get("/health/live").await.assert(200, &json!({ "msg": "Alive" }));
    app.get("/health/ready").await.assert(200, &json!({ "msg": "Ready" }));
}

async fn requests_are_counted_by_route(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for path in ["/a", "/b", "/c?d=e"] {
        app.get(path).await;
    }
    send(app.request(Method::from_bytes(b"MAKEUP").unwrap(), "/a")).await;
    for path in ["/protected/dashboard", "/auth/check", "/auth/check/a/b", "/auth/check/"] {
        app.get(path).await;
    }

    let count = async |labels: &str| app.metric(&format!("http_requests_total{{{labels}}}")).await;
    assert_eq!(count(r#"method="GET",route="unmatched",status="404""#).await, 3);
    assert_eq!(count(r#"method="other",route="unmatched",status="404""#).await, 1);
    assert_eq!(count(r#"method="GET",route="/protected/dashboard",status="401""#).await, 1);
    assert_eq!(count(r#"method="GET",route="/auth/check",status="401""#).await, 1);
    assert_eq!(count(r#"method="GET",route="/auth/check/{rest}",status="401""#).await, 2);
    let timed = concat!(
        "http_request_duration_seconds_count",
        r#"{method="GET",route="unmatched",status="404"}"#
    );
    assert_eq!(app.metric(timed).await, 3);
}

async fn logins_registrations_and_revocations_are_counted(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;
    app.register("alice", "correct horse").await;
    app.log_in("alice", "wrong password").await;
    app.dashboard(&token).await;
    app.log_out(&token).await;
    app.dashboard(&token).await;

    for (sample, value) in [
        (r#"portcullis_registrations_total{outcome="success"}"#, 1),
        (r#"portcullis_registrations_total{outcome="taken"}"#, 1),
        (r#"portcullis_logins_total{outcome="success"}"#, 1),
        (r#"portcullis_logins_total{outcome="invalid_credentials"}"#, 1),
        (r#"portcullis_revocation_checks_total{result="clear"}"#, 2),
        (r#"portcullis_revocation_checks_total{result="revoked"}"#, 1),
        ("portcullis_revocations_committed_total", 1),
        ("portcullis_revocations_held", 1),
        ("portcullis_revocation_commit_batch_size_sum", 1),
        ("portcullis_revocation_commit_duration_seconds_count", 1),
        ("portcullis_revocation_replica_complete", 1),
        ("portcullis_hash_duration_seconds_count", 4),
        ("portcullis_hash_wait_seconds_count", 4),
        ("portcullis_hash_threads", 2),
        (BUILD_INFO, 1),
    ] {
        assert_eq!(app.metric(sample).await, value, "{sample}");
    }
    assert!(app.metric(r#"portcullis_database_connections{state="idle"}"#).await >= 1);
    assert_eq!(app.metric("portcullis_database_connections_max").await, 4);
    assert!(app.metric("process_resident_memory_bytes").await > 0);
}

async fn expired_revocations_are_deleted(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        config.revocations.sweep_interval = Duration::from_millis(10);
    })
    .await;
    let token = app.register_and_log_in("alice").await;
    app.log_out(&token).await;
    let deleted_count = async || app.metric("portcullis_revocations_swept_total").await;
    database
        .execute(match database {
            TestDatabase::Postgres { .. } => {
                "update revocations set expires_at = expires_at - interval '2 hours'"
            }
            TestDatabase::Sqlite(_) => {
                "update revocations set expires_at = expires_at - 7200000000"
            }
        })
        .await;
    eventually("the expired revocation is deleted", async || deleted_count().await == 1).await;
}

async fn request_logs_carry_ids_but_no_secrets(database: TestDatabase) {
    let mut command = Process::command(&database);
    let process = Process::spawn(command.env("RUST_LOG", "trace")).await;
    let app = &process.app;
    let token = app.register_and_log_in("alice").await;
    app.log_in("alice", "wrong battery").await;
    app.dashboard(&token).await;
    app.log_out(&token).await;
    send(app.request(Method::GET, "/nowhere").header("x-request-id", "the-last-one")).await;
    eventually("the last request is logged", async || process.log().contains("the-last-one")).await;

    let log = process.log();
    let (_, signature) = token.rsplit_once('.').expect("the token has a signature");
    let passwords = ["correct horse", "wrong battery", "$pbkdf2-sha256$"];
    for secret in [signature, "0123456789abcdef0123456789abcdef"].iter().chain(&passwords) {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
    let lines =
        log.lines().map(|line| serde_json::from_str::<Value>(line).expect("the line is JSON"));
    let is_handled = |line: &Value| line["target"].to_string().contains("portcullis::http");
    let handled: Vec<_> = lines.filter(is_handled).collect();
    assert!(handled.len() >= 6, "{log}");
    for line in handled {
        assert!(line["request.id"].is_string(), "{line}");
    }
}

/// The handlers of the actors, their tasks, and statements of the database log, too.
async fn lines_of_a_request_have_the_ids_of_its_trace(database: TestDatabase) {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut command = Process::command(&database);
    let process = Process::spawn(command.env("RUST_LOG", "debug")).await;
    let app = &process.app;
    app.register_and_log_in("alice").await;
    let log_in = |id: &str, trace: &str| {
        let request = app.request(Method::POST, "/auth/login").header("x-request-id", id);
        let request = request.header("traceparent", trace);
        send(request.json(&credentials("alice", "wrong battery")))
    };

    log_in("traced", &format!("00-{TRACE}-00f067aa0ba902b7-01")).await;
    log_in("untraced", &format!("ff-{TRACE}-00f067aa0ba902b7-01")).await;

    let lines_of = |id: &str| -> Vec<Value> {
        let log = process.log();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["request.id"] == id).collect()
    };
    let targets = ["observe", "users::refusals", "sqlx::query"];
    for id in ["traced", "untraced"] {
        for target in targets {
            let is_logged = |line: &Value| line["target"].as_str().unwrap().ends_with(target);
            eventually(&format!("{target} logs"), async || lines_of(id).iter().any(is_logged))
                .await;
        }
        eventually("the audit record is written", async || {
            lines_of(id).iter().any(|line| line["summary"].to_string().contains("into audit_log"))
        })
        .await;
    }
    for line in lines_of("traced") {
        assert_eq!(
            (&line["trace_id"], &line["span_id"]),
            (&json!(TRACE), &json!("00f067aa0ba902b7"))
        );
    }
    for line in lines_of("untraced") {
        assert_eq!((&line["trace_id"], &line["span_id"]), (&Value::Null, &Value::Null));
    }
}

#[test]
fn every_alert_links_its_section_of_the_runbook() {
    let (alerts, runbook) =
        (include_str!("../../monitoring/alerts.yml"), include_str!("../../docs/runbook.md"));
    let after = |text: &'static str, prefix: &'static str| -> Vec<&str> {
        text.lines().filter_map(|line| line.trim().strip_prefix(prefix)).collect()
    };

    let names = after(alerts, "- alert: ");
    let anchors: Vec<_> = names.iter().map(|name| name.to_lowercase()).collect();

    assert!(!names.is_empty());
    assert_eq!(after(alerts, "runbook: docs/runbook.md#"), anchors);
    assert_eq!(after(runbook, "## "), names);
}
