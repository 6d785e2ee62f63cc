//! Registration, login, the dashboard and logout.

use std::num::NonZeroU32;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{TestApp, TestDatabase, credentials, eventually, on_both_databases, send};

on_both_databases![
    user_registers_logs_in_and_out,
    usernames_are_case_insensitive,
    names_that_fold_alike_are_one_account,
    password_with_nul_is_refused,
    only_one_concurrent_registration_succeeds,
    missing_credentials_are_refused,
    registration_names_the_violated_rule,
    closed_registration_leaves_accounts_to_administrators,
    every_refused_login_costs_one_hash,
    login_upgrades_old_password_hash,
    logout_ends_only_one_session,
    concurrent_logouts_share_commits,
    logout_survives_restart,
    unknown_fields_are_ignored,
];

async fn user_registers_logs_in_and_out(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    let registered = app.register("testuser", "testpass").await;
    registered.assert(201, &json!({ "msg": "User registered successfully" }));

    let logged_in = app.log_in("testuser", "testpass").await;
    let token = logged_in.access_token();
    let body = json!({
        "access_token": token,
        "refresh_token": logged_in.refresh_token(),
        "token_type": "Bearer",
        "expires_in": 3600,
        "device_token": logged_in.body["device_token"],
    });
    logged_in.assert(200, &body);
    assert_eq!(logged_in.header("cache-control"), Some("no-store"));

    let welcome = json!({ "message": "Welcome testuser, this is your dashboard" });
    app.dashboard(&token).await.assert(200, &welcome);

    app.log_out(&token).await.assert(200, &json!({ "msg": "Successfully logged out" }));

    let refused = app.dashboard(&token).await;
    refused.assert_error(401, "token_revoked", "Token has been revoked");
    let second_logout = app.log_out(&token).await;
    second_logout.assert_error(401, "token_revoked", "Token has been revoked");
}

async fn usernames_are_case_insensitive(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    app.register("Alice", "correct horse").await;

    let refused = app.register("aLICE", "another password").await;
    refused.assert_error(409, "user_exists", "User already exists");

    let token = app.log_in("alice", "correct horse").await.access_token();
    let dashboard = app.dashboard(&token).await;
    assert_eq!(dashboard.body["message"], "Welcome Alice, this is your dashboard");
}

async fn names_that_fold_alike_are_one_account(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    for (name, other) in [("νικος", "ΝΙΚΟΣ"), ("WEISS", "weiß")] {
        assert_eq!(app.register(name, "correct horse").await.status, 201);

        let refused = app.register(other, "another password").await;

        refused.assert_error(409, "user_exists", "User already exists");
        assert_eq!(app.log_in(other, "correct horse").await.status, 200);
    }
}

async fn password_with_nul_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    app.register("alice", "testpass").await;

    for password in ["testpass\0", "testpass\0\0", "\0testpass"] {
        let refused = app.register("bob", password).await;
        let msg = "Password must not contain the character NUL";
        refused.assert_error(400, "invalid_password", msg);
        app.log_in("alice", password).await.assert_code(401, "invalid_credentials");
    }
    let weak = app.register("bob", "x\0\0\0\0\0\0\0").await;
    weak.assert_code(400, "invalid_password");
}

async fn only_one_concurrent_registration_succeeds(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    let attempts = (0..8).map(|_| app.register("alice", "correct horse"));
    let replies = futures_util::future::join_all(attempts).await;

    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
}

async fn missing_credentials_are_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let bodies = [
        json!({}),
        json!({ "username": "alice" }),
        json!({ "password": "correct horse" }),
        json!({ "username": null, "password": null }),
        credentials("", "correct horse"),
        credentials("alice", ""),
    ];

    for route in ["/auth/register", "/auth/login"] {
        for body in &bodies {
            let reply = app.post(route, body).await;
            reply.assert_error(400, "missing_credentials", "Missing username or password");
        }
    }
}

async fn registration_names_the_violated_rule(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    app.register("alice", "2short!").await.assert_error(
        400,
        "invalid_password",
        "Password must be at least 8 characters long",
    );
    app.register("alice", &"x".repeat(257)).await.assert_error(
        400,
        "invalid_password",
        "Password must be at most 256 characters long",
    );
    app.register(&"x".repeat(151), "correct horse").await.assert_error(
        400,
        "invalid_username",
        "Username must be at most 150 characters long",
    );
    app.register("alice in wonderland", "correct horse").await.assert_error(
        400,
        "invalid_username",
        "Username must be made of letters, digits and ASCII punctuation, without spaces",
    );
}

