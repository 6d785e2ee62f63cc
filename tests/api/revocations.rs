//! The revocation feed.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::GzDecoder;
use portcullis::clock::{Clock, SystemClock};
use portcullis::domain::FeedCursor;
use reqwest::Method;
use reqwest::header::ACCEPT_ENCODING;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::Executor;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::support::{
    PostgresServer, Process, Reply, TestApp, TestDatabase, decode_claims, elapsed_since,
    eventually, on_both_databases, send,
};

on_both_databases![
    first_reply_is_complete_and_later_ones_are_not,
    everything_that_ends_tokens_arrives,
    client_follows_with_its_secret,
    waiting_request_is_answered_by_a_logout,
    old_cursor_is_answered_at_the_pace_of_a_receiver,
    complete_reply_is_compressed_once_for_all,
    many_later_revocations_are_compressed_once_for_all,
    complete_replies_are_limited,
    long_replies_are_limited,
    incomplete_replica_answers_from_the_database,
    cursor_of_an_unknown_server_gets_everything,
    malformed_requests_are_refused,
    feed_requires_its_permission,
    stale_instance_closes_the_connection,
    waiting_receivers_do_not_delay_a_shutdown,
    replies_are_counted_by_kind,
];

/// Number of requests until a revocation must have arrived. Each waits for up to 2.5 seconds.
const MAX_REQUESTS: usize = 20;

/// A receiver of the feed, which asks a different instance each time.
struct Receiver<'a> {
    instances: Vec<&'a TestApp>,
    token: String,
    cursor: Option<String>,
    requests: usize,
}

impl<'a> Receiver<'a> {
    async fn start(app: &'a TestApp, database: &TestDatabase) -> Self {
        let token = app.register_admin(database).await;
        Self { instances: vec![app], token, cursor: None, requests: 0 }
    }

    /// Asks for the revocations after the latest reply, and adopts the cursor of the new one.
    async fn ask(&mut self, wait: &str) -> Reply {
        let app = self.instances[self.requests % self.instances.len()];
        self.requests += 1;
        let nonce = format!("nonce-{}", self.requests);
        let cursor = self.cursor.as_ref().map(|cursor| format!("&cursor={cursor}"));
        let path = format!("/revocations?wait={wait}&nonce={nonce}{}", cursor.unwrap_or_default());
        let reply = app.send_with_token(Method::GET, &path, &self.token).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.body["nonce"], nonce);
        self.cursor = reply.body["cursor"].as_str().map(str::to_owned);
        reply
    }

    /// Asks until a revocation has arrived, in a reply that is not complete.
    async fn receive(&mut self, id: &str) {
        for _ in 0..MAX_REQUESTS {
            let reply = self.ask("2.5").await;
            assert_eq!(reply.body["complete"], false, "{reply:?}");
            if revoked_ids(&reply.body).contains(id) {
                return;
            }
        }
        panic!("{id} has not arrived");
    }

    /// Asks until a number of revocations have arrived.
    async fn receive_all(&mut self, count: usize) {
        let mut ids = BTreeSet::new();
        while ids.len() < count {
            ids.extend(revoked_ids(&self.ask("2.5").await.body));
        }
        assert_eq!(ids.len(), count);
    }
}

/// Commits revocations in one transaction.
async fn insert_revocations(database: &TestDatabase, count: usize) {
    let insert = match database {
        TestDatabase::Postgres { .. } => format!(
            "insert into revocations (id, expires_at)
             select gen_random_uuid(), now() + interval '1 hour' from generate_series(1, {count})"
        ),
        TestDatabase::Sqlite(_) => format!(
            "insert into revocations (id, expires_at)
             with recursive n (i) as (select 1 union all select i + 1 from n where i < {count})
             select randomblob(16), (strftime('%s', 'now') + 3600) * 1000000 from n where {count} > 0"
        ),
    };
    database.execute(insert).await;
}

