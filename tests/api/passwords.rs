//! Rules for new passwords.

use std::num::NonZeroU32;

use portcullis::domain::{Blocklist, Password, PasswordPolicy};
use portcullis::hashing::PasswordHasher;
use reqwest::Method;
use serde_json::json;

use crate::support::{
    Reply, TestApp, TestDatabase, credentials, decode_claims, on_both_databases, send,
};

on_both_databases![
    new_password_follows_the_policy_at_every_door,
    login_accepts_a_password_that_violates_the_policy,
];

const USERNAME: &str = "alice-in-chains";

/// Starts the application with a minimum length of 12 and a list of one word.
async fn start_with_policy(database: &TestDatabase) -> TestApp {
    let blocklist = Blocklist::from_lines("battery staple");
    TestApp::start_with(database, |config| {
        config.passwords = PasswordPolicy::new(12, Some(blocklist));
    })
    .await
}

/// Sends a password to each route that sets one, and returns the replies.
async fn set_everywhere(app: &TestApp, root: &str, alice: &str, password: &str) -> [Reply; 4] {
    let put = async |path: &str, token: &str, body| {
        send(app.request(Method::PUT, path).bearer_auth(token).json(&body)).await
    };
    let path = format!("/admin/users/{}/password", decode_claims(alice)["sub"].as_str().unwrap());
    let change = json!({ "current_password": "correct horse", "new_password": password });
    let new_account = credentials(&USERNAME.to_uppercase(), password);
    let create = app.request(Method::POST, "/admin/users").bearer_auth(root).json(&new_account);
    [
        app.register(USERNAME, password).await,
        send(create).await,
        put(&path, root, json!({ "password": password })).await,
        put("/auth/password", alice, change).await,
    ]
}

async fn new_password_follows_the_policy_at_every_door(database: TestDatabase) {
    let app = start_with_policy(&database).await;
    let root = app.register_admin(&database).await;
    let alice = app.register_and_log_in(USERNAME).await;

    for (password, code, msg) in [
        ("eleven char", "invalid_password", "Password must be at least 12 characters long"),
        (
            "Battery Staple",
            "password_too_common",
            "Password is too common: choose one that is harder to guess",
        ),
        ("Alice-in-Chains", "password_too_common", "Password must not be the username"),
    ] {
        for refused in set_everywhere(&app, &root, &alice, password).await {
            refused.assert_error(400, code, msg);
        }
    }

    assert_eq!(app.log_in(USERNAME, "correct horse").await.status, 200, "nothing has changed");
    let same_for_another = app.register("bob", USERNAME).await;
    assert_eq!(same_for_another.status, 201, "it is the username of another account");
}

async fn login_accepts_a_password_that_violates_the_policy(database: TestDatabase) {
    let app = start_with_policy(&database).await;
    app.register(USERNAME, "correct horse").await;

    for old in ["x", "battery staple", USERNAME] {
        let hasher = PasswordHasher::new(NonZeroU32::new(1_000).unwrap());
        let imported = hasher.hash(&Password::parse(old).unwrap()).unwrap().to_string();
        database.execute(format!("update users set password_hash = '{imported}'")).await;

        let opened = app.log_in(USERNAME, old).await;

        assert_eq!(opened.status, 200, "{old}: {opened:?}");
        let body = json!({ "current_password": old, "new_password": "correct horse" });
        let change = app.request(Method::PUT, "/auth/password").bearer_auth(opened.access_token());
        let changed = send(change.json(&body)).await;
        assert_eq!(changed.status, 200, "{old}: {changed:?}");
    }
}
