//! `/auth/check`, the door for gateways: accepted tokens, identity headers, and attempts to get past
//! it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{
    Proxy, ProxyMode, Reply, TestApp, TestDatabase, decode_claims, forge, on_both_databases, send,
};

on_both_databases![
    accepted_token_is_described_by_headers,
    username_is_percent_encoded,
    headers_without_a_value_are_empty,
    client_is_not_described_as_a_user,
    headers_of_the_client_change_nothing,
    refused_token_gets_the_usual_reply,
    logged_out_token_is_refused_at_once,
    required_permissions_are_all_needed,
    requirements_of_query_and_header_both_apply,
    query_on_a_path_of_the_client_is_ignored,
    malformed_requirement_never_opens,
    every_method_is_answered_alike,
    every_path_behind_the_door_is_answered_alike,
    similar_paths_are_not_the_door,
    body_is_not_waited_for,
    unread_body_is_not_taken_for_a_request,
    connection_is_kept_without_a_body,
];

/// Paths of the two routes.
const DOORS: [&str; 2] = ["/auth/check", "/auth/check/orders/7"];

const IDENTITY_HEADERS: [&str; 6] = [
    "x-auth-user-id",
    "x-auth-username",
    "x-auth-roles",
    "x-auth-scope",
    "x-auth-session-id",
    "x-auth-client-id",
];

async fn check(app: &TestApp, path: &str, token: &str) -> Reply {
    app.send_with_token(Method::GET, path, token).await
}

async fn check_requiring(app: &TestApp, path: &str, token: &str, require: &[&str]) -> Reply {
    let request = app.request(Method::GET, path).bearer_auth(token);
    let request = require.iter().fold(request, |request, permissions| {
        request.header("x-auth-require", permissions.as_bytes())
    });
    send(request).await
}

/// Returns the identity headers of a reply that lets a request pass, and asserts the rest of it.
#[track_caller]
fn identity(reply: &Reply) -> [&str; 6] {
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, ""), "{reply:?}");
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("content-type"), None);
    IDENTITY_HEADERS.map(|name| reply.header(name).expect("the reply has every header"))
}

