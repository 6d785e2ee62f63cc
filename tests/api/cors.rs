//! CORS: calls of browser applications on other origins.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{
    Reply, TestApp, TestDatabase, credentials, document, on_both_databases, send,
};

on_both_databases![
    listed_origin_can_read_every_reply,
    listed_origin_can_read_that_it_should_slow_down,
    preflight_of_listed_origin_is_granted,
    preflight_for_another_method_or_header_is_refused,
    other_origins_get_no_cors_headers,
    routes_of_machines_have_no_cors,
    no_origin_is_allowed_by_default,
];

const ORIGIN: &str = "https://app.example.com";

/// Origins that resemble the listed one.
const OTHERS: [&str; 6] = [
    "null",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com.evil.example",
    "https://evil.example",
    "HTTPS://APP.EXAMPLE.COM",
];

/// Routes that only gateways, services and probes use.
const MACHINE_ROUTES: [&str; 9] = [
    "/",
    "/auth/check",
    "/auth/check/{rest}",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/oauth/introspect",
    "/oauth/token",
    "/revocations",
];

async fn start(database: &TestDatabase) -> TestApp {
    TestApp::start_with(database, |config| {
        let second = "http://localhost:3000".to_owned();
        config.http.cors_allowed_origins = vec![ORIGIN.to_owned(), second];
    })
    .await
}

fn from_origin(request: RequestBuilder, origin: &str) -> RequestBuilder {
    request.header("origin", origin)
}

async fn preflight(app: &TestApp, path: &str, origin: &str, method: &str, header: &str) -> Reply {
    let request = from_origin(app.request(Method::OPTIONS, path), origin)
        .header("access-control-request-method", method)
        .header("access-control-request-headers", header);
    send(request).await
}

#[track_caller]
fn assert_readable(reply: &Reply) {
    assert_eq!(reply.header("access-control-allow-origin"), Some(ORIGIN), "{reply:?}");
    assert!(list(reply, "vary").contains(&"Origin"), "{reply:?}");
    let mut exposed = list(reply, "access-control-expose-headers");
    exposed.sort_unstable();
    assert_eq!(exposed, ["retry-after", "www-authenticate", "x-request-id"], "{reply:?}");
    assert!(reply.header("x-request-id").is_some(), "{reply:?}");
    // There are no cookies.
    assert_eq!(reply.header("access-control-allow-credentials"), None, "{reply:?}");
}

#[track_caller]
fn assert_not_readable(reply: &Reply) {
    assert_eq!(reply.header("access-control-allow-origin"), None, "{reply:?}");
}

/// Returns the elements of a header that is a list.
fn list<'a>(reply: &'a Reply, name: &str) -> Vec<&'a str> {
    reply.header(name).unwrap_or_default().split(", ").collect()
}

async fn listed_origin_can_read_every_reply(database: TestDatabase) {
    let app = start(&database).await;
    app.register("alice", "correct horse").await;
    let post =
        |path, body: &Value| send(from_origin(app.request(Method::POST, path).json(body), ORIGIN));
    let get = |path| from_origin(app.request(Method::GET, path), ORIGIN);

    let login = post("/auth/login", &credentials("alice", "correct horse")).await;
    let token = login.access_token();
    let dashboard = send(get("/protected/dashboard").bearer_auth(&token)).await;
    let logout = from_origin(app.request(Method::POST, "/auth/logout"), ORIGIN).bearer_auth(&token);
    for reply in [&login, &dashboard, &send(logout).await] {
        assert_eq!(reply.status, 200);
        assert_readable(reply);
    }

    let wrong = post("/auth/login", &credentials("alice", "wrong")).await;
    let too_large = "x".repeat(1024 * 1024);
    let text = app.request(Method::POST, "/auth/login").body("username=alice");
    let errors = [
        (send(get("/protected/dashboard").bearer_auth(&token)).await, 401, "token_revoked"),
        (send(get("/protected/dashboard")).await, 401, "missing_authorization"),
        (wrong, 401, "invalid_credentials"),
        (send(get("/nowhere")).await, 404, "not_found"),
        (send(get("/auth/sessions/7/nowhere")).await, 404, "not_found"),
        (post("/protected/dashboard", &json!({})).await, 405, "method_not_allowed"),
        (post("/auth/login", &json!({ "username": too_large })).await, 413, "body_too_large"),
        (send(from_origin(text, ORIGIN)).await, 415, "unsupported_media_type"),
    ];
    for (reply, status, code) in errors {
        reply.assert_code(status, code);
        assert_readable(&reply);
    }
}