/// Returns the ids in a reply. An id may come twice.
fn revoked_ids(body: &Value) -> BTreeSet<String> {
    let entries = body["revoked"].as_array().expect("a list").iter();
    entries.map(|entry| entry[0].as_str().expect("an id").to_owned()).collect()
}

fn claim(token: &str, name: &str) -> String {
    decode_claims(token)[name].as_str().expect("the claim is text").to_owned()
}

/// Returns the id under which the key of a token is revoked: the first half of its thumbprint.
fn key_id(token: &str) -> String {
    let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let thumbprint = URL_SAFE_NO_PAD.decode(kid).unwrap();
    Uuid::from_slice(&thumbprint[..16]).unwrap().to_string()
}

/// Logs a new user out. Returns the id of the session.
async fn log_out_new_user(app: &TestApp, name: &str) -> String {
    let token = app.register_and_log_in(name).await;
    assert_eq!(app.log_out(&token).await.status, 200);
    claim(&token, "sid")
}

async fn run_command(database: &TestDatabase, arguments: &str) {
    let mut command = Process::command(database);
    let output = command.args(arguments.split(' ')).output().await.unwrap();
    assert!(output.status.success(), "{arguments}: {output:?}");
}

/// Creates a client with a permission. Returns its id and its secret.
async fn create_client(
    app: &TestApp,
    admin: &str,
    name: &str,
    permission: &str,
) -> (String, String) {
    let body = json!({ "name": name, "permissions": [permission] });
    let request = app.request(Method::POST, "/admin/clients").bearer_auth(admin).json(&body);
    let reply = send(request).await;
    let text = |name: &str| reply.body[name].as_str().expect("a text").to_owned();
    (text("client_id"), text("client_secret"))
}

async fn get_client_token(app: &TestApp, (id, secret): &(String, String)) -> String {
    let request = app.request(Method::POST, "/oauth/token").basic_auth(id, Some(secret));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    send(request.body("grant_type=client_credentials")).await.access_token()
}

async fn first_reply_is_complete_and_later_ones_are_not(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut receiver = Receiver::start(&app, &database).await;
    let first = log_out_new_user(&app, "alice").await;

    let reply = receiver.ask("0").await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(revoked_ids(&reply.body), [first].into());
    assert_eq!(reply.body["complete"], true);
    assert_eq!(reply.body["bound_ms"], 5_000);

    let second = log_out_new_user(&app, "bob").await;
    receiver.receive(&second).await;
    let reply = receiver.ask("0").await;
    assert_eq!(reply.body["revoked"], json!([]));
    assert_eq!(reply.body["complete"], false);
}

/// Ends tokens on the command line in the way `way`. Returns the id that has to arrive.
async fn end_tokens_by_command(
    app: &TestApp,
    database: &TestDatabase,
    admin: &str,
    way: &str,
) -> String {
    let token = match way {
        "command-line" => {
            let token = app.register_and_log_in(way).await;
            run_command(database, &format!("user end-sessions {way}")).await;
            token
        }
        "role" => {
            app.register(way, "correct horse").await;
            run_command(database, &format!("role set {way} --permission orders:read")).await;
            run_command(database, &format!("user set-roles {way} --role {way}")).await;
            let token = app.log_in_for_token(way).await;
            run_command(database, &format!("role set {way}")).await;
            token
        }
        way => {
            let client = create_client(app, admin, way, "dashboard:read").await;
            let token = get_client_token(app, &client).await;
            let yes = if way == "delete" { " --yes" } else { "" };
            run_command(database, &format!("client {way} {way}{yes}")).await;
            token
        }
    };
    claim(&token, "sid")
}

