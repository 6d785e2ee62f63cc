//! Connections: deadlines and limits for clients, and honest ones beside those that misuse them.

use std::io::ErrorKind;
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::support::{Process, TestApp, TestDatabase, eventually};

/// Request with a small reply.
const GET_ROOT: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Request with a reply of some 400 KB.
const GET_SCRIPT: &str = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Starts the application with deadlines of a second.
async fn start_with_short_deadlines(database: &TestDatabase) -> TestApp {
    TestApp::start_with(database, |config| {
        config.http.head_timeout = Duration::from_secs(1);
        config.http.reply_timeout = Duration::from_secs(1);
    })
    .await
}

/// A client that sends and reads as slowly as a test wants.
struct SlowClient(TcpStream);

impl SlowClient {
    /// Connects with a small receive buffer, so that the server soon has to wait for the client.
    async fn connect(app: &TestApp) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 * 1024).unwrap();
        Self(socket.connect(app.address).await.unwrap())
    }

    /// Connects and gets a reply. After that, the connection counts.
    async fn connect_and_get(app: &TestApp) -> Self {
        let mut client = Self::connect(app).await;
        client.send(GET_ROOT).await;
        assert!(client.read_reply().await);
        client
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads the reply to a [`GET_ROOT`]. Returns `false` if the server closes the connection.
    async fn read_reply(&mut self) -> bool {
        let mut reply = Vec::new();
        while !reply.ends_with(b"working\"}\n") {
            if !matches!(self.0.read_buf(&mut reply).await, Ok(count) if count > 0) {
                return false;
            }
        }
        true
    }

    /// Reads until the server closes the connection. Returns the number of bytes.
    async fn read_to_end(&mut self) -> usize {
        let mut bytes = Vec::new();
        // The server may also reset the connection.
        let _ = self.0.read_to_end(&mut bytes).await;
        bytes.len()
    }
}

