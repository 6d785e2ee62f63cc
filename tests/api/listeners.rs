//! The public listener and the one for operators.

use std::process::Stdio;

use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::support::{
    Process, TestApp, TestDatabase, document, eventually, on_both_databases, print_skipped,
};

on_both_databases![
    each_route_is_served_by_one_listener,
    tokens_of_the_public_listener_work_on_the_other,
    docs_can_be_switched_off_on_both,
];

/// Prepares the program with a listener for operators on a free port.
fn command(database: &TestDatabase) -> Command {
    let mut command = Process::command(database);
    command.env("MANAGEMENT_ADDRESS", "127.0.0.1:0");
    command
}

/// Returns `true` if a route is for operators.
fn is_for_operators(path: &str) -> bool {
    let prefixes = ["/admin/", "/docs", "/health/", "/metrics", "/openapi.json"];
    prefixes.iter().any(|prefix| path.starts_with(prefix))
}

/// Sends a request, whose reply need not be in the OpenAPI document. Returns its status.
async fn status(app: &TestApp, method: &Method, path: &str) -> u16 {
    let reply = app.request(method.clone(), path).send().await.expect("the application replies");
    reply.status().as_u16()
}

async fn each_route_is_served_by_one_listener(database: TestDatabase) {
    let url = "https://auth.example.com".to_owned();
    let (public, management) =
        TestApp::start_with_management(&database, |config| config.public_url = Some(url)).await;

    for (path, item) in document()["paths"].as_object().expect("the document has paths") {
        for method in item.as_object().expect("a path has methods").keys() {
            let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) else { continue };
            let path = path.replace("{file}", "start.js");
            let (served, gone) = if is_for_operators(&path) {
                (&management, &public)
            } else {
                (&public, &management)
            };
            assert_eq!(status(gone, &method, &path).await, 404, "{method} {path}");
            let reply = status(served, &method, &path).await;
            assert!(![404, 405].contains(&reply), "{method} {path}: {reply}");
        }
    }
}