/// Ends tokens of the user `way`, who has two sessions, in that way. Returns the id that has to arrive.
async fn end_tokens(app: &TestApp, admin: &str, way: &str) -> String {
    let first = app.register_and_open_session(way).await;
    let token = app.log_in_for_token(way).await;
    let session = claim(&token, "sid");
    let account = format!("/admin/users/{}", claim(&token, "sub"));
    let as_admin =
        |method, path: &str| app.request(method, &format!("{account}{path}")).bearer_auth(admin);
    let request = match way {
        "logout" => app.request(Method::POST, "/auth/logout").bearer_auth(&token),
        "logout-all" => app.request(Method::POST, "/auth/logout-all").bearer_auth(&token),
        "session" => app
            .request(Method::DELETE, &format!("/auth/sessions/{session}"))
            .bearer_auth(first.access_token()),
        "token" => {
            let form = app.request(Method::POST, "/oauth/revoke").bearer_auth(&token);
            let form = form.header("content-type", "application/x-www-form-urlencoded");
            assert_eq!(send(form.body(format!("token={token}"))).await.status, 200);
            return claim(&token, "jti");
        }
        "own-password" => app
            .request(Method::PUT, "/auth/password")
            .bearer_auth(first.access_token())
            .json(&json!({ "current_password": "correct horse", "new_password": "new horse" })),
        "own-deletion" => app
            .request(Method::DELETE, "/auth/me")
            .bearer_auth(&token)
            .json(&json!({ "password": "correct horse" })),
        "password" => as_admin(Method::PUT, "/password").json(&json!({ "password": "new horse" })),
        "roles" => as_admin(Method::PUT, "/roles").json(&json!({ "roles": ["introspector"] })),
        "disable" => as_admin(Method::POST, "/disable"),
        "delete" => as_admin(Method::DELETE, ""),
        "sessions" => as_admin(Method::DELETE, "/sessions"),
        "theft" => {
            let renewed = app.refresh(&first.refresh_token()).await;
            app.refresh(&renewed.refresh_token()).await;
            app.refresh(&first.refresh_token()).await.assert_code(401, "invalid_refresh_token");
            return claim(&first.access_token(), "sid");
        }
        way => panic!("{way} is unknown"),
    };
    let reply = send(request).await;
    assert!(reply.status.is_success(), "{way}: {reply:?}");
    session
}

async fn everything_that_ends_tokens_arrives(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut receiver = Receiver::start(&app, &database).await;
    receiver.ask("0").await;

    for way in [
        "logout",
        "logout-all",
        "session",
        "token",
        "own-password",
        "own-deletion",
        "password",
        "roles",
        "disable",
        "delete",
        "sessions",
        "theft",
    ] {
        let id = end_tokens(&app, &receiver.token, way).await;
        receiver.receive(&id).await;
    }
    for way in ["command-line", "role", "disable", "delete", "set"] {
        let id = end_tokens_by_command(&app, &database, &receiver.token, way).await;
        receiver.receive(&id).await;
    }
    let key = key_id(&receiver.token);
    let path = "/admin/keys";
    assert_eq!(app.send_with_token(Method::DELETE, path, &receiver.token).await.status, 200);
    receiver.token = app.log_in_for_token("root").await;
    receiver.receive(&key).await;
}

async fn client_follows_with_its_secret(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = app.register_admin(&database).await;
    let follow = async |(id, secret): &(String, String)| {
        send(app.request(Method::GET, "/revocations").basic_auth(id, Some(secret))).await
    };

    let follower = create_client(&app, &admin, "follower", "revocations:read").await;
    assert_eq!(follow(&follower).await.body["complete"], true);
    let other = create_client(&app, &admin, "other", "tokens:introspect").await;
    follow(&other).await.assert_code(403, "permission_missing");
    let wrong = (follower.0, other.1);
    follow(&wrong).await.assert_code(401, "invalid_client");
}