async fn closed_registration_leaves_accounts_to_administrators(database: TestDatabase) {
    let root = TestApp::start(&database).await.register_admin(&database).await;
    let app = TestApp::start_with(&database, |config| config.is_registration_open = false).await;

    for username in ["alice", "root"] {
        let refused = app.register(username, "correct horse").await;
        refused.assert_error(403, "registration_closed", "Registration is closed");
    }
    assert_eq!(app.metric(r#"portcullis_registrations_total{outcome="closed"}"#).await, 2);

    let body = json!({ "username": "alice", "password": "correct horse", "roles": ["user"] });
    let create = app.request(Method::POST, "/admin/users").bearer_auth(&root).json(&body);
    assert_eq!(send(create).await.status, 201);
    assert_eq!(app.log_in("alice", "correct horse").await.status, 200);
}

async fn every_refused_login_costs_one_hash(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    app.register("alice", "correct horse").await;
    let hashes = r#"portcullis_hash_jobs_total{outcome="completed"}"#;

    let attempts = [
        ("alice", "wrong password"),
        ("unknown", "correct horse"),
        ("not a name", "correct horse"),
        ("alice", "short"),
        ("alice", &"x".repeat(1000)),
    ];
    for (username, password) in attempts {
        let before = app.metric(hashes).await;
        let refused = app.log_in(username, password).await;
        refused.assert_error(401, "invalid_credentials", "Invalid username or password");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert_eq!(app.metric(hashes).await - before, 1, "{username}");
    }
}

async fn login_upgrades_old_password_hash(database: TestDatabase) {
    let low_cost = TestApp::start(&database).await;
    low_cost.register("alice", "correct horse").await;
    let high_cost = TestApp::start_with(&database, |config| {
        config.hashing.iterations = NonZeroU32::new(2_000).unwrap();
    })
    .await;
    let hashes = r#"portcullis_hash_jobs_total{outcome="completed"}"#;

    high_cost.log_in("alice", "correct horse").await.access_token();
    eventually("the password is verified and hashed again", async || {
        high_cost.metric(hashes).await == 2
    })
    .await;
    eventually("a login verifies the password only", async || {
        let before = high_cost.metric(hashes).await;
        high_cost.log_in("alice", "correct horse").await.access_token();
        high_cost.metric("portcullis_hash_queue_depth").await == 0
            && high_cost.metric(hashes).await == before + 1
    })
    .await;
}

async fn logout_ends_only_one_session(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let first = app.register_and_log_in("alice").await;
    let second = app.log_in_for_token("alice").await;

    app.log_out(&first).await;

    assert_eq!(app.dashboard(&first).await.status, 401);
    assert_eq!(app.dashboard(&second).await.status, 200);
}

async fn concurrent_logouts_share_commits(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    app.register("alice", "correct horse").await;
    let logins = (0..200).map(|_| app.log_in_for_token("alice"));
    let tokens = futures_util::future::join_all(logins).await;

    let logouts = tokens.iter().map(|token| app.log_out(token));
    let replies = futures_util::future::join_all(logouts).await;

    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    assert_eq!(app.metric("portcullis_revocations_committed_total").await, 200);
    assert!(app.metric("portcullis_revocation_commit_batch_size_count").await < 150);
}

async fn logout_survives_restart(database: TestDatabase) {
    let before = TestApp::start(&database).await;
    let logged_out = before.register_and_log_in("alice").await;
    let valid = before.log_in_for_token("alice").await;
    before.log_out(&logged_out).await;

    let after = TestApp::start(&database).await;

    after.dashboard(&logged_out).await.assert_error(401, "token_revoked", "Token has been revoked");
    assert_eq!(after.dashboard(&valid).await.status, 200);
    assert_eq!(after.metric("portcullis_revocations_held").await, 1);
}

async fn unknown_fields_are_ignored(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut body: Value = credentials("alice", "correct horse");
    body["email"] = json!("alice@example.com");

    assert_eq!(app.post("/auth/register", &body).await.status, 201);
}
