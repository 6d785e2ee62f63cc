//! The record of who did what, to whom, when, and from where.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Reply, TestApp, TestDatabase, claims, credentials, eventually, on_both_databases, send,
};

async fn records(app: &TestApp, token: &str, query: &str) -> Vec<Value> {
    let reply = app.with_token(Method::GET, &format!("/admin/audit?{query}"), token).await;
    reply.body["records"].as_array().unwrap_or_else(|| panic!("no records: {reply:?}")).clone()
}

const NEW: &str = "battery staple";

/// Lists what was done, the first of it first, and whether somebody did it.
fn actions_by<'a>(records: &'a [Value], actor: &Value) -> Vec<(&'a str, bool)> {
    let told = |record: &'a Value| (record["action"].as_str().unwrap(), record["actor"] == *actor);
    records.iter().rev().map(told).collect()
}

async fn tell(app: &TestApp, method: Method, path: &str, token: &str, body: &Value) -> Reply {
    let reply = send(app.request(method, path).bearer_auth(token).json(body)).await;
    assert!(reply.status.is_success(), "{path}: {reply:?}");
    reply
}

on_both_databases! {
    async fn what_users_do_to_their_accounts_and_sessions_is_told(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let root = app.admin_token(&database).await;
        let token = app.token_of("alice").await;
        let change = json!({ "current_password": "correct horse", "new_password": NEW });
        tell(&app, Method::PUT, "/auth/password", &token, &change).await;
        let session = format!("/auth/sessions/{}", claims(&token)["sid"].as_str().unwrap());
        tell(&app, Method::DELETE, &session, &token, &json!({})).await;
        for (method, path) in
            [(Method::POST, "/auth/logout"), (Method::POST, "/auth/logout-all"), (Method::DELETE, "/auth/me")]
        {
            let token = app.log_in("alice", NEW).await.access_token();
            tell(&app, method, path, &token, &json!({ "password": NEW })).await;
        }

        let alice = claims(&token)["sub"].as_str().unwrap().to_owned();
        let log = records(&app, &root, &format!("subject={alice}")).await;
        assert_eq!(actions_by(&log, &json!(alice)), [
            ("user.registered", false),
            ("session.opened", true),
            ("user.password_changed", true),
            ("session.ended", true),
            ("session.opened", true),
            ("session.ended", true),
            ("session.opened", true),
            ("session.all_ended", true),
            ("session.opened", true),
            ("user.deleted", true),
        ]);
        assert!(log.iter().all(|record| record["ip"] == "127.0.0.1"), "{log:?}");
        let text = json!(log).to_string();
        for secret in ["correct horse", NEW, "pbkdf2", "eyJ"] {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }

    async fn what_administrators_do_to_others_is_told(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let root = app.admin_token(&database).await;
        let new = credentials("bob", "correct horse");
        let bob = tell(&app, Method::POST, "/admin/users", &root, &new).await.body["id"].take();
        let path = format!("/admin/users/{}", bob.as_str().unwrap());
        let body = json!({ "roles": ["user", "admin"], "password": NEW });
        for (method, below) in [
            (Method::PUT, "/roles"),
            (Method::PUT, "/password"),
            (Method::POST, "/disable"),
            (Method::POST, "/enable"),
            (Method::DELETE, "/sessions"),
            (Method::DELETE, ""),
        ] {
            tell(&app, method, &format!("{path}{below}"), &root, &body).await;
        }

        let log = records(&app, &root, &format!("subject={}", bob.as_str().unwrap())).await;
        assert_eq!(actions_by(&log, &claims(&root)["sub"]), [
            ("user.created", true),
            ("user.roles_changed", true),
            ("user.password_changed", true),
            ("user.disabled", true),
            ("user.enabled", true),
            ("session.all_ended", true),
            ("user.deleted", true),
        ]);
        assert_eq!((&log[5]["detail"], &log[6]["detail"]), (&json!("user admin"), &json!("bob: user")));
    }

    async fn a_revoked_token_is_told_once(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let root = app.admin_token(&database).await;
        let token = app.token_of("alice").await;
        for _ in 0..2 {
            let form = app.request(Method::POST, "/oauth/revoke").bearer_auth(&root);
            let form = form.header("content-type", "application/x-www-form-urlencoded");
            assert_eq!(send(form.body(format!("token={token}"))).await.status, 200);
        }

        let log = records(&app, &root, "action=token.revoked").await;

        assert_eq!(log.len(), 1, "{log:?}");
        assert_eq!((&log[0]["actor"], &log[0]["subject"]), (&claims(&root)["sub"], &claims(&token)["sub"]));
        assert_eq!(log[0]["detail"], claims(&token)["jti"]);
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
        for query in ["action=x", "actor=alice", "since=today", "since=9999-12-31T23:59:59-01:00", "limit=0", "after=x"] {
            let refused = get(query).await;
            assert_eq!((refused.status.as_u16(), &refused.body["code"]), (400, &json!("invalid_query")));
        }
    }

    async fn the_log_forgets_after_the_retention(database: TestDatabase) {
        let app = TestApp::start_with(&database, |config| {
            config.audit_retention = Duration::from_hours(2);
            config.revocations.sweep_interval = Duration::from_millis(20);
        }).await;
        let root = app.admin_token(&database).await;
        database
            .execute(match &database {
                TestDatabase::Postgres { .. } => "update audit_log set at = at - interval '3 hours'",
                TestDatabase::Sqlite(_) => "update audit_log set at = at - 10800000000",
            })
            .await;

        eventually("what is old is gone", async || records(&app, &root, "").await.is_empty()).await;
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
