//! The signing keys: publication, rotation, revocation, and the secret that protects them.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::config::{Config, SigningAlgorithm};
use reqwest::Method;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Process, Reply, TestApp, TestDatabase, eventually, on_both_databases, send};

on_both_databases![
    public_keys_verify_tokens_without_the_service,
    public_keys_have_an_entity_tag,
    shared_secret_is_not_published,
    metadata_names_the_public_url,
    new_key_is_published_before_it_signs,
    rotation_ends_no_token,
    due_rotation_happens_by_itself,
    revoked_key_ends_its_tokens_everywhere,
    revocation_of_all_keys_keeps_refresh_tokens,
    key_changes_require_permission,
    key_commands_change_the_keys,
    audit_log_tells_the_service_from_the_command_line,
    token_with_a_new_key_is_accepted_before_the_next_poll,
    start_needs_the_secret_of_the_database,
    changed_secret_ends_no_token_and_the_former_one_is_retired,
    algorithm_change_ends_access_tokens_alone,
    changed_issuer_is_reported,
    changed_algorithm_is_reported,
    upgrade_keeps_accounts_and_ends_sessions,
    lost_root_key_keeps_the_service_from_starting,
    stale_instance_neither_signs_nor_publishes,
    shared_secret_cannot_be_rotated_or_revoked,
    wrong_clock_of_the_host_activates_no_key,
    publication_of_the_service_counts_for_commands,
    start_after_a_crash_makes_the_missing_keys,
];

/// Settings with which a key may sign about a second after its publication.
fn publish_briefly(config: &mut Config) {
    config.keys.jwks_max_age = Duration::ZERO;
    config.revocations.max_staleness = Duration::from_secs(1);
}

