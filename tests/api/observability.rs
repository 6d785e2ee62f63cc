//! What operators see: request ids, metrics, probes, logs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Process, TestApp, TestDatabase, eventually, on_both_databases, send};

async fn with_id(app: &TestApp, id: &str) -> String {
    let reply = send(app.request(Method::GET, "/").header("x-request-id", id)).await;
    reply.header("x-request-id").expect("an id").to_owned()
}

/// Lists the metrics that a file speaks of.
fn metrics_in(path: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(path)).unwrap();
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let parts = ["_bucket", "_sum", "_count"];
    let name = |word: &str| {
        parts.iter().find_map(|part| word.strip_suffix(part)).unwrap_or(word).to_owned()
    };
    words.filter(|word| word.starts_with("portcullis_")).map(name).collect()
}

#[actix_web::test]
async fn whatever_the_alerts_the_dashboards_and_the_manual_speak_of_is_exported() {
    let exported = async |database: TestDatabase| {
        let app = TestApp::start(&database).await;
        eventually("a listener", async || {
            app.get("/metrics").await.text.contains("portcullis_revocation_listener_connected 1")
        })
        .await;
        let text = app.get("/metrics").await.text;
        for path in [
            "monitoring/alerts.yml",
            "monitoring/alerts_test.yml",
            "monitoring/grafana/dashboards/portcullis.json",
            "monitoring/grafana/dashboards/revocation.json",
            "docs/revocation.md",
        ] {
            let metrics = metrics_in(path);
            assert!(!metrics.is_empty(), "{path}");
            for metric in metrics {
                assert!(text.contains(&format!("# TYPE {metric} ")), "{metric} of {path}");
            }
        }
    };
    TestDatabase::postgres().await.lend(exported).await;
}

on_both_databases! {
    async fn a_reply_bears_the_clients_request_id_or_one_of_ours(database: TestDatabase) {
        let app = TestApp::start(&database).await;

        assert_eq!(with_id(&app, "checkout-42.retry_1").await, "checkout-42.retry_1");
        for malformed in ["", "two words", &"x".repeat(129)] {
            let id = with_id(&app, malformed).await;
            assert!(uuid::Uuid::parse_str(&id).is_ok(), "{id}");
        }
        for refused in [app.get("/nowhere").await, app.get("/protected/dashboard").await] {
            assert!(refused.header("x-request-id").is_some(), "{refused:?}");
        }
    }

    async fn the_probes_say_alive_and_ready(database: TestDatabase) {
        let app = TestApp::start(&database).await;

        app.get("/").await.assert(200, &json!({ "msg": "API is working" }));
        app.get("/health/live").await.assert(200, &json!({ "msg": "Alive" }));
        app.get("/health/ready").await.assert(200, &json!({ "msg": "Ready" }));
    }

    async fn requests_are_counted_by_route_and_unknown_paths_together(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        for path in ["/a", "/b", "/c?d=e"] {
            app.get(path).await;
        }
        send(app.request(Method::from_bytes(b"MAKEUP").unwrap(), "/a")).await;
        app.get("/protected/dashboard").await;

        let count =
            async |labels: &str| app.metric(&format!("http_requests_total{{{labels}}}")).await;
        assert_eq!(count(r#"method="GET",route="unmatched",status="404""#).await, 3);
        assert_eq!(count(r#"method="other",route="unmatched",status="404""#).await, 1);
        assert_eq!(count(r#"method="GET",route="/protected/dashboard",status="401""#).await, 1);
        let timed = concat!(
            "http_request_duration_seconds_count",
            r#"{method="GET",route="unmatched",status="404"}"#
        );
        assert_eq!(app.metric(timed).await, 3);
    }

    async fn logins_registrations_and_revocations_are_counted(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let token = app.token_of("alice").await;
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
            (concat!("portcullis_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1),
        ] {
            assert_eq!(app.metric(sample).await, value, "{sample}");
        }
        assert!(app.metric(r#"portcullis_database_connections{state="idle"}"#).await >= 1);
        assert_eq!(app.metric("portcullis_database_connections_max").await, 4);
        assert!(app.metric("process_resident_memory_bytes").await > 0);
    }

    async fn expired_revocations_are_swept(database: TestDatabase) {
        let app = TestApp::start_with(&database, |config| {
            config.revocations.sweep_interval = Duration::from_millis(10);
        }).await;
        let token = app.token_of("alice").await;
        app.log_out(&token).await;
        let swept = async || app.metric("portcullis_revocations_swept_total").await;
        app.clock.advance(Duration::from_hours(2));
        database.execute(match database {
            TestDatabase::Postgres { .. } => {
                "update revocations set expires_at = expires_at - interval '2 hours'"
            }
            TestDatabase::Sqlite(_) => {
                "update revocations set expires_at = expires_at - 7200000000"
            }
        }).await;
        eventually("a sweep", async || swept().await == 1).await;
    }

    async fn every_line_of_a_request_bears_its_id_and_none_a_secret(database: TestDatabase) {
        let mut command = Process::command(&database);
        let process = Process::spawn(command.env("RUST_LOG", "trace")).await;
        let app = &process.app;
        let token = app.token_of("alice").await;
        app.log_in("alice", "wrong battery").await;
        app.dashboard(&token).await;
        app.log_out(&token).await;
        send(app.request(Method::GET, "/nowhere").header("x-request-id", "the-last-one")).await;
        eventually("the last line", async || process.log().contains("the-last-one")).await;

        let log = process.log();
        let (_, signature) = token.rsplit_once('.').expect("a signature");
        let passwords = ["correct horse", "wrong battery", "$pbkdf2-sha256$"];
        for secret in [signature, "0123456789abcdef0123456789abcdef"].iter().chain(&passwords) {
            assert!(!log.contains(secret), "{secret} in\n{log}");
        }
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let is_handled = |line: &Value| line["target"].to_string().contains("portcullis::http");
        let handled: Vec<_> = lines.filter(is_handled).collect();
        assert!(handled.len() >= 6, "{log}");
        for line in handled {
            assert!(line["span"]["request.id"].is_string(), "{line}");
        }
    }
}