async fn timed_out(app: &TestApp, deadline: &str) -> u64 {
    let metric = "portcullis_http_connections_timed_out_total";
    app.metric(&format!(r#"{metric}{{deadline="{deadline}"}}"#)).await
}

async fn refused(app: &TestApp, limit: &str) -> u64 {
    let metric = "portcullis_http_connections_refused_total";
    app.metric(&format!(r#"{metric}{{limit="{limit}"}}"#)).await
}

#[actix_web::test]
async fn incomplete_head_closes_the_connection_on_every_request() {
    let database = TestDatabase::sqlite();
    let app = start_with_short_deadlines(&database).await;

    for requests_before in [0, 1, 100] {
        let mut client = SlowClient::connect(&app).await;
        for _ in 0..requests_before {
            client.send(GET_ROOT).await;
            assert!(client.read_reply().await);
        }
        client.send("G").await;
        assert_eq!(client.read_to_end().await, 0, "after {requests_before} requests");
    }
    assert_eq!(timed_out(&app, "request").await, 3);
}

#[actix_web::test]
async fn incomplete_head_behind_a_pipelined_request_closes_the_connection() {
    let database = TestDatabase::sqlite();
    let app = start_with_short_deadlines(&database).await;
    let mut client = SlowClient::connect(&app).await;

    client.send(&format!("{GET_ROOT}GE")).await;
    assert!(client.read_reply().await);
    client.send("T").await;

    assert_eq!(client.read_to_end().await, 0);
    assert_eq!(timed_out(&app, "request").await, 1);
}

#[actix_web::test]
async fn connection_without_a_request_is_closed() {
    let database = TestDatabase::sqlite();
    let app = start_with_short_deadlines(&database).await;
    let mut client = SlowClient::connect(&app).await;

    assert_eq!(client.read_to_end().await, 0);
    assert_eq!(timed_out(&app, "request").await, 1);
}

#[actix_web::test]
async fn body_that_trickles_in_after_its_reply_closes_the_connection() {
    let database = TestDatabase::sqlite();
    let app = start_with_short_deadlines(&database).await;
    let mut client = SlowClient::connect(&app).await;

    let head = "GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head).await;
    assert!(client.read_reply().await);
    // The server reads on, since the next request comes after the body.
    client.send("1\r\na\r\n").await;

    assert_eq!(client.read_to_end().await, 0);
    assert_eq!(timed_out(&app, "request").await, 1);
}

#[actix_web::test]
async fn client_that_does_not_read_is_closed() {
    let database = TestDatabase::sqlite();
    let app = start_with_short_deadlines(&database).await;
    let mut clients = join_all((0..8).map(|_| SlowClient::connect(&app))).await;
    for client in &mut clients {
        client.send(GET_SCRIPT).await;
    }

    eventually("all are closed", async || timed_out(&app, "reply").await == 8).await;
    eventually("only the connection of this test is open", async || {
        app.metric("portcullis_http_connections").await == 1
    })
    .await;
    // The kernel holds nothing for them either.
    for client in &mut clients {
        let error = client.0.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[actix_web::test]
async fn slow_clients_are_served_beside_those_that_stop() {
    let database = TestDatabase::sqlite();
    let app = start_with_short_deadlines(&database).await;
    let stopped = async {
        let mut client = SlowClient::connect(&app).await;
        client.send("GET").await;
        client.read_to_end().await
    };
    let slow_sender = async {
        let mut client = SlowClient::connect(&app).await;
        for part in GET_ROOT.split_inclusive(' ') {
            client.send(part).await;
            sleep(Duration::from_millis(20)).await;
        }
        client.read_reply().await
    };
    // Takes about two seconds, but does not stop.
    let slow_reader = async {
        let mut client = SlowClient::connect(&app).await;
        client.send(&GET_SCRIPT.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
        let mut part = vec![0; 6 * 1024];
        let mut size = 0;
        while let Ok(count) = client.0.read(&mut part).await
            && count > 0
        {
            size += count;
            sleep(Duration::from_millis(30)).await;
        }
        size
    };

    let (stopped, is_answered, size) = tokio::join!(stopped, slow_sender, slow_reader);

    assert_eq!(stopped, 0);
    assert!(is_answered);
    let script = app.get("/docs/swagger-ui-bundle.js").await;
    assert!(size > 400_000 && script.status == 200, "{size}");
}

#[actix_web::test]
async fn requests_behind_unread_replies_are_answered() {
    let database = TestDatabase::sqlite();
    // So far away that the watch does not look at the connection.
    let app = TestApp::start_with(&database, |config| {
        config.http.head_timeout = Duration::from_hours(1);
        config.http.reply_timeout = Duration::from_hours(1);
    })
    .await;
    let mut client = SlowClient::connect(&app).await;
    client.send(&GET_SCRIPT.repeat(3)).await;
    let mut first_part = vec![0; 1024];
    client.0.read_exact(&mut first_part).await.unwrap();

    // The server is waiting for the client to read; these arrive meanwhile.
    client.send(GET_ROOT).await;
    client.send(&GET_ROOT.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
    let mut replies = first_part;
    let read = timeout(Duration::from_mins(1), client.0.read_to_end(&mut replies)).await;

    read.expect("the server answers and closes").unwrap();
    let heads = replies.windows(15).filter(|text| *text == b"HTTP/1.1 200 OK");
    assert_eq!(heads.count(), 5);
}

#[actix_web::test]
async fn connections_from_one_address_are_limited() {
    let database = TestDatabase::sqlite();
    let app = TestApp::start_with(&database, |config| {
        config.http.max_connections_per_address = 4;
    })
    .await;
    // It keeps its connection.
    app.get("/").await;
    let mut clients = join_all((0..3).map(|_| SlowClient::connect_and_get(&app))).await;

    let mut refused_client = SlowClient::connect(&app).await;
    assert_eq!(refused_client.read_to_end().await, 0);
    assert_eq!(refused(&app, "address").await, 1);

    clients.pop();
    eventually("a place is free", async || {
        let mut client = SlowClient::connect(&app).await;
        client.0.write_all(GET_ROOT.as_bytes()).await.is_ok() && client.read_reply().await
    })
    .await;
}

#[actix_web::test]
async fn trusted_proxies_are_limited_only_in_total() {
    let database = TestDatabase::sqlite();
    let app = TestApp::start_with(&database, |config| {
        config.http.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        config.http.max_connections_per_address = 1;
        config.http.max_connections = 8;
    })
    .await;
    app.get("/").await;
    let _clients = join_all((0..7).map(|_| SlowClient::connect_and_get(&app))).await;

    let mut refused_client = SlowClient::connect(&app).await;

    assert_eq!(refused_client.read_to_end().await, 0);
    assert_eq!(refused(&app, "total").await, 1);
    assert_eq!(refused(&app, "address").await, 0);
}

/// Prepares the program with a limit on its file descriptors: `-Sn 64` is a soft one.
fn command_with_descriptors(database: &TestDatabase, limit: &str) -> Command {
    let mut command = Process::command(database);
    let program = command.as_std().get_program().to_owned();
    let variables: Vec<_> = command
        .as_std()
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit {limit} && exec \"$0\"")).arg(program);
    command.env_clear().envs(variables).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

#[actix_web::test]
async fn soft_limit_of_file_descriptors_is_raised() {
    let database = TestDatabase::sqlite();
    let process = Process::spawn(&mut command_with_descriptors(&database, "-Sn 64")).await;

    join_all((0..100).map(|_| SlowClient::connect_and_get(&process.app))).await;
}

#[actix_web::test]
async fn connections_are_limited_to_the_file_descriptors() {
    let database = TestDatabase::sqlite();
    let process = Process::spawn(&mut command_with_descriptors(&database, "-n 256")).await;
    assert!(process.log().contains("HTTP_MAX_CONNECTIONS lowered to 128"), "{}", process.log());
    process.app.get("/").await;

    let _clients = join_all((0..127).map(|_| SlowClient::connect_and_get(&process.app))).await;
    let mut refused_client = SlowClient::connect(&process.app).await;

    assert_eq!(refused_client.read_to_end().await, 0);
}