async fn tokens_of_the_public_listener_work_on_the_other(database: TestDatabase) {
    let (public, management) = TestApp::start_with_management(&database, |_| {}).await;
    let user = public.register_and_log_in("alice").await;
    let root = public.register_admin(&database).await;

    let accounts = management.send_with_token(Method::GET, "/admin/users", &root).await;
    let refused = management.send_with_token(Method::GET, "/admin/users", &user).await;

    assert_eq!(accounts.body["users"][0]["username"], "alice");
    refused.assert_code(403, "permission_missing");
    public.log_out(&root).await;
    let revoked = management.send_with_token(Method::GET, "/admin/users", &root).await;
    revoked.assert_code(401, "token_revoked");
    let logins = management.metric(r#"portcullis_logins_total{outcome="success"}"#).await;
    assert_eq!(logins, 2);
}

async fn docs_can_be_switched_off_on_both(database: TestDatabase) {
    let change = |config: &mut portcullis::config::Config| config.http.serves_docs = false;
    let (public, management) = TestApp::start_with_management(&database, change).await;

    for app in [&public, &management] {
        for path in ["/docs", "/docs/start.js", "/openapi.json"] {
            assert_eq!(status(app, &Method::GET, path).await, 404, "{path}");
        }
    }
    assert_eq!(management.get("/health/ready").await.status, 200);
}

#[actix_web::test]
async fn path_of_another_listener_is_not_found_however_it_is_written() {
    let database = TestDatabase::sqlite();
    let (public, _management) = TestApp::start_with_management(&database, |_| {}).await;

    for target in [
        "/admin/users",
        "//admin/users",
        "/./admin/users",
        "/auth/../admin/users",
        "/auth/%2e%2e/admin/users",
        "/%61dmin/users",
        "/admin%2fusers",
        "/ADMIN/users",
        "/admin/users/",
        "/admin;x/users",
        "http://localhost/admin/users",
        "http://localhost:5001/metrics",
        "/metrics",
        "/metrics?x",
        "/%6detrics",
        "/health/ready",
        "/docs",
    ] {
        assert_eq!(raw_status(&public, target).await, "404", "{target}");
    }
}

/// Sends a request target as it is. Returns the status.
async fn raw_status(app: &TestApp, target: &str) -> String {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    reply.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// The paths that a reverse proxy may be asked for, and what the service takes them for. The page on
/// reverse proxies states it.
#[actix_web::test]
async fn request_targets_are_compared_after_one_decoding() {
    let database = TestDatabase::sqlite();
    let app = TestApp::start(&database).await;

    for (target, status) in [
        ("/metrics", "200"),
        ("/metrics?x=1", "200"),
        ("http://example.com/metrics", "200"),
        ("http://example.com:5001/metrics", "200"),
        ("/%6detrics", "200"),
        ("/%6Detrics", "200"),
        ("/metrics%3Fx=1", "404"),
        ("/health%2Fready", "404"),
        ("/health%2fready", "404"),
        ("/%256detrics", "404"),
        ("//metrics", "404"),
        ("/./metrics", "404"),
        ("/auth/../metrics", "404"),
        ("/auth/%2e%2e/metrics", "404"),
        ("/%2e/metrics", "404"),
        ("/metrics/", "404"),
        ("/METRICS", "404"),
        ("/metrics;x", "404"),
    ] {
        assert_eq!(raw_status(&app, target).await, status, "{target}");
    }
}

#[actix_web::test]
async fn clients_that_fill_the_public_listener_leave_the_other_alone() {
    let database = TestDatabase::sqlite();
    let (public, management) = TestApp::start_with_management(&database, |config| {
        config.http.max_connections = 2;
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(public.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        stream.read_exact(&mut [0; 64]).await.unwrap();
        held.push(stream);
    }

    let mut refused = TcpStream::connect(public.address).await.unwrap();
    assert_eq!(refused.read(&mut [0; 64]).await.unwrap(), 0);

    assert_eq!(management.metric("portcullis_http_connections").await, 3);
    let metric = r#"portcullis_http_connections_refused_total{limit="total"}"#;
    assert_eq!(management.metric(metric).await, 1);
}

#[actix_web::test]
async fn connections_of_operators_are_limited_too() {
    let database = TestDatabase::sqlite();
    let (_public, management) = TestApp::start_with_management(&database, |config| {
        config.http.max_connections_per_address = 1;
    })
    .await;
    // It keeps its connection.
    management.get("/health/live").await;

    let mut refused = TcpStream::connect(management.address).await.unwrap();

    assert_eq!(refused.read(&mut [0; 64]).await.unwrap(), 0);
    let limited = r#"portcullis_http_connections_refused_total{limit="address"}"#;
    assert_eq!(management.metric(limited).await, 1);
}

#[actix_web::test]
async fn healthcheck_command_asks_the_listener_for_operators() {
    let database = TestDatabase::sqlite();
    let mut process = Process::spawn(&mut command(&database)).await;
    let management = process.management();
    let check = async |port: u16| {
        let mut command = Process::command(&database);
        command.arg("healthcheck").env("MANAGEMENT_ADDRESS", format!("127.0.0.1:{port}"));
        command.stderr(Stdio::piped()).output().await.expect("the program runs")
    };

    let ready = check(management.address.port()).await;
    let gone = check(process.app.address.port()).await;

    assert!(ready.status.success(), "{ready:?}");
    assert_eq!(gone.status.code(), Some(1), "the public listener has no probes");
    process.send_signal(Signal::TERM);
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
    assert_eq!(check(management.address.port()).await.status.code(), Some(1));
}

#[actix_web::test]
async fn shutdown_drains_both_listeners() {
    let database = TestDatabase::sqlite();
    let mut command = command(&database);
    // Until its connections are closed.
    let mut process = Process::spawn(command.env("SHUTDOWN_DRAIN", "60")).await;
    let (public, management) = (process.app.clone(), process.management());
    public.get("/").await;
    management.get("/health/live").await;

    process.send_signal(Signal::TERM);

    eventually("the instance is unready", async || {
        management.get("/health/ready").await.body["code"] == "shutting_down"
    })
    .await;
    assert_eq!(public.get("/").await.header("connection"), Some("close"));
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
}

/// Runs the program until it exits, and expects one line about an address.
async fn assert_cannot_listen(command: &mut Command, address: &str, hint: &str) {
    let failed = command.stderr(Stdio::piped()).output().await.expect("the program runs");
    let stderr = String::from_utf8_lossy(&failed.stderr);

    assert_eq!(failed.status.code(), Some(1), "{stderr}");
    let line = format!("portcullis: cannot listen on {address} ({hint}): ");
    assert!(stderr.starts_with(&line) && stderr.lines().count() == 1, "{stderr}");
}

#[actix_web::test]
async fn taken_port_of_operators_fails_with_one_line() {
    let database = TestDatabase::sqlite();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = Process::command(&database);

    let hint = "MANAGEMENT_ADDRESS chooses another address";
    let command = command.env("MANAGEMENT_ADDRESS", &address);
    assert_cannot_listen(command, &address, hint).await;
}

#[actix_web::test]
async fn one_port_for_both_listeners_fails_with_one_line() {
    let database = TestDatabase::sqlite();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut command = Process::command(&database);
    command.env("PORT", free.port().to_string()).env("MANAGEMENT_ADDRESS", free.to_string());
    command.env("RUST_LOG", "off");

    let hint = "MANAGEMENT_ADDRESS chooses another address";
    assert_cannot_listen(&mut command, &free.to_string(), hint).await;
}

#[actix_web::test]
async fn operators_can_be_served_over_ipv6() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        print_skipped("this machine has no IPv6");
        return;
    };
    drop(listener);
    let database = TestDatabase::sqlite();
    let mut command = Process::command(&database);

    let process = Process::spawn(command.env("MANAGEMENT_ADDRESS", "[::1]:0")).await;

    let management = process.management();
    assert!(management.address.is_ipv6());
    management.get("/health/ready").await.assert(200, &json!({ "msg": "Ready" }));
    let port = management.address.port();
    let mut command = Process::command(&database);
    command.arg("healthcheck").env("MANAGEMENT_ADDRESS", format!("[::]:{port}"));
    let check = command.output().await.expect("the program runs");
    assert!(check.status.success(), "{check:?}");
}