pub fn header_of(token: &str) -> Value {
    let header = token.split('.').next().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

pub async fn published_keys(app: &TestApp) -> Vec<Value> {
    let reply = app.get("/.well-known/jwks.json").await;
    reply.body["keys"].as_array().unwrap_or_else(|| panic!("no keys: {reply:?}")).clone()
}

pub async fn list_keys(app: &TestApp, admin: &str) -> Vec<Value> {
    let reply = app.send_with_token(Method::GET, "/admin/keys", admin).await;
    reply.body["keys"].as_array().unwrap_or_else(|| panic!("no keys: {reply:?}")).clone()
}

pub fn states(keys: &[Value]) -> Vec<&str> {
    keys.iter().map(|key| key["state"].as_str().unwrap()).collect()
}

pub async fn rotate(app: &TestApp, admin: &str) -> Reply {
    app.send_with_token(Method::POST, "/admin/keys", admin).await
}

/// Rotates as soon as the pending key may sign.
async fn rotate_when_known(app: &TestApp, admin: &str) {
    eventually("the pending key may sign", async || rotate(app, admin).await.status == 200).await;
}

async fn public_keys_verify_tokens_without_the_service(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;

    let keys = published_keys(&app).await;

    assert_eq!(keys.len(), 2, "the active key and the pending one");
    let header = header_of(&token);
    assert_eq!(header["alg"], "ES256");
    assert_eq!(header["typ"], "at+jwt");
    let key = keys.iter().find(|key| key["kid"] == header["kid"]).unwrap();
    assert!(key.get("d").is_none(), "the private part is secret");
    let [x, y] =
        ["x", "y"].map(|name| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap());
    let point = [&[4], x.as_slice(), &y].concat();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let public_key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    public_key.verify(message.as_bytes(), &signature).unwrap();
}

async fn public_keys_have_an_entity_tag(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let fetch = async |known: &str| {
        let request = app.request(Method::GET, "/.well-known/jwks.json");
        send(request.header("if-none-match", known)).await
    };

    let first = fetch("\"other\"").await;
    let tag = first.header("etag").unwrap().to_owned();

    assert_eq!(first.header("cache-control"), Some("public, max-age=300"));
    for known in [tag.as_str(), "*", &format!("W/{tag}, \"other\"")] {
        let unchanged = fetch(known).await;
        assert_eq!((unchanged.status.as_u16(), unchanged.text.as_str()), (304, ""));
        assert_eq!(unchanged.header("etag"), Some(tag.as_str()));
    }
}

async fn shared_secret_is_not_published(database: TestDatabase) {
    let app = TestApp::start_with_shared_secret(&database).await;
    let token = app.register_and_log_in("alice").await;

    assert_eq!(header_of(&token)["alg"], "HS256");
    assert_eq!(published_keys(&app).await, [] as [Value; 0]);
    let active = app.metric(r#"portcullis_signing_keys{state="active"}"#).await;
    assert_eq!(active, 1, "an alert watches this number");
}

async fn metadata_names_the_public_url(database: TestDatabase) {
    let path = "/.well-known/oauth-authorization-server";
    let app = TestApp::start(&database).await;
    let refused = app.get(path).await;
    refused.assert_error(404, "no_public_url", "The metadata is published once PUBLIC_URL is set");

    let url = "https://auth.example.com";
    let app = TestApp::start_with(&database, |config| {
        config.public_url = Some(url.to_owned());
        url.clone_into(&mut config.tokens.issuer);
    })
    .await;

    let methods = ["client_secret_basic", "client_secret_post"];
    app.get(path).await.assert(
        200,
        &json!({
            "issuer": url,
            "jwks_uri": format!("{url}/.well-known/jwks.json"),
            "token_endpoint": format!("{url}/oauth/token"),
            "introspection_endpoint": format!("{url}/oauth/introspect"),
            "revocation_endpoint": format!("{url}/oauth/revoke"),
            "revocation_feed_endpoint": format!("{url}/revocations"),
            "response_types_supported": [],
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": methods,
            "introspection_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": methods,
        }),
    );
}

async fn new_key_is_published_before_it_signs(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = app.register_admin(&database).await;

    let refused = rotate(&app, &admin).await;

    refused.assert_code(409, "key_too_new");
    let keys = list_keys(&app, &admin).await;
    assert_eq!(states(&keys), ["active", "pending"]);
    assert_eq!(keys[1]["activated_at"], Value::Null);
    assert!(keys[1]["known_at"].as_str() > keys[1]["published_at"].as_str());
}

async fn rotation_ends_no_token(database: TestDatabase) {
    let app = TestApp::start_with(&database, publish_briefly).await;
    let admin = app.register_admin(&database).await;
    let session = app.register_and_open_session("alice").await;
    let before = published_keys(&app).await;

    rotate_when_known(&app, &admin).await;

    assert_eq!(states(&list_keys(&app, &admin).await), ["retiring", "active", "pending"]);
    let after = published_keys(&app).await;
    assert_eq!(after[..2], before[..], "the former keys stay");
    assert_eq!(app.dashboard(&session.access_token()).await.status, 200);
    let renewed = app.refresh(&session.refresh_token()).await;
    assert_eq!(header_of(&renewed.access_token())["kid"], before[1]["kid"]);
    assert_eq!(app.dashboard(&renewed.access_token()).await.status, 200);
    let log = app.send_with_token(Method::GET, "/admin/audit?action=key.activated", &admin).await;
    assert_eq!(log.body["records"][0]["detail"], before[1]["kid"]);
}

async fn due_rotation_happens_by_itself(database: TestDatabase) {
    let rotate_soon = |config: &mut Config| {
        publish_briefly(config);
        config.keys.rotation_interval = Some(Duration::from_secs(1));
    };
    let app = TestApp::start_with(&database, rotate_soon).await;
    let other_app = TestApp::start_with(&database, rotate_soon).await;
    let first = published_keys(&app).await[0]["kid"].clone();
    let session = app.register_and_open_session("alice").await;

    eventually("both instances sign with a new key", async || {
        let logins = [
            app.log_in("alice", "correct horse").await,
            other_app.log_in("alice", "correct horse").await,
        ];
        logins.iter().all(|login| header_of(&login.access_token())["kid"] != first)
    })
    .await;

    assert_eq!(app.dashboard(&session.access_token()).await.status, 200);
}

async fn revoked_key_ends_its_tokens_everywhere(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let other_app = TestApp::start(&database).await;
    let admin = app.register_admin(&database).await;
    let session = app.register_and_open_session("alice").await;
    let token = session.access_token();
    assert_eq!(other_app.dashboard(&token).await.status, 200);
    let kid = header_of(&token)["kid"].as_str().unwrap().to_owned();

    let revoked = app.send_with_token(Method::DELETE, &format!("/admin/keys/{kid}"), &admin).await;

    assert_eq!(states(revoked.body["keys"].as_array().unwrap()), ["active", "pending"]);
    app.dashboard(&token).await.assert_code(401, "token_revoked");
    let is_published = async |app: &TestApp| {
        published_keys(app).await.iter().any(|key| key["kid"] == kid.as_str())
    };
    assert!(!is_published(&app).await);
    eventually("the other instance drops the key", async || !is_published(&other_app).await).await;
    for app in [&app, &other_app] {
        assert_eq!(app.dashboard(&token).await.status, 401);
        let session = app.log_in("alice", "correct horse").await;
        assert_eq!(app.dashboard(&session.access_token()).await.status, 200);
    }
    assert_eq!(app.refresh(&session.refresh_token()).await.status, 200);
}

async fn revocation_of_all_keys_keeps_refresh_tokens(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = app.register_admin(&database).await;
    let session = app.register_and_open_session("alice").await;
    let former = published_keys(&app).await;

    let revoked = app.send_with_token(Method::DELETE, "/admin/keys", &admin).await;

    assert_eq!(states(revoked.body["keys"].as_array().unwrap()), ["active", "pending"]);
    assert!(published_keys(&app).await.iter().all(|key| !former.contains(key)));
    for token in [&session.access_token(), &admin] {
        assert_eq!(app.dashboard(token).await.status, 401);
    }
    let renewed = app.refresh(&session.refresh_token()).await;
    assert_eq!(app.dashboard(&renewed.access_token()).await.status, 200);
}

async fn key_changes_require_permission(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;
    let admin = app.register_admin(&database).await;

    for (method, path) in [
        (Method::GET, "/admin/keys"),
        (Method::POST, "/admin/keys"),
        (Method::DELETE, "/admin/keys"),
        (Method::DELETE, "/admin/keys/oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"),
    ] {
        let refused = app.send_with_token(method, path, &token).await;
        refused.assert_code(403, "permission_missing");
    }
    for kid in ["oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U", "nonsense"] {
        let path = format!("/admin/keys/{kid}");
        let refused = app.send_with_token(Method::DELETE, &path, &token).await;
        refused.assert_code(403, "permission_missing");
        let unknown = app.send_with_token(Method::DELETE, &path, &admin).await;
        unknown.assert_error(404, "not_found", "Not found");
    }
}

async fn run_key_command(database: &TestDatabase, arguments: &str) -> (Option<i32>, Vec<Value>) {
    let mut command = Process::command(database);
    command.env("JWKS_MAX_AGE", "1").env("REVOCATION_MAX_STALENESS", "2");
    let output = command.args(arguments.split(' ')).output().await.unwrap();
    let keys = String::from_utf8(output.stdout).unwrap();
    (
        output.status.code(),
        keys.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
    )
}

async fn key_commands_change_the_keys(database: TestDatabase) {
    let mut command = Process::command(&database);
    command.env("JWKS_MAX_AGE", "1").env("REVOCATION_MAX_STALENESS", "2");
    let service = Process::spawn(&mut command).await;
    let token = service.app.register_and_log_in("alice").await;

    let (code, first) = run_key_command(&database, "key list --json").await;
    assert_eq!((code, states(&first)), (Some(0), vec!["active", "pending"]));
    let (code, _) = run_key_command(&database, "key rotate --json").await;
    assert_eq!(code, Some(4), "the pending key is too new");
    eventually("the pending key may sign", async || {
        run_key_command(&database, "key rotate").await.0 == Some(0)
    })
    .await;
    let (_, rotated) = run_key_command(&database, "key list --json").await;
    assert_eq!(states(&rotated), ["retiring", "active", "pending"]);
    assert_eq!(service.app.dashboard(&token).await.status, 200);

    let kid = first[0]["kid"].as_str().unwrap();
    let (code, revoked) = run_key_command(&database, &format!("key revoke {kid} --json")).await;
    assert_eq!((code, states(&revoked)), (Some(0), vec!["active", "pending"]));
    eventually("the service refuses the token", async || {
        service.app.dashboard(&token).await.status == 401
    })
    .await;
    let (code, _) = run_key_command(&database, &format!("key revoke {kid}")).await;
    assert_eq!(code, Some(3));
    let (code, _) = run_key_command(&database, "key revoke nonsense").await;
    assert_eq!(code, Some(2));
    let (code, all) = run_key_command(&database, "key revoke --all --yes --json").await;
    assert_eq!((code, all.len()), (Some(0), 2));
}

async fn audit_log_tells_the_service_from_the_command_line(database: TestDatabase) {
    let service = Process::start(&database).await;
    run_key_command(&database, "key revoke --all --yes").await;

    let admin = service.app.register_admin(&database).await;
    let log = service.app.send_with_token(Method::GET, "/admin/audit", &admin).await;

    let mut records = log.body["records"].as_array().unwrap().clone();
    records.reverse();
    let records: Vec<_> = records
        .iter()
        .map(|record| (record["action"].as_str().unwrap(), record["actor"].as_str()))
        .filter(|(action, _)| action.starts_with("key.") || action.starts_with("secret."))
        .collect();
    let service = Some("00000000-0000-0000-0000-000000000000");
    let start = ["secret.added", "key.published", "key.activated", "key.published"];
    let revoke = ["key.revoked", "key.revoked", "key.published", "key.activated", "key.published"];
    let start = start.map(|action| (action, service));
    let revoke = revoke.map(|action| (action, None));
    assert_eq!(records, [start.as_slice(), &revoke].concat());
}

async fn token_with_a_new_key_is_accepted_before_the_next_poll(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = app.register_admin(&database).await;
    app.register("alice", "correct horse").await;
    let other_app = TestApp::start_with_own_clock(&database, |config| {
        config.keys.algorithm = SigningAlgorithm::Es256;
    })
    .await;
    app.send_with_token(Method::DELETE, "/admin/keys", &admin).await;

    let token = app.log_in_for_token("alice").await;

    assert_eq!(other_app.dashboard(&token).await.status, 200);
}

/// Returns the program with a secret, and with the one before.
pub fn with_secrets(database: &TestDatabase, secret: &str, previous: &str) -> Command {
    let mut command = Process::command(database);
    command.env("JWT_SECRET_KEY", secret).env("JWT_SECRET_KEY_PREVIOUS", previous);
    command
}

pub const NEW_SECRET: &str = "fedcba9876543210fedcba9876543210";

async fn start_needs_the_secret_of_the_database(database: TestDatabase) {
    Process::start(&database).await;

    for previous in ["", "another secret of 32 characters.."] {
        let output = with_secrets(&database, NEW_SECRET, previous).output().await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr.contains("set JWT_SECRET_KEY_PREVIOUS to it"), "{stderr}");
    }
}

async fn changed_secret_ends_no_token_and_the_former_one_is_retired(database: TestDatabase) {
    let former = Process::start(&database).await;
    let session = former.app.register_and_open_session("alice").await;

    let changed = Process::spawn(&mut with_secrets(&database, NEW_SECRET, Process::KEY)).await;
    for app in [&former.app, &changed.app] {
        assert_eq!(app.dashboard(&session.access_token()).await.status, 200);
    }
    let renewed = changed.app.refresh(&session.refresh_token()).await;
    assert_eq!(former.app.dashboard(&renewed.access_token()).await.status, 200);
    // The former secret still starts an instance: a change can be taken back.
    Process::start(&database).await;

    let mut retire = with_secrets(&database, NEW_SECRET, "");
    let output = retire.args(["secret", "retire"]).output().await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "retired 1 former secrets\n");
    let output = Process::command(&database).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "the former secret starts nothing");
    let restarted = Process::spawn(&mut with_secrets(&database, NEW_SECRET, "")).await;
    assert_eq!(restarted.app.dashboard(&session.access_token()).await.status, 200);
}

