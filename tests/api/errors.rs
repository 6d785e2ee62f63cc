//! Everything that is not a route, a body or a method that the API knows.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::json;

use crate::support::{Reply, TestApp, TestDatabase, on_both_databases, send};

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

on_both_databases! {
    async fn an_unknown_path_is_404_in_json(database: TestDatabase) {
        let app = TestApp::start(&database).await;

        for path in ["/nowhere", "/auth", "/auth/login/", "/%2e%2e/etc/passwd"] {
            app.get(path).await.assert_error(404, "not_found", "Not found");
        }
    }

    async fn another_method_is_405_and_names_those_allowed(database: TestDatabase) {
        let app = TestApp::start(&database).await;

        for (path, allowed) in ROUTES {
            let refused = send(app.request(Method::PATCH, path)).await;
            let msg = format!("Method not allowed. Allowed: {allowed}");
            refused.assert_error(405, "method_not_allowed", &msg);
            assert_eq!(refused.header("allow"), Some(*allowed));
        }
    }

    async fn a_head_request_is_answered_like_a_get_without_the_body(database: TestDatabase) {
        let app = TestApp::start(&database).await;

        let head = send(app.request(Method::HEAD, "/")).await;

        assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
        assert_eq!(head.header("content-type"), Some("application/json"));
    }

    async fn a_body_that_is_no_json_object_of_texts_is_400(database: TestDatabase) {
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

    async fn a_body_of_another_type_is_415(database: TestDatabase) {
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

    async fn a_body_that_does_not_arrive_is_408_in_time(database: TestDatabase) {
        let app = TestApp::start_with(&database, |config| {
            config.http.request_timeout = Duration::from_secs(1);
        }).await;
        let stalled = futures_util::stream::once(async { Ok::<_, std::io::Error>("{") })
            .chain(futures_util::stream::pending());

        let body = reqwest::Body::wrap_stream(stalled);
        let refused = post_text(&app, "application/json", body).await;

        refused.assert_error(408, "body_too_slow", "The request body did not arrive in time");
    }

    async fn a_body_over_16_kib_is_413_announced_or_not(database: TestDatabase) {
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

        let fits = post_text(&app, "application/json", padded(16 * 1024)).await;
        assert_eq!(fits.status, 401);
        let announced = post_text(&app, "application/json", padded(16 * 1024 + 1)).await;
        announced.assert_error(413, "body_too_large", msg);
        let unannounced = post_text(&app, "application/json", chunked(padded(16 * 1024 + 1))).await;
        unannounced.assert_error(413, "body_too_large", msg);
    }
}