async fn waiting_request_is_answered_by_a_logout(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut receiver = Receiver::start(&app, &database).await;
    receiver.ask("0").await;

    let log_out = async {
        let is_waiting = async || app.metric("portcullis_receivers_waiting").await == 1;
        eventually("the receiver waits", is_waiting).await;
        log_out_new_user(&app, "alice").await
    };
    let receive = async {
        let mut ids = BTreeSet::new();
        while ids.is_empty() {
            ids = revoked_ids(&receiver.ask("2.5").await.body);
        }
        ids
    };
    let (session, ids) = tokio::join!(log_out, receive);

    assert_eq!(ids, [session].into());
    assert_eq!(app.metric("portcullis_receivers_waiting").await, 0);
}

async fn old_cursor_is_answered_at_the_pace_of_a_receiver(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut receiver = Receiver::start(&app, &database).await;
    receiver.ask("0").await;
    let old = receiver.cursor.clone();
    let session = log_out_new_user(&app, "alice").await;
    receiver.receive(&session).await;

    let started_at = SystemClock.uptime();
    for _ in 0..5 {
        receiver.cursor.clone_from(&old);
        assert!(revoked_ids(&receiver.ask("0").await.body).contains(&session));
    }
    // The first reply may come at once. A slow machine only takes longer.
    assert!(elapsed_since(started_at) >= 4 * Duration::from_millis(200));
}

/// Asks for a complete reply, compressed and not.
async fn get_complete_replies(app: &TestApp, token: &str) -> [Value; 2] {
    let ask = async |encoding: &'static str| {
        let request = app.request(Method::GET, "/revocations").bearer_auth(token);
        let reply = request.header(ACCEPT_ENCODING, encoding).send().await.unwrap();
        assert_eq!(reply.status(), 200);
        let encoding = reply.headers().get("content-encoding").cloned();
        (encoding, reply.bytes().await.unwrap())
    };
    let (encoding, compressed) = ask("gzip").await;
    assert_eq!(encoding.unwrap(), "gzip");
    let mut text = String::new();
    let mut decoder = GzDecoder::new(&compressed[..]);
    decoder.read_to_string(&mut text).unwrap();
    assert!(decoder.into_inner().is_empty(), "there is a single gzip member");
    let (encoding, plain) = ask("identity").await;
    assert_eq!(encoding, None);
    [text.as_bytes(), &plain].map(|text| {
        let body: Value = serde_json::from_slice(text).unwrap();
        assert_eq!(body["complete"], true);
        body
    })
}

async fn complete_reply_is_compressed_once_for_all(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let receiver = Receiver::start(&app, &database).await;
    let mut sessions = BTreeSet::new();
    for name in ["alice", "bob", "carol"] {
        // The later ones are added to the reply that was made for the first one.
        sessions.insert(log_out_new_user(&app, name).await);

        for body in get_complete_replies(&app, &receiver.token).await {
            let missing: Vec<_> = sessions.difference(&revoked_ids(&body)).cloned().collect();
            // The latest logout may not have been read yet.
            assert!(missing.len() <= 1, "{missing:?}");
        }
    }
}

async fn many_later_revocations_are_compressed_once_for_all(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut receiver = Receiver::start(&app, &database).await;
    let mut expected = 0;
    // The first complete reply has no revocation, the second is made from it, and so on.
    for count in [0, 1_200, 1, 2_300] {
        insert_revocations(&database, count).await;
        expected += count;
        receiver.receive_all(count).await;
        for body in get_complete_replies(&app, &receiver.token).await {
            assert_eq!(revoked_ids(&body).len(), expected);
        }
    }
}

async fn complete_replies_are_limited(database: TestDatabase) {
    let app =
        TestApp::start_with(&database, |config| config.revocations.receiver_rate = 1_024).await;
    let mut receiver = Receiver::start(&app, &database).await;
    receiver.ask("0").await;

    let reply = app.send_with_token(Method::GET, "/revocations", &receiver.token).await;
    reply.assert_code(503, "overloaded");
    assert!(reply.header("retry-after").is_some());

    let session = log_out_new_user(&app, "alice").await;
    receiver.receive(&session).await;
}