async fn algorithm_change_ends_access_tokens_alone(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let session = app.register_and_open_session("alice").await;

    let app = TestApp::start_with_shared_secret(&database).await;

    let refused = app.dashboard(&session.access_token()).await;
    refused.assert_code(401, "algorithm_not_allowed");
    let renewed = app.refresh(&session.refresh_token()).await;
    assert_eq!(app.dashboard(&renewed.access_token()).await.status, 200);
}

async fn changed_issuer_is_reported(database: TestDatabase) {
    Process::start(&database).await;

    let mut command = Process::command(&database);
    let process = Process::spawn(command.env("PUBLIC_URL", "https://auth.example.com/")).await;

    let warning = "the issuer has changed: access tokens with the former one are refused";
    let log = process.log();
    let line = log.lines().find(|line| line.contains(warning)).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("\"https://auth.example.com\"") && line.contains("\"portcullis\""));
}

async fn changed_algorithm_is_reported(database: TestDatabase) {
    Process::start(&database).await;

    let process = Process::spawn(Process::command(&database).env("JWT_ALGORITHM", "HS256")).await;

    let warning = "JWT_ALGORITHM has changed: access tokens with the former one are refused";
    let log = process.log();
    let line = log.lines().find(|line| line.contains(warning)).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("\"HS256\"") && line.contains("\"ES256\""));
}