#[track_caller]
fn assert_permission_missing(reply: &Reply, permission: &str) {
    let msg = format!("You do not have the permission {permission}");
    reply.assert_error(403, "permission_missing", &msg);
    let challenge = format!(r#"Bearer error="insufficient_scope", scope="{permission}""#);
    assert_eq!(reply.header("www-authenticate"), Some(challenge.as_str()));
    assert_eq!(IDENTITY_HEADERS.map(|name| reply.header(name)), [None; 6]);
}

async fn accepted_token_is_described_by_headers(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("Alice").await;
    let claims = decode_claims(&token);

    for path in DOORS {
        let reply = check(&app, path, &token).await;

        let (user, session) = (claims["sub"].as_str(), claims["sid"].as_str());
        let (user, session) = (user.unwrap(), session.unwrap());
        let expected = [user, "Alice", "user", "dashboard:read", session, "portcullis"];
        assert_eq!(identity(&reply), expected, "{path}");
    }
}

async fn username_is_percent_encoded(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    for (name, encoded) in
        [("Ζωή", "%CE%96%CF%89%CE%AE"), ("a.b_c~d-e", "a.b_c~d-e"), ("a+b@c%2F", "a%2Bb%40c%252F")]
    {
        let token = app.register_and_log_in(name).await;
        assert_eq!(identity(&check(&app, "/auth/check", &token).await)[1], encoded);
    }
}

async fn headers_without_a_value_are_empty(database: TestDatabase) {
    let app = TestApp::start_with_shared_secret(&database).await;
    let token = app.register_and_log_in("alice").await;
    let bare = forge(&token, &[("roles", json!([])), ("scope", json!(""))]);

    let reply = check(&app, "/auth/check", &bare).await;

    let [_, username, roles, scope, _, _] = identity(&reply);
    assert_eq!([username, roles, scope], ["alice", "", ""]);
}

async fn client_is_not_described_as_a_user(database: TestDatabase) {
    let app = TestApp::start_with_shared_secret(&database).await;
    let token = app.register_and_log_in("alice").await;
    let id = decode_claims(&token)["sub"].clone();
    let of_client = forge(&token, &[("client_id", id.clone()), ("username", Value::Null)]);

    let reply = check(&app, "/auth/check", &of_client).await;

    let [user, username, .., client] = identity(&reply);
    assert_eq!([user, username, client], ["", "", id.as_str().unwrap()]);
}

async fn headers_of_the_client_change_nothing(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;
    let plain = check(&app, "/auth/check/orders", &token).await;
    let forged = [
        ("x-auth-user-id", "root"),
        ("x_auth_user_id", "root"),
        ("x-auth-roles", "admin"),
        ("x-auth-scope", "users:write"),
        ("x-forwarded-method", "DELETE"),
        ("x-forwarded-uri", "/public?permission=users:write"),
        ("x-forwarded-host", "internal"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-original-url", "/public"),
        ("x-http-method-override", "OPTIONS"),
        ("origin", "https://app.example.com"),
        ("access-control-request-method", "GET"),
        ("if-none-match", "*"),
        ("range", "bytes=0-0"),
    ];
    let with_forged = |mut request: reqwest::RequestBuilder| {
        for (name, value) in forged {
            request = request.header(name, value);
        }
        request
    };

    for path in DOORS {
        let accepted = with_forged(app.request(Method::GET, path).bearer_auth(&token));
        assert_eq!(identity(&send(accepted).await), identity(&plain), "{path}");
        let refused = send(with_forged(app.request(Method::OPTIONS, path))).await;
        refused.assert_error(401, "missing_authorization", "Missing Authorization Header");
    }
}

async fn refused_token_gets_the_usual_reply(database: TestDatabase) {
    let app = TestApp::start_with_shared_secret(&database).await;
    let token = app.register_and_log_in("alice").await;
    let refused = [
        String::new(),
        "nonsense".to_owned(),
        format!("{token}x"),
        forge(&token, &[("exp", json!(1))]),
        forge(&token, &[("aud", json!(["orders"]))]),
    ];

    for path in DOORS {
        for token in &refused {
            let reply = check(&app, path, token).await;
            let usual = app.dashboard(token).await;
            reply.assert(401, &usual.body);
            assert_eq!(reply.header("www-authenticate"), usual.header("www-authenticate"));
            assert_eq!(IDENTITY_HEADERS.map(|name| reply.header(name)), [None; 6]);
        }
    }
}

async fn logged_out_token_is_refused_at_once(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;
    assert_eq!(check(&app, "/auth/check", &token).await.status, 200);

    app.log_out(&token).await;

    for path in DOORS {
        check(&app, path, &token).await.assert_code(401, "token_revoked");
    }
}

async fn required_permissions_are_all_needed(database: TestDatabase) {
    let app = TestApp::start_with_shared_secret(&database).await;
    let token = app.register_and_log_in("alice").await;
    let scope = json!("orders:read users:read");
    let token = forge(&token, &[("scope", scope)]);

    for query in [
        "permission=orders:read",
        "permission=orders%3Aread&permission=users:read",
        "permission=users:read&&permission=users:read&",
    ] {
        identity(&check(&app, &format!("/auth/check?{query}"), &token).await);
    }
    for path in DOORS {
        for require in [
            &["orders:read"][..],
            &["orders:read users:read"],
            &["orders:read, users:read"],
            &[" ,orders:read,,users:read, "],
            &["orders:read", "users:read"],
        ] {
            identity(&check_requiring(&app, path, &token, require).await);
        }
    }

    for query in [
        "permission=orders:write",
        "permission=orders:read&permission=orders:write",
        "permission=orders:write&permission=orders:read",
    ] {
        let reply = check(&app, &format!("/auth/check?{query}"), &token).await;
        assert_permission_missing(&reply, "orders:write");
    }
    for path in DOORS {
        for require in [
            &["orders:write"][..],
            &["orders:read orders:write"],
            &["orders:write,orders:read"],
            &["orders:read", "orders:write"],
            &["orders:write", "orders:read"],
        ] {
            let reply = check_requiring(&app, path, &token, require).await;
            assert_permission_missing(&reply, "orders:write");
        }
    }
}

async fn requirements_of_query_and_header_both_apply(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;
    let (held, lacked) = ("dashboard:read", "users:read");

    for (in_query, in_header, is_accepted) in
        [(held, held, true), (held, lacked, false), (lacked, held, false), (lacked, lacked, false)]
    {
        let path = format!("/auth/check?permission={in_query}");
        let reply = check_requiring(&app, &path, &token, &[in_header]).await;
        if is_accepted {
            identity(&reply);
        } else {
            assert_permission_missing(&reply, lacked);
        }
    }
}

async fn query_on_a_path_of_the_client_is_ignored(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;

    for query in ["permission=users:write", "permission=", "a=%zz&%", "x=1?permission=users:write"]
    {
        for path in ["/auth/check/", "/auth/check/orders/7"] {
            identity(&check(&app, &format!("{path}?{query}"), &token).await);
        }
    }
}

async fn malformed_requirement_never_opens(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;
    let long = format!("permission={}", "x".repeat(65));
    let good = "permission=dashboard:read";

    for malformed in [
        "permission",
        "permission=",
        "permission=a%20b",
        "permission=a+b",
        "permission=%22",
        "permission=%C3%A9",
        "permission=%ff",
        "permission=%00",
        "permission[]=dashboard:read",
        "Permission=dashboard:read",
        "permision=users:read",
        "dashboard:read",
        "=",
        &long,
    ] {
        for query in
            [malformed.to_owned(), format!("{good}&{malformed}"), format!("{malformed}&{good}")]
        {
            let reply = check(&app, &format!("/auth/check?{query}"), &token).await;
            reply.assert_code(400, "invalid_requirement");
            let anonymous = app.get(&format!("/auth/check?{query}")).await;
            anonymous.assert_code(401, "missing_authorization");
        }
    }
    let long = "x".repeat(65);
    for malformed in ["", " ", ",", " , ", "\"dashboard:read\"", "a\\b", "a\tb", "é", &long] {
        for path in DOORS {
            for require in [&[malformed][..], &["dashboard:read", malformed]] {
                let reply = check_requiring(&app, path, &token, require).await;
                reply.assert_code(400, "invalid_requirement");
            }
        }
    }
}

async fn every_method_is_answered_alike(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;

    for method in [
        "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "PURGE",
        "get", "X-Y!",
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for path in DOORS {
            identity(&app.send_with_token(method.clone(), path, &token).await);
            let refused = send(app.request(method.clone(), path)).await;
            assert_eq!(refused.status, 401, "{method} {path}");
            let path = format!("{path}?permission=users:write");
            let forbidden = app.request(method.clone(), &path).bearer_auth(&token);
            let forbidden = send(forbidden.header("x-auth-require", "users:write")).await;
            assert_eq!(forbidden.status, 403, "{method} {path}");
        }
    }
}

/// Sends a request as it is written, without its end, on a new connection. Returns the connection.
async fn send_raw(app: &TestApp, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads the head of a reply, and as much of the rest as has arrived with it.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let is_end = |line: &[u8]| line == b"\r\n\r\n";
    while !head.windows(4).any(is_end) && stream.read_buf(&mut head).await.unwrap() > 0 {}
    String::from_utf8(head).unwrap()
}

/// Sends a request for a path as it is written, without the normalisation of an HTTP client.
async fn head_of(app: &TestApp, method: &str, path: &str, token: &str) -> String {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    read_head(&mut send_raw(app, &request).await).await
}

async fn every_path_behind_the_door_is_answered_alike(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;
    let long = "x".repeat(60_000);

    for rest in [
        "",
        "/",
        "a/b/",
        "../health/live",
        "../../../etc/passwd",
        "%2e%2e/health/live",
        "a%2Fb",
        "%00",
        "%0a%0d",
        "%ff%fe",
        "%zz",
        "%",
        "a;b=c,d",
        "{rest}",
        "?permission=users:write",
        "http://127.0.0.1/health/live",
        &long,
    ] {
        let path = format!("/auth/check/{rest}");
        let accepted = head_of(&app, "GET", &path, &token).await;
        assert!(accepted.starts_with("HTTP/1.1 200 OK\r\n"), "{rest}: {accepted}");
        assert!(accepted.contains("x-auth-username: alice\r\n"), "{rest}: {accepted}");
        let refused = head_of(&app, "GET", &path, "nonsense").await;
        assert!(refused.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{rest}: {refused}");
    }
}

async fn similar_paths_are_not_the_door(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;
    let too_long = format!("/auth/check/{}", "x".repeat(70_000));

    for path in [
        "/auth/checks",
        "/auth/check%2F",
        "/auth/check;x",
        "//auth/check",
        "/auth//check",
        "/Auth/Check",
    ] {
        let reply = head_of(&app, "GET", path, &token).await;
        assert!(reply.starts_with("HTTP/1.1 404 Not Found\r\n"), "{path}: {reply}");
    }
    let reply = head_of(&app, "GET", &too_long, &token).await;
    assert!(reply.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{reply}");
}

async fn body_is_not_waited_for(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;

    for announcement in [
        "Content-Length: 1000000",
        "Transfer-Encoding: chunked",
        "Content-Length: 10\r\nExpect: 100-continue",
        "Connection: Upgrade\r\nUpgrade: websocket",
    ] {
        for (token, status) in [(token.as_str(), "200 OK"), ("nonsense", "401 Unauthorized")] {
            let request = format!(
                "POST /auth/check/upload HTTP/1.1\r\nHost: a\r\n\
                 Authorization: Bearer {token}\r\n{announcement}\r\n\r\n"
            );
            let mut stream = send_raw(&app, &request).await;
            let mut head = read_head(&mut stream).await;
            if let Some(rest) = head.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n") {
                head = rest.to_owned();
                if head.is_empty() {
                    head = read_head(&mut stream).await;
                }
            }
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{announcement}: {head}");
        }
    }
}

async fn unread_body_is_not_taken_for_a_request(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;
    let bearer = format!("Authorization: Bearer {token}");
    let smuggled = format!("GET /auth/check HTTP/1.1\r\nHost: a\r\n{bearer}\r\n\r\n");
    let length = smuggled.len();

    for body in [
        format!("Content-Length: {length}\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n"),
    ] {
        let request = format!(
            "POST /auth/check HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{bearer}\r\n{body}"
        );
        let mut replies = String::new();
        let mut stream = send_raw(&app, &request).await;
        stream.read_to_string(&mut replies).await.unwrap();
        assert_eq!(replies.matches("HTTP/1.1 200 OK\r\n").count(), 1, "{replies}");
        assert_eq!(replies.matches("HTTP/1.1").count(), 1, "{replies}");
    }
}

async fn connection_is_kept_without_a_body(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;
    let head = format!("Host: a\r\nAuthorization: Bearer {token}\r\n");
    let bodiless = ["", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n"];

    let mut stream = TcpStream::connect(app.address).await.unwrap();
    for method in ["GET", "HEAD", "POST", "OPTIONS", "PURGE"] {
        for announcement in bodiless {
            let end = if announcement.contains("chunked") { "0\r\n\r\n" } else { "" };
            let request = format!("{method} /auth/check HTTP/1.1\r\n{head}{announcement}\r\n{end}");
            stream.write_all(request.as_bytes()).await.unwrap();
            let reply = read_head(&mut stream).await;
            assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{method}: {reply}");
            assert!(reply.contains("content-length: 0\r\n"), "{method}: {reply}");
            assert!(!reply.contains("connection: close"), "{method}: {reply}");
        }
    }
}

#[actix_web::test]
async fn verdict_needs_no_database_until_the_replica_is_stale() {
    let test = async |database| {
        let proxy = Proxy::start(&database).await;
        let app = TestApp::start_with(&proxy.database, |config| {
            config.http.request_timeout = Duration::from_secs(1);
            config.database.acquire_timeout = Duration::from_millis(500);
        })
        .await;
        let token = app.register_and_log_in("alice").await;

        proxy.set_mode(ProxyMode::Cut);
        for path in DOORS {
            identity(&check(&app, path, &token).await);
            check(&app, path, "nonsense").await.assert_code(401, "not_enough_segments");
        }

        app.clock.advance(Duration::from_secs(6));
        for path in DOORS {
            let reply = check(&app, path, &token).await;
            reply.assert_code(503, "unavailable");
            assert_eq!(reply.header("retry-after"), Some("1"));
            assert_eq!(IDENTITY_HEADERS.map(|name| reply.header(name)), [None; 6]);
        }
    };
    TestDatabase::postgres().await.run(test).await;
}