async fn long_replies_are_limited(database: TestDatabase) {
    let app =
        TestApp::start_with(&database, |config| config.revocations.receiver_rate = 10_240).await;
    let mut receiver = Receiver::start(&app, &database).await;
    receiver.ask("0").await;
    let old = receiver.cursor.clone().unwrap();
    insert_revocations(&database, 5_000).await;
    receiver.receive_all(5_000).await;

    let path = format!("/revocations?cursor={old}");
    let reply = app.send_with_token(Method::GET, &path, &receiver.token).await;
    reply.assert_code(503, "overloaded");

    let session = log_out_new_user(&app, "alice").await;
    receiver.receive(&session).await;
}

async fn incomplete_replica_answers_from_the_database(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| config.revocations.capacity = 1).await;
    let mut receiver = Receiver::start(&app, &database).await;
    let mut sessions = BTreeSet::new();
    for name in ["alice", "bob", "carol"] {
        sessions.insert(log_out_new_user(&app, name).await);
    }
    assert_eq!(app.metric("portcullis_revocation_replica_complete").await, 0);

    let reply = receiver.ask("0").await;

    assert_eq!(reply.body["complete"], true);
    assert_eq!(revoked_ids(&reply.body), sessions);
    let later = log_out_new_user(&app, "dave").await;
    receiver.receive(&later).await;
}

async fn cursor_of_an_unknown_server_gets_everything(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut receiver = Receiver::start(&app, &database).await;
    let session = log_out_new_user(&app, "alice").await;

    receiver.cursor = Some(format!("0{}", URL_SAFE_NO_PAD.encode(b"a server\x7f")));
    let reply = receiver.ask("0").await;

    assert_eq!(reply.body["complete"], true);
    assert_eq!(revoked_ids(&reply.body), [session].into());
    assert_eq!(receiver.ask("0").await.body["complete"], false);
}

async fn malformed_requests_are_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let receiver = Receiver::start(&app, &database).await;
    let long_nonce = format!("nonce={}", "x".repeat(129));

    for query in [
        "cursor=",
        "cursor=0",
        "cursor=2AAAAAAAAAAAB",
        "cursor=0!",
        "cursor=0AAAAAAAAAAA",
        "cursor=%C3%A4",
        "wait=-1",
        "wait=NaN",
        "wait=soon",
        "wait=1e300",
        &long_nonce,
        "since=2026-01-01",
    ] {
        let path = format!("/revocations?{query}");
        let reply = app.send_with_token(Method::GET, &path, &receiver.token).await;
        reply.assert_code(400, "invalid_query");
    }
}

async fn feed_requires_its_permission(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;

    app.get("/revocations").await.assert_code(401, "missing_authorization");
    let reply = app.send_with_token(Method::GET, "/revocations", &token).await;
    reply.assert_code(403, "permission_missing");
}

async fn stale_instance_closes_the_connection(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        config.revocations.poll_interval = Duration::from_hours(24);
        config.revocations.max_staleness = Duration::from_mins(10);
    })
    .await;
    let receiver = Receiver::start(&app, &database).await;

    app.clock.advance(Duration::from_secs(601));

    let reply = app.send_with_token(Method::GET, "/revocations", &receiver.token).await;
    reply.assert_code(503, "revocations_stale");
    assert_eq!(reply.header("connection"), Some("close"));
}

async fn waiting_receivers_do_not_delay_a_shutdown(database: TestDatabase) {
    let mut command = Process::command(&database);
    command.env("REVOCATION_MAX_STALENESS", "3600");
    let mut process = Process::spawn(&mut command).await;
    let app = process.app.clone();
    let mut receiver = Receiver::start(&app, &database).await;
    receiver.ask("0").await;

    let stop = async {
        let is_waiting = async || app.metric("portcullis_receivers_waiting").await == 1;
        eventually("the receiver waits", is_waiting).await;
        process.send_signal(Signal::TERM);
    };
    let (reply, ()) = tokio::join!(receiver.ask("1800"), stop);

    assert_eq!(reply.body["revoked"], json!([]));
    assert_eq!(reply.header("connection"), Some("close"));
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
}