async fn upgrade_keeps_accounts_and_ends_sessions(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let session = app.register_and_open_session("alice").await;
    // As before the version that brought the keys.
    for statement in [
        "drop table client_secrets",
        "drop table clients",
        "drop table roles",
        "drop table signing_keys",
        "drop table root_key_wrappings",
        "drop table shared_state",
        "alter table sessions drop column audience",
        "drop index users_reset_code_hash",
        "alter table users drop column reset_code_hash",
        "alter table users drop column reset_code_expires_at",
        "drop index if exists users_external_id",
        "alter table users drop column external_id",
        "alter table users drop column metadata",
        "drop index users_hash_cost",
        "alter table users drop column hash_cost",
        "drop index audit_log_deletions",
        "drop table failure_counters",
        "drop table known_networks",
        "drop table if exists server_runs",
        "delete from _sqlx_migrations where version >= 9",
    ] {
        database.execute(statement).await;
    }

    let process = Process::start(&database).await;
    let upgraded = &process.app;

    assert_eq!(upgraded.log_in("alice", "correct horse").await.status, 200);
    assert_eq!(upgraded.refresh(&session.refresh_token()).await.status, 401);
    assert_eq!(upgraded.dashboard(&session.access_token()).await.status, 401);
    let admin = upgraded.register_admin(&database).await;
    let log = upgraded.send_with_token(Method::GET, "/admin/audit", &admin).await;
    let actions: Vec<_> = log.body["records"].as_array().unwrap().iter().collect();
    let registered = actions.iter().filter(|record| record["action"] == "user.registered");
    assert_eq!(registered.count(), 2, "the audit log is kept");
}