async fn listed_origin_can_read_that_it_should_slow_down(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        config.http.cors_allowed_origins = vec![ORIGIN.to_owned()];
        config.hashing.threads = 1;
        config.hashing.iterations = NonZeroU32::new(20_000).unwrap();
        config.hashing.max_wait = Duration::ZERO;
    })
    .await;
    let token = app.register_and_log_in("alice").await;
    let same = json!({ "current_password": "correct horse", "new_password": "correct horse" });
    let change = || {
        let request = app.request(Method::PUT, "/auth/password").bearer_auth(&token);
        send(from_origin(request.json(&same), ORIGIN))
    };
    for _ in 0..10 {
        change().await;
    }

    let too_many = change().await;
    let login = |_| {
        let request = app.request(Method::POST, "/auth/login");
        send(from_origin(request.json(&credentials("alice", "correct horse")), ORIGIN))
    };
    let logins = join_all((0..32).map(login)).await;

    let overloaded = logins.iter().find(|reply| reply.status == 503).expect("one is refused");
    for reply in [&too_many, overloaded] {
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        assert_readable(reply);
    }
    too_many.assert_code(429, "too_many_password_changes");
}

async fn preflight_of_listed_origin_is_granted(database: TestDatabase) {
    let app = start(&database).await;

    for method in ["GET", "POST", "PUT", "DELETE"] {
        let headers = "authorization, content-type, x-request-id, traceparent, tracestate";
        let reply = preflight(&app, "/auth/me", ORIGIN, method, headers).await;

        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, ""));
        assert_eq!(reply.header("access-control-allow-origin"), Some(ORIGIN));
        assert!(list(&reply, "access-control-allow-methods").contains(&method));
        let allowed = list(&reply, "access-control-allow-headers");
        assert!(headers.split(", ").all(|header| allowed.contains(&header)), "{allowed:?}");
        assert_eq!(reply.header("access-control-max-age"), Some("3600"));
        assert!(list(&reply, "vary").contains(&"Origin"));
    }
}

async fn preflight_for_another_method_or_header_is_refused(database: TestDatabase) {
    let app = start(&database).await;

    for (method, header) in [("TRACE", "authorization"), ("GET", "x-forwarded-for")] {
        let reply = preflight(&app, "/auth/me", ORIGIN, method, header).await;

        reply.assert_code(403, "preflight_refused");
        assert_not_readable(&reply);
    }
}

async fn other_origins_get_no_cors_headers(database: TestDatabase) {
    let app = start(&database).await;
    let token = app.register_and_log_in("alice").await;

    for origin in OTHERS {
        let request = app.request(Method::GET, "/protected/dashboard").bearer_auth(&token);
        let dashboard = send(from_origin(request, origin)).await;
        let preflight = preflight(&app, "/auth/login", origin, "POST", "content-type").await;

        assert_eq!(dashboard.status, 200, "{origin}");
        assert_not_readable(&dashboard);
        let msg = "The preflight was refused: Origin is not allowed to make this request";
        preflight.assert_error(403, "preflight_refused", msg);
        assert_not_readable(&preflight);
    }
    // A cache must not serve this reply to an origin.
    assert!(list(&app.dashboard(&token).await, "vary").contains(&"Origin"));
}

async fn routes_of_machines_have_no_cors(database: TestDatabase) {
    let app = start(&database).await;

    for (path, item) in document()["paths"].as_object().expect("the document has paths") {
        let (method, _) = item.as_object().and_then(|item| item.iter().next()).unwrap();
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();

        let preflight = preflight(&app, path, ORIGIN, method.as_str(), "authorization").await;
        let reply = send(from_origin(app.request(method, path), ORIGIN)).await;

        if MACHINE_ROUTES.contains(&path.as_str()) {
            assert!(!preflight.status.is_success(), "{path}: {preflight:?}");
            assert_not_readable(&preflight);
            assert_not_readable(&reply);
        } else {
            assert_eq!(preflight.status, 200, "{path}");
            assert_readable(&reply);
        }
    }
}

async fn no_origin_is_allowed_by_default(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    let preflight = preflight(&app, "/auth/login", ORIGIN, "POST", "content-type").await;
    let reply = send(from_origin(app.request(Method::GET, "/auth/me"), ORIGIN)).await;

    preflight.assert_code(405, "method_not_allowed");
    assert_not_readable(&preflight);
    assert_not_readable(&reply);
    assert_eq!(reply.header("vary"), None);
}
