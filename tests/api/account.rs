//! Management of the own account.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, TestApp, TestDatabase, decode_claims, on_both_databases, send};

on_both_databases![
    user_sees_own_account,
    password_change_ends_other_sessions,
    invalid_password_change_is_refused,
    only_one_concurrent_password_change_succeeds,
    password_is_changed_at_a_bounded_rate,
    deletion_ends_sessions_and_frees_username,
];

const NEW_PASSWORD: &str = "battery staple";

async fn change_password(app: &TestApp, token: &str, current: &str, new: &str) -> Reply {
    let request = app.request(Method::PUT, "/auth/password").bearer_auth(token);
    send(request.json(&json!({ "current_password": current, "new_password": new }))).await
}

async fn delete_account(app: &TestApp, token: &str, body: &Value) -> Reply {
    send(app.request(Method::DELETE, "/auth/me").bearer_auth(token).json(body)).await
}

async fn user_sees_own_account(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    app.register("Alice", "correct horse").await;
    let token = app.log_in_for_token("alice").await;

    let mut account = app.send_with_token(Method::GET, "/auth/me", &token).await;

    let created_at = account.body["created_at"].take();
    assert!(created_at.as_str().unwrap().ends_with('Z'), "{created_at}");
    account.assert(
        200,
        &json!({
            "id": decode_claims(&token)["sub"],
            "username": "Alice",
            "roles": ["user"],
            "external_id": null,
            "metadata": {},
            "permissions": ["dashboard:read"],
            "created_at": null,
        }),
    );
}

async fn password_change_ends_other_sessions(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let current = app.register_and_open_session("alice").await;
    let other = app.log_in("alice", "correct horse").await;

    let changed =
        change_password(&app, &current.access_token(), "correct horse", NEW_PASSWORD).await;

    changed.assert(200, &json!({ "msg": "Password changed" }));
    assert_eq!(app.dashboard(&current.access_token()).await.status, 200);
    assert_eq!(app.refresh(&current.refresh_token()).await.status, 200);
    assert_eq!(app.dashboard(&other.access_token()).await.status, 401);
    assert_eq!(app.refresh(&other.refresh_token()).await.status, 401);
    assert_eq!(app.log_in("alice", "correct horse").await.status, 401);
    assert_eq!(app.log_in("alice", NEW_PASSWORD).await.status, 200);
    let changed_back =
        change_password(&app, &current.access_token(), NEW_PASSWORD, "correct horse").await;
    assert_eq!(changed_back.status, 200, "{changed_back:?}");
}

async fn invalid_password_change_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;

    for wrong_password in ["wrong battery", "x", NEW_PASSWORD] {
        let refused = change_password(&app, &token, wrong_password, NEW_PASSWORD).await;
        refused.assert_error(401, "wrong_password", "Wrong password");
    }
    let short = change_password(&app, &token, "correct horse", "short").await;
    short.assert_code(400, "invalid_password");
    let missing = change_password(&app, &token, "correct horse", "").await;
    missing.assert_error(400, "missing_password", "Missing password");

    assert_eq!(app.log_in("alice", "correct horse").await.status, 200);
    assert_eq!(app.dashboard(&token).await.status, 200);
}

async fn only_one_concurrent_password_change_succeeds(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;
    let new_passwords: Vec<String> = (0..8).map(|n| format!("password number {n}")).collect();

    let changes =
        new_passwords.iter().map(|new| change_password(&app, &token, "correct horse", new));
    let logins = join_all((0..4).map(|_| app.log_in("alice", "correct horse")));
    let (changes, logins) = futures_util::future::join(join_all(changes), logins).await;

    let replies = changes.iter().zip(&new_passwords);
    let successful: Vec<_> = replies.filter(|(reply, _)| reply.status == 200).collect();
    assert_eq!(successful.len(), 1, "{changes:?}");
    assert_eq!(app.log_in("alice", successful[0].1).await.status, 200);
    for login in logins.iter().filter(|reply| reply.status == 200) {
        let reply = app.dashboard(&login.access_token()).await;
        assert_eq!(reply.status, 401, "no session with the old password survives");
    }
    assert_eq!(app.dashboard(&token).await.status, 200);
}

async fn password_is_changed_at_a_bounded_rate(database: TestDatabase) {
    let app = TestApp::start_with_own_clock(&database, |_| {}).await;
    let token = app.register_and_log_in("alice").await;
    let other = app.register_and_log_in("bob").await;
    let change =
        async |token: &str| change_password(&app, token, "correct horse", "correct horse").await;

    change_password(&app, &token, "wrong", NEW_PASSWORD).await.assert_code(401, "wrong_password");
    for _ in 0..10 {
        assert_eq!(change(&token).await.status, 200);
    }
    let refused = change(&token).await;

    refused.assert_code(429, "too_many_password_changes");
    assert_eq!(refused.header("retry-after"), Some("60"));
    assert_eq!(change(&other).await.status, 200);
    app.clock.advance(Duration::from_mins(1));
    assert_eq!(change(&token).await.status, 200);
}

async fn deletion_ends_sessions_and_frees_username(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let current = app.register_and_open_session("alice").await;
    let other = app.log_in("alice", "correct horse").await;
    let token = current.access_token();
    let missing = delete_account(&app, &token, &json!({})).await;
    missing.assert_error(400, "missing_password", "Missing password");
    let wrong = delete_account(&app, &token, &json!({ "password": "wrong battery" })).await;
    wrong.assert_error(401, "wrong_password", "Wrong password");

    let deleted = delete_account(&app, &token, &json!({ "password": "correct horse" })).await;

    assert_eq!((deleted.status.as_u16(), deleted.text.as_str()), (204, ""));
    for tokens in [&current, &other] {
        let refused = app.dashboard(&tokens.access_token()).await;
        refused.assert_error(401, "token_revoked", "Token has been revoked");
        assert_eq!(app.refresh(&tokens.refresh_token()).await.status, 401);
    }
    assert_eq!(app.log_in("alice", "correct horse").await.status, 401);
    assert_eq!(app.register("ALICE", "correct horse").await.status, 201);
    assert_eq!(
        app.dashboard(&token).await.status,
        401,
        "the token stays revoked when the name is registered again"
    );
}