async fn start_after_a_crash_makes_the_missing_keys(database: TestDatabase) {
    let mut process = Process::start(&database).await;
    let session = process.app.register_and_open_session("alice").await;
    process.send_signal(rustix::process::Signal::KILL);
    process.wait_for_exit().await;
    // As after a crash between the root key and the first signing keys.
    database.execute("delete from signing_keys").await;

    let restarted = Process::start(&database).await;

    let app = &restarted.app;
    let renewed = app.refresh(&session.refresh_token()).await;
    assert_eq!(app.dashboard(&renewed.access_token()).await.status, 200);
    assert_eq!(published_keys(app).await.len(), 2);
}

async fn lost_root_key_keeps_the_service_from_starting(database: TestDatabase) {
    Process::start(&database).await;
    database.execute("delete from root_key_wrappings").await;

    let output = Process::command(&database).output().await.unwrap();

    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("restore root_key_wrappings from a backup"), "{stderr}");
}

async fn stale_instance_neither_signs_nor_publishes(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        config.revocations.poll_interval = Duration::from_hours(24);
        config.revocations.max_staleness = Duration::from_hours(1);
        config.tokens.sessions_per_user = 1;
    })
    .await;
    let session = app.register_and_open_session("alice").await;
    let other_app = TestApp::start(&database).await;

    app.clock.advance(Duration::from_hours(2));

    for refused in [
        app.log_in("alice", "correct horse").await,
        app.refresh(&session.refresh_token()).await,
        app.get("/.well-known/jwks.json").await,
    ] {
        refused.assert_code(503, "revocations_stale");
    }
    let renewed = other_app.refresh(&session.refresh_token()).await;
    assert_eq!(renewed.status, 200, "the refused requests have changed nothing: {renewed:?}");
}

async fn shared_secret_cannot_be_rotated_or_revoked(database: TestDatabase) {
    let app = TestApp::start_with_shared_secret(&database).await;
    let admin = app.register_admin(&database).await;

    for method in [Method::POST, Method::DELETE] {
        let refused = app.send_with_token(method, "/admin/keys", &admin).await;
        refused.assert_code(409, "keys_not_used");
    }
    let mut command = Process::command(&database);
    let command = command.env("JWT_ALGORITHM", "HS256").env("JWT_SECRET_KEY", "\u{7}".repeat(32));
    let output = command.args(["key", "revoke", "--all"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
}

async fn wrong_clock_of_the_host_activates_no_key(database: TestDatabase) {
    let app = TestApp::start_with(&database, publish_briefly).await;
    let admin = app.register_admin(&database).await;
    // As if the clock of the database were fast: by it, every verifier knows the key.
    database
        .execute(match &database {
            TestDatabase::Postgres { .. } => {
                "update signing_keys set known_at = clock_timestamp() + interval '10 minutes'
                 where state = 'pending'"
            }
            TestDatabase::Sqlite(_) => {
                "update signing_keys
                 set known_at = cast((unixepoch('subsec') + 600) * 1000000 as integer)
                 where state = 'pending'"
            }
        })
        .await;

    app.clock.advance(Duration::from_mins(20));

    rotate(&app, &admin).await.assert_code(409, "key_too_new");
}

async fn publication_of_the_service_counts_for_commands(database: TestDatabase) {
    let service = Process::start(&database).await;
    let (_, keys) = run_key_command(&database, "key list --json").await;

    let (code, _) = run_key_command(&database, "key rotate").await;

    assert_eq!(code, Some(4));
    let published = published_keys(&service.app).await;
    assert_eq!(published[1]["kid"], keys[1]["kid"]);
    assert!(keys[1]["known_at"].as_str() > keys[1]["published_at"].as_str());
}
