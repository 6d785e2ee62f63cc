//! The record of who did what, to whom, when, and from where.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    TestApp, TestDatabase, claims, credentials, eventually, on_both_databases, send,
};

async fn records(app: &TestApp, token: &str, query: &str) -> Vec<Value> {
    let reply = app.with_token(Method::GET, &format!("/admin/audit?{query}"), token).await;
    reply.body["records"].as_array().unwrap_or_else(|| panic!("no records: {reply:?}")).clone()
}

/// Tells who did what to whom.
fn told(record: &Value) -> (&str, &Value, &Value) {
    (record["action"].as_str().unwrap(), &record["actor"], &record["subject"])
}

on_both_databases! {
    async fn every_change_of_an_account_or_a_session_is_told(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let root = app.admin_token(&database).await;
        let tell = async |method: Method, path: &str, token: &str, body: &Value| {
            let reply = send(app.request(method, path).bearer_auth(token).json(body)).await;
            assert!(reply.status.is_success(), "{path}: {reply:?}");
            reply
        };
        let bob = tell(Method::POST, "/admin/users", &root, &credentials("bob", "correct horse")).await;
        let bob = bob.body["id"].clone();
        let manage = format!("/admin/users/{}", bob.as_str().unwrap());
        let nothing = json!({});
        let from = records(&app, &root, "limit=1").await[0]["id"].as_i64().unwrap();

        let alice = app.pair_of("alice").await;
        let token = alice.access_token();
        let other = app.another_token_of("alice").await;
        let change = json!({ "current_password": "correct horse", "new_password": "battery staple" });
        tell(Method::PUT, "/auth/password", &token, &change).await;
        let form = app.request(Method::POST, "/oauth/revoke").bearer_auth(&root);
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        let token_of_root = app.another_token_of("root").await;
        send(form.body(format!("token={token_of_root}"))).await;
        tell(Method::POST, "/auth/logout", &token, &nothing).await;
        let token = app.log_in("alice", "battery staple").await.access_token();
        tell(Method::POST, "/auth/logout-all", &token, &nothing).await;
        let token = app.log_in("alice", "battery staple").await.access_token();
        tell(Method::DELETE, "/auth/me", &token, &json!({ "password": "battery staple" })).await;
        for (method, path, body) in [
            (Method::PUT, "/roles", json!({ "roles": ["user", "admin"] })),
            (Method::PUT, "/password", json!({ "password": "battery staple" })),
            (Method::POST, "/disable", json!({})),
            (Method::POST, "/enable", json!({})),
            (Method::DELETE, "/sessions", json!({})),
            (Method::DELETE, "", json!({})),
        ] {
            tell(method, &format!("{manage}{path}"), &root, &body).await;
        }

        let log = records(&app, &root, "").await;
        let log: Vec<_> = log.into_iter().filter(|record| record["id"].as_i64() > Some(from)).collect();
        let (alice, root) = (&claims(&other)["sub"], &claims(&root)["sub"]);
        let in_order: Vec<_> = log.iter().rev().map(told).collect();
        assert_eq!(in_order, [
            ("user.registered", &Value::Null, alice),
            ("session.opened", alice, alice),
            ("session.opened", alice, alice),
            ("user.password_changed", alice, alice),
            ("session.opened", root, root),
            ("token.revoked", root, root),
            ("session.ended", alice, alice),
            ("session.opened", alice, alice),
            ("session.all_ended", alice, alice),
            ("session.opened", alice, alice),
            ("user.deleted", alice, alice),
            ("user.roles_changed", root, &bob),
            ("user.password_changed", root, &bob),
            ("user.disabled", root, &bob),
            ("user.enabled", root, &bob),
            ("session.all_ended", root, &bob),
            ("user.deleted", root, &bob),
        ]);
        let roles = log.iter().find(|record| record["action"] == "user.roles_changed").unwrap();
        assert_eq!(roles["detail"], "user admin");
        assert!(log.iter().all(|record| record["ip"] == "127.0.0.1"), "{log:?}");
        let text = json!(log).to_string();
        for secret in ["correct horse", "battery staple", "pbkdf2", "eyJ"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }

    async fn a_stolen_refresh_token_is_told(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let root = app.admin_token(&database).await;
        let stolen = app.pair_of("alice").await;
        let renewed = app.refresh(&stolen.refresh_token()).await;
        app.refresh(&renewed.refresh_token()).await;

        let thief = app.request(Method::POST, "/auth/refresh").header("user-agent", "thief/1.0");
        send(thief.json(&json!({ "refresh_token": stolen.refresh_token() }))).await;

        let log = records(&app, &root, "action=session.refresh_token_reused").await;
        let alice = claims(&stolen.access_token());
        assert_eq!(log.len(), 1, "{log:?}");
        assert_eq!(log[0]["actor"], Value::Null);
        assert_eq!((&log[0]["subject"], &log[0]["session"]), (&alice["sub"], &alice["sid"]));
        assert_eq!(log[0]["user_agent"], "thief/1.0");
    }

    async fn what_came_to_nothing_is_not_told(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let root = app.admin_token(&database).await;
        let before = records(&app, &root, "").await;

        app.register("root", "correct horse").await;
        app.log_in("root", "battery staple").await;
        let path = format!("/admin/users/{}", claims(&root)["sub"].as_str().unwrap());
        assert_eq!(app.with_token(Method::DELETE, &path, &root).await.status, 409);

        assert_eq!(records(&app, &root, "").await, before);
    }

    async fn the_log_is_read_a_page_at_a_time_and_by_filters(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let root = app.admin_token(&database).await;
        let alice = app.token_of("alice").await;
        app.log_out(&alice).await;
        let get = async |query: &str| {
            app.with_token(Method::GET, &format!("/admin/audit?{query}"), &root).await
        };
        let alice = claims(&alice)["sub"].as_str().unwrap().to_owned();

        let all = records(&app, &root, &format!("subject={alice}")).await;
        let first = get(&format!("subject={alice}&limit=2")).await;
        let next = first.body["next"].as_i64().unwrap();
        let second = get(&format!("subject={alice}&limit=2&after={next}")).await;

        assert_eq!(all.len(), 3, "{all:?}");
        assert_eq!(first.body["records"], json!(all[..2]));
        assert_eq!(second.body, json!({ "records": all[2..], "next": null }));
        assert_eq!(records(&app, &root, &format!("actor={alice}")).await, all[..2]);
        assert_eq!(records(&app, &root, "since=2100-01-01T00:00:00Z").await, [] as [Value; 0]);
        assert_eq!(records(&app, &root, "until=2000-01-01T00:00:00%2B01:00").await, [] as [Value; 0]);
        for query in ["action=x", "actor=alice", "since=today", "limit=0", "after=x"] {
            let refused = get(query).await;
            assert_eq!((refused.status.as_u16(), &refused.body["code"]), (400, &json!("invalid_query")));
        }
    }

    async fn the_log_forgets_after_the_retention(database: TestDatabase) {
        let app = TestApp::start_with(&database, |config| {
            config.audit_retention = Duration::from_hours(2);
            config.revocations.sweep_interval = Duration::from_millis(20);
        }).await;
        app.admin_token(&database).await;
        app.clock.advance(Duration::from_hours(3));

        let root = app.another_token_of("root").await;

        eventually("what is old is gone", async || records(&app, &root, "").await.len() == 1).await;
    }

    async fn the_address_is_that_of_the_client_behind_a_trusted_proxy(database: TestDatabase) {
        let trusting = TestApp::start_with(&database, |config| {
            config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        }).await;
        let wary = TestApp::start(&database).await;
        let root = trusting.admin_token(&database).await;
        for app in [&trusting, &wary] {
            let login = app.request(Method::POST, "/auth/login");
            let login = login.header("x-forwarded-for", "6.6.6.6, 192.0.2.7");
            send(login.json(&credentials("root", "correct horse"))).await;
        }

        let log = records(&wary, &root, "action=session.opened&limit=2").await;

        assert_eq!((&log[1]["ip"], &log[0]["ip"]), (&json!("192.0.2.7"), &json!("127.0.0.1")));
    }
}
