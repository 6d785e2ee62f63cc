//! Requests with an unknown path, a wrong method or an unusable body.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::json;

use crate::support::{Reply, TestApp, TestDatabase, on_both_databases, send};

on_both_databases![
    unknown_path_is_not_found,
    disallowed_method_lists_allowed_methods,
    head_request_omits_the_body,
    malformed_json_body_is_refused,
    wrong_content_type_is_refused,
    stalled_body_times_out,
    oversized_body_is_refused,
];

const ROUTES: &[(&str, &str)] = &[
    ("/", "GET, HEAD"),
    ("/auth/register", "POST"),
    ("/auth/login", "POST"),
    ("/auth/logout", "POST"),
    ("/protected/dashboard", "GET, HEAD"),
    ("/health/live", "GET, HEAD"),
    ("/health/ready", "GET, HEAD"),
    ("/metrics", "GET, HEAD"),
];

async fn post_text(app: &TestApp, content_type: &str, body: impl Into<reqwest::Body>) -> Reply {
    let request = app.request(Method::POST, "/auth/login").header("content-type", content_type);
    send(request.body(body)).await
}

async fn unknown_path_is_not_found(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    for path in ["/nowhere", "/auth", "/auth/login/", "/%2e%2e/etc/passwd"] {
        app.get(path).await.assert_error(404, "not_found", "Not found");
    }
}

async fn disallowed_method_lists_allowed_methods(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    for (path, allowed) in ROUTES {
        let refused = send(app.request(Method::PATCH, path)).await;
        let msg = format!("Method not allowed. Allowed: {allowed}");
        refused.assert_error(405, "method_not_allowed", &msg);
        assert_eq!(refused.header("allow"), Some(*allowed));
    }
}

async fn head_request_omits_the_body(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    let head = send(app.request(Method::HEAD, "/")).await;

    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    assert_eq!(head.header("content-type"), Some("application/json"));
}

async fn malformed_json_body_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let bodies = [
        "",
        "{",
        "null",
        r#""text""#,
        r#"["alice", "correct horse"]"#,
        r#"{"username": 5}"#,
        r#"{"username": "\ud800"}"#,
        r#"{"username": "alice", "username": "bob"}"#,
    ];

    for body in bodies {
        let refused = post_text(&app, "application/json", body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert_eq!(refused.body["code"], "invalid_body", "{body}");
    }
}

async fn wrong_content_type_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    for content_type in ["text/plain", "application/x-www-form-urlencoded", "nonsense"] {
        let refused = post_text(&app, content_type, "username=alice&password=secret").await;
        refused.assert_error(
            415,
            "unsupported_media_type",
            "The request body must be JSON, sent with 'Content-Type: application/json'",
        );
    }
}

async fn stalled_body_times_out(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        config.http.request_timeout = Duration::from_secs(1);
    })
    .await;
    let stalled = futures_util::stream::once(async { Ok::<_, std::io::Error>("{") })
        .chain(futures_util::stream::pending());

    let body = reqwest::Body::wrap_stream(stalled);
    let refused = post_text(&app, "application/json", body).await;

    refused.assert_error(408, "body_too_slow", "The request body did not arrive in time");
}

async fn oversized_body_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let padded = |length: usize| {
        let body = json!({ "username": "alice", "password": "correct horse" }).to_string();
        format!("{body}{}", " ".repeat(length - body.len()))
    };
    let chunked = |text: String| {
        let (first, rest) = text.split_at(1_000);
        let chunks = [first, rest].map(|chunk| Ok::<_, std::io::Error>(chunk.to_owned()));
        reqwest::Body::wrap_stream(futures_util::stream::iter(chunks))
    };
    let msg = "The request body must be at most 16384 bytes long";

    let accepted = post_text(&app, "application/json", padded(16 * 1024)).await;
    assert_eq!(accepted.status, 401);
    let announced = post_text(&app, "application/json", padded(16 * 1024 + 1)).await;
    announced.assert_error(413, "body_too_large", msg);
    let unannounced = post_text(&app, "application/json", chunked(padded(16 * 1024 + 1))).await;
    unannounced.assert_error(413, "body_too_large", msg);
}