async fn replies_are_counted_by_kind(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut receiver = Receiver::start(&app, &database).await;
    receiver.ask("0").await;
    let session = log_out_new_user(&app, "alice").await;
    receiver.receive(&session).await;
    receiver.ask("0").await;

    for kind in ["complete", "incremental", "empty"] {
        let sample = format!(r#"portcullis_receiver_replies_total{{kind="{kind}"}}"#);
        assert!(app.metric(&sample).await >= 1, "{kind}");
    }
    let replies = app.metric("portcullis_receiver_age_seconds_count").await;
    assert_eq!(replies, receiver.requests as u64);
    assert!(app.metric("portcullis_receiver_reply_bytes_total").await > 100 * replies);
}

#[actix_web::test]
async fn cursor_is_valid_at_every_instance() {
    let test = async |database: TestDatabase| {
        let apps = [TestApp::start(&database).await, TestApp::start(&database).await];
        let mut receiver = Receiver::start(&apps[0], &database).await;
        receiver.instances = apps.iter().collect();
        receiver.ask("0").await;

        for number in 0..6 {
            let session = log_out_new_user(&apps[number / 2 % 2], &format!("user-{number}")).await;
            receiver.receive(&session).await;
        }
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn cursor_from_an_instance_that_is_ahead_is_returned() {
    let test = async |database: TestDatabase| {
        let app = TestApp::start(&database).await;
        let lagging = TestApp::start_with(&database, |config| {
            let portcullis::config::Database::Postgres(postgres) = &mut config.database.database
            else {
                panic!("the database is Postgres")
            };
            postgres.listen_url = None;
            config.revocations.poll_interval = Duration::from_hours(24);
            config.revocations.max_staleness = Duration::from_hours(1);
        })
        .await;
        let mut receiver = Receiver::start(&app, &database).await;
        receiver.ask("0").await;
        let session = log_out_new_user(&app, "alice").await;
        receiver.receive(&session).await;
        receiver.ask("0").await;
        let cursor = receiver.cursor.clone();

        receiver.instances = vec![&lagging];
        let reply = receiver.ask("0").await;

        assert_eq!(reply.body["revoked"], json!([]));
        assert_eq!(reply.body["complete"], false);
        assert_eq!(receiver.cursor, cursor);
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn commits_that_land_out_of_order_arrive() {
    let test = async |database: TestDatabase| {
        let app = TestApp::start(&database).await;
        let mut receiver = Receiver::start(&app, &database).await;
        receiver.ask("0").await;
        let begin = async || {
            let id = Uuid::new_v4().to_string();
            let mut connection = database.connect().await;
            let insert = format!(
                "begin; insert into revocations (id, expires_at)
                 values ('{id}', now() + interval '1 hour')"
            );
            connection.execute(sqlx::AssertSqlSafe(insert)).await.unwrap();
            (id, connection)
        };
        let (first_id, mut first) = begin().await;
        let (second_id, mut second) = begin().await;

        second.execute("commit").await.unwrap();
        receiver.receive(&second_id).await;
        let session = log_out_new_user(&app, "alice").await;
        receiver.receive(&session).await;
        first.execute("commit").await.unwrap();
        receiver.receive(&first_id).await;
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn restored_table_makes_the_next_reply_complete() {
    let test = async |database: TestDatabase| {
        let app = TestApp::start(&database).await;
        let mut receiver = Receiver::start(&app, &database).await;
        receiver.ask("0").await;
        let session = log_out_new_user(&app, "alice").await;
        receiver.receive(&session).await;

        // A restore makes the index last, once the rows are there.
        database.execute("drop index revocations_xid").await;
        database.execute("create index revocations_xid on revocations (xid)").await;

        let mut is_complete = false;
        for _ in 0..MAX_REQUESTS {
            let reply = receiver.ask("0").await;
            is_complete |= reply.body["complete"] == true;
        }
        assert!(is_complete);
        let later = log_out_new_user(&app, "bob").await;
        receiver.receive(&later).await;
    };
    TestDatabase::postgres().await.run(test).await;
}

/// Returns the lowest transaction id that is not assigned yet.
async fn next_transaction(connection: &mut PgConnection) -> u64 {
    let select = sqlx::query_scalar("select pg_snapshot_xmax(pg_current_snapshot())::text");
    select.fetch_one(connection).await.map(|xid: String| xid.parse().unwrap()).unwrap()
}

/// Assigns transaction ids to nothing, and waits until a receiver has seen them. Returns the next one.
async fn waste_transactions(database: &TestDatabase, receiver: &mut Receiver<'_>) -> u64 {
    let mut connection = database.connect().await;
    for _ in 0..1_000 {
        connection.execute("begin; select pg_current_xact_id(); rollback").await.unwrap();
    }
    let next = next_transaction(&mut connection).await;
    for _ in 0..MAX_REQUESTS {
        receiver.ask("0").await;
        let cursor: FeedCursor = receiver.cursor.as_ref().unwrap()[1..].parse().unwrap();
        if cursor.snapshot.xmax() >= next {
            return next;
        }
    }
    panic!("the receiver has not seen {next}");
}

#[actix_web::test]
async fn logout_whose_transaction_id_was_lost_in_a_crash_arrives() {
    let mut server = PostgresServer::start().await;
    // The server writes no record of an aborted transaction before the crash.
    server.run_command(r#"echo "wal_writer_delay = 10s" >>"$data/postgresql.conf""#).await;
    server.run_command("$TEST_POSTGRES_CTL restart").await;
    let database = server.database.clone();
    let app = TestApp::start(&database).await;
    let mut receiver = Receiver::start(&app, &database).await;
    let token = app.register_and_log_in("alice").await;
    receiver.ask("0").await;
    let next = waste_transactions(&database, &mut receiver).await;

    server.kill_backend().await;

    assert!(next_transaction(&mut database.connect().await).await < next);
    let is_logged_out = async || app.log_out(&token).await.status == 200;
    eventually("the logout succeeds", is_logged_out).await;
    let reply = receiver.ask("2.5").await;
    assert_eq!(reply.body["complete"], true);
    assert_eq!(revoked_ids(&reply.body), [claim(&token, "sid")].into());
    let later = log_out_new_user(&app, "bob").await;
    receiver.receive(&later).await;
    server.shut_down().await;
}

#[actix_web::test]
async fn incomplete_replica_answers_after_a_restore_of_sqlite() {
    let test = async |database: TestDatabase| {
        let app = TestApp::start_with(&database, |config| config.revocations.capacity = 1).await;
        let mut receiver = Receiver::start(&app, &database).await;
        let mut sessions = Vec::new();
        for name in ["alice", "bob", "carol"] {
            sessions.push(log_out_new_user(&app, name).await);
        }
        receiver.ask("0").await;
        let loads = app.metric("portcullis_revocation_feed_loads_total").await;

        // As in an older copy of the file.
        database.execute("delete from revocations where position > 2").await;
        database.execute("update sqlite_sequence set seq = 2 where name = 'revocations'").await;
        let is_read = async || app.metric("portcullis_revocation_feed_loads_total").await > loads;
        eventually("the instance has noticed", is_read).await;

        assert_eq!(app.metric("portcullis_revocation_replica_complete").await, 0);
        let reply = receiver.ask("0").await;
        assert_eq!(reply.body["complete"], true);
        assert_eq!(revoked_ids(&reply.body), sessions[..2].iter().cloned().collect());
        assert_eq!(receiver.ask("0").await.body["complete"], false);
    };
    TestDatabase::sqlite().run(test).await;
}
