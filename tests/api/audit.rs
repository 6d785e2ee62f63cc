//! The audit log.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::commands::run;
use crate::support::{
    Process, Reply, TestApp, TestDatabase, credentials, decode_claims, eventually,
    on_both_databases, send,
};

on_both_databases![
    user_actions_are_audited,
    administrator_actions_are_audited,
    token_revocation_is_audited_once,
    refresh_token_replay_is_audited,
    refresh_token_retries_are_audited_at_a_bounded_rate,
    failed_actions_are_not_audited,
    unreadable_records_fail_no_list,
    refused_logins_are_recorded_at_a_bounded_rate,
    audit_log_supports_pages_and_filters,
    old_records_are_deleted_after_retention,
    deleted_account_is_redacted_after_its_retention,
    account_that_was_imported_again_is_not_redacted,
    long_log_of_a_deleted_account_is_redacted_in_batches,
    forwarded_address_requires_trusted_proxy,
];

const NEW_PASSWORD: &str = "battery staple";

async fn read_records(app: &TestApp, token: &str, query: &str) -> Vec<Value> {
    let path = format!("/admin/audit?{query}");
    let reply = app.send_with_token(Method::GET, &path, token).await;
    reply.body["records"].as_array().unwrap_or_else(|| panic!("no records: {reply:?}")).clone()
}

/// Lists the recorded actions, oldest first, and whether this user performed them.
fn actions_by<'a>(records: &'a [Value], actor: &Value) -> Vec<(&'a str, bool)> {
    let describe =
        |record: &'a Value| (record["action"].as_str().unwrap(), record["actor"] == *actor);
    records.iter().rev().map(describe).collect()
}

/// Sends a request and asserts that it succeeds.
async fn send_successfully(
    app: &TestApp,
    method: Method,
    path: &str,
    token: &str,
    body: &Value,
) -> Reply {
    let reply = send(app.request(method, path).bearer_auth(token).json(body)).await;
    assert!(reply.status.is_success(), "{path}: {reply:?}");
    reply
}

async fn user_actions_are_audited(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let root = app.register_admin(&database).await;
    let token = app.register_and_log_in("alice").await;
    let new_password = json!({ "current_password": "correct horse", "new_password": NEW_PASSWORD });
    send_successfully(&app, Method::PUT, "/auth/password", &token, &new_password).await;
    let path = format!("/auth/sessions/{}", decode_claims(&token)["sid"].as_str().unwrap());
    send_successfully(&app, Method::DELETE, &path, &token, &json!({})).await;
    for (method, path) in [
        (Method::POST, "/auth/logout"),
        (Method::POST, "/auth/logout-all"),
        (Method::DELETE, "/auth/me"),
    ] {
        let token = app.log_in("alice", NEW_PASSWORD).await.access_token();
        send_successfully(&app, method, path, &token, &json!({ "password": NEW_PASSWORD })).await;
    }

    let alice = decode_claims(&token)["sub"].as_str().unwrap().to_owned();
    let log = read_records(&app, &root, &format!("subject={alice}")).await;
    assert_eq!(
        actions_by(&log, &json!(alice)),
        [
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
        ]
    );
    assert!(log.iter().all(|record| record["ip"] == "127.0.0.1"), "{log:?}");
    let text = json!(log).to_string();
    for secret in ["correct horse", NEW_PASSWORD, "pbkdf2", "eyJ"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

async fn administrator_actions_are_audited(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let root = app.register_admin(&database).await;
    let bob = credentials("bob", "correct horse");
    let created = send_successfully(&app, Method::POST, "/admin/users", &root, &bob).await;
    let bob_id = created.body["id"].as_str().unwrap();
    let path = format!("/admin/users/{bob_id}");
    let body = json!({ "roles": ["user", "admin"], "password": NEW_PASSWORD });
    for (method, subpath) in [
        (Method::PUT, "/roles"),
        (Method::PUT, "/password"),
        (Method::POST, "/disable"),
        (Method::POST, "/enable"),
        (Method::DELETE, "/sessions"),
        (Method::DELETE, ""),
    ] {
        send_successfully(&app, method, &format!("{path}{subpath}"), &root, &body).await;
    }

    let log = read_records(&app, &root, &format!("subject={bob_id}")).await;
    assert_eq!(
        actions_by(&log, &decode_claims(&root)["sub"]),
        [
            ("user.created", true),
            ("user.roles_changed", true),
            ("user.password_changed", true),
            ("user.disabled", true),
            ("user.enabled", true),
            ("session.all_ended", true),
            ("user.deleted", true),
        ]
    );
    assert_eq!((&log[5]["detail"], &log[6]["detail"]), (&json!("admin user"), &json!("bob: user")));
}

async fn token_revocation_is_audited_once(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let root = app.register_admin(&database).await;
    let token = app.register_and_log_in("alice").await;
    for _ in 0..2 {
        let request = app
            .request(Method::POST, "/oauth/revoke")
            .bearer_auth(&root)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("token={token}"));
        assert_eq!(send(request).await.status, 200);
    }

    let log = read_records(&app, &root, "action=token.revoked").await;

    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(
        (&log[0]["actor"], &log[0]["subject"]),
        (&decode_claims(&root)["sub"], &decode_claims(&token)["sub"])
    );
    assert_eq!(log[0]["detail"], decode_claims(&token)["jti"]);
}

async fn refresh_token_replay_is_audited(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let root = app.register_admin(&database).await;
    let stolen = app.register_and_open_session("alice").await;
    let renewed = app.refresh(&stolen.refresh_token()).await;
    app.refresh(&renewed.refresh_token()).await;

    let replay = app.request(Method::POST, "/auth/refresh").header("user-agent", "thief/1.0");
    send(replay.json(&json!({ "refresh_token": stolen.refresh_token() }))).await;

    let log = read_records(&app, &root, "action=session.refresh_token_reused").await;
    let claims = decode_claims(&stolen.access_token());
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(log[0]["actor"], Value::Null);
    assert_eq!((&log[0]["subject"], &log[0]["session"]), (&claims["sub"], &claims["sid"]));
    assert_eq!(log[0]["user_agent"], "thief/1.0");
}

async fn refresh_token_retries_are_audited_at_a_bounded_rate(database: TestDatabase) {
    let app = TestApp::start_with_own_clock(&database, |_| {}).await;
    let root = app.register_admin(&database).await;
    let first = app.register_and_open_session("alice").await;
    app.refresh(&first.refresh_token()).await;
    let retry = async || {
        let request = app.request(Method::POST, "/auth/refresh").header("user-agent", "phone/1.0");
        let body = json!({ "refresh_token": first.refresh_token() });
        assert_eq!(send(request.json(&body)).await.status, 200);
    };
    let records =
        async || read_records(&app, &root, "action=session.refresh_token_retried&limit=200").await;

    for _ in 0..14 {
        retry().await;
    }

    eventually("ten retries are recorded", async || records().await.len() >= 10).await;
    app.clock.advance(Duration::from_mins(1));
    retry().await;
    eventually("one more retry is recorded", async || records().await.len() == 11).await;
    let log = records().await;
    assert_eq!(log[0]["detail"], "4 more since the last record");
    let claims = decode_claims(&first.access_token());
    for record in &log {
        assert_eq!((&record["subject"], &record["session"]), (&claims["sub"], &claims["sid"]));
        assert_eq!((&record["actor"], &record["user_agent"]), (&Value::Null, &json!("phone/1.0")));
    }
    assert_eq!(app.metric("portcullis_refresh_tokens_retried_total").await, 15);
}

async fn failed_actions_are_not_audited(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let root = app.register_admin(&database).await;
    let before = read_records(&app, &root, "").await;

    app.register("root", "correct horse").await;
    let path = format!("/admin/users/{}", decode_claims(&root)["sub"].as_str().unwrap());
    assert_eq!(app.send_with_token(Method::DELETE, &path, &root).await.status, 409);

    assert_eq!(read_records(&app, &root, "").await, before);
}

async fn unreadable_records_fail_no_list(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let root = app.register_admin(&database).await;
    let impossible_time = match database {
        TestDatabase::Postgres { .. } => "'infinity'",
        TestDatabase::Sqlite(_) => "9223372036854775807",
    };
    for statement in [
        "update audit_log set action = 'user.promoted' where action = 'user.registered'",
        &format!("update audit_log set at = {impossible_time} where action = 'session.opened'"),
    ] {
        database.execute(statement).await;
    }

    let mut log = read_records(&app, &root, "").await;

    log.retain(|record| record["subject"] != Value::Null);
    assert_eq!(log.len(), 2, "{log:?}");
    assert_eq!(
        (&log[0]["action"], &log[0]["broken"]),
        (&json!("session.opened"), &json!("audit_log.at"))
    );
    assert_eq!((&log[1]["action"], &log[1]["broken"]), (&json!("user.promoted"), &Value::Null));
}

async fn refused_logins_are_recorded_at_a_bounded_rate(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        // The test moves the clock, after which a stale instance refuses logins.
        config.revocations.max_staleness = Duration::from_hours(1);
        config.throttle.login.free = 50;
    })
    .await;
    let root = app.register_admin(&database).await;
    let alice = decode_claims(&app.register_and_log_in("alice").await);
    let guess = async |username: &str| {
        let login = app.request(Method::POST, "/auth/login").header("user-agent", "guesser/1.0");
        let login = login.header("x-forwarded-for", "203.0.113.66");
        send(login.json(&credentials(username, "wrong guess"))).await
    };
    let refusals = async || read_records(&app, &root, "action=login.refused").await;

    for _ in 0..14 {
        guess("Alice").await.assert_code(401, "invalid_credentials");
    }
    guess("stranger").await.assert_code(401, "invalid_credentials");

    eventually("ten refusals are recorded", async || refusals().await.len() >= 10).await;
    app.clock.advance(Duration::from_mins(1));
    guess("ALICE").await.assert_code(401, "invalid_credentials");
    eventually("one more refusal is recorded", async || refusals().await.len() == 11).await;
    let log = refusals().await;
    assert_eq!(log[0]["detail"], "alice (4 more since the last record)");
    assert_eq!(log[1]["detail"], "alice");
    for record in &log {
        assert_eq!((&record["subject"], &record["actor"]), (&alice["sub"], &Value::Null));
        assert_eq!(
            (&record["ip"], &record["user_agent"]),
            (&json!("203.0.113.66"), &json!("guesser/1.0"))
        );
    }
}

async fn audit_log_supports_pages_and_filters(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let root = app.register_admin(&database).await;
    let token = app.register_and_log_in("alice").await;
    app.log_out(&token).await;
    let get = async |query: &str| {
        app.send_with_token(Method::GET, &format!("/admin/audit?{query}"), &root).await
    };
    let alice = decode_claims(&token)["sub"].as_str().unwrap().to_owned();

    let all = read_records(&app, &root, &format!("subject={alice}")).await;
    let first = get(&format!("subject={alice}&limit=2")).await;
    let next = first.body["next"].as_i64().unwrap();
    let second = get(&format!("subject={alice}&limit=2&after={next}")).await;

    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(first.body["records"], json!(all[..2]));
    assert_eq!(second.body, json!({ "records": all[2..], "next": null }));
    assert_eq!(read_records(&app, &root, &format!("actor={alice}")).await, all[..2]);
    assert_eq!(read_records(&app, &root, "since=2100-01-01T00:00:00Z").await, [] as [Value; 0]);
    assert_eq!(
        read_records(&app, &root, "until=2000-01-01T00:00:00%2B01:00").await,
        [] as [Value; 0]
    );
    for query in [
        "action=x",
        "actor=alice",
        "since=today",
        "since=9999-12-31T23:59:59-01:00",
        "limit=0",
        "after=x",
    ] {
        let refused = get(query).await;
        refused.assert_code(400, "invalid_query");
    }
}

async fn old_records_are_deleted_after_retention(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        config.audit_retention = Duration::from_hours(2);
        config.revocations.sweep_interval = Duration::from_millis(20);
    })
    .await;
    let root = app.register_admin(&database).await;
    database
        .execute(match &database {
            TestDatabase::Postgres { .. } => "update audit_log set at = at - interval '3 hours'",
            TestDatabase::Sqlite(_) => "update audit_log set at = at - 10800000000",
        })
        .await;

    eventually("the old records are deleted", async || {
        read_records(&app, &root, "").await.is_empty()
    })
    .await;
}

/// Moves the audit log into the past.
async fn age_records(database: &TestDatabase, hours: u32) {
    let update = match database {
        TestDatabase::Postgres { .. } => {
            format!("update audit_log set at = at - interval '{hours} hours'")
        }
        TestDatabase::Sqlite(_) => {
            format!("update audit_log set at = at - {}", u64::from(hours) * 3_600_000_000)
        }
    };
    database.execute(update).await;
}

/// Starts an instance that redacts accounts an hour after their deletion.
async fn start_redacting(database: &TestDatabase) -> TestApp {
    TestApp::start_with(database, |config| {
        config.deleted_account_retention = Duration::from_hours(1);
        config.revocations.sweep_interval = Duration::from_millis(20);
    })
    .await
}

fn id_of(token: &str) -> String {
    decode_claims(token)["sub"].as_str().unwrap().to_owned()
}

/// Returns the record of the deletion of an account.
async fn read_deletion(app: &TestApp, token: &str, id: &str) -> Value {
    read_records(app, token, &format!("subject={id}&action=user.deleted")).await.remove(0)
}

async fn deleted_account_is_redacted_after_its_retention(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let root = app.register_admin(&database).await;
    let bob = app.register_and_log_in("bob").await;
    let alice = app.register_and_log_in("alice").await;
    let path = format!("/admin/users/{}", id_of(&alice));
    let roles = json!({ "roles": ["user", "admin"] });
    send_successfully(&app, Method::PUT, &format!("{path}/roles"), &root, &roles).await;
    // An administrator, too, who acts on another account before it is deleted.
    let alice = app.log_in_for_token("alice").await;
    let bobs = format!("/admin/users/{}/disable", id_of(&bob));
    send_successfully(&app, Method::POST, &bobs, &alice, &json!({})).await;
    app.log_in("alice", "wrong password").await;
    eventually("the refusal is recorded", async || {
        !read_records(&app, &root, "action=login.refused").await.is_empty()
    })
    .await;
    send_successfully(&app, Method::DELETE, &path, &root, &json!({})).await;
    age_records(&database, 2).await;
    // Another account with the same name, deleted not long enough ago.
    let second = app.register_and_log_in("alice").await;
    let second_path = format!("/admin/users/{}", id_of(&second));
    send_successfully(&app, Method::DELETE, &second_path, &root, &json!({})).await;
    app.register_and_log_in("alice").await;
    let before = read_records(&app, &root, "limit=100").await;

    let cleaning = start_redacting(&database).await;
    eventually("the deletion is redacted", async || {
        read_deletion(&cleaning, &root, &id_of(&alice)).await["detail"].is_null()
    })
    .await;

    let after = read_records(&app, &root, "limit=100").await;
    assert_redacted(&json!(id_of(&alice)), &json!(id_of(&root)), before, &after);
}

/// Asserts that the records of Alice, and those alone, have lost her name and addresses.
fn assert_redacted(alice: &Value, root: &Value, before: Vec<Value>, after: &[Value]) {
    assert_eq!(before.len(), after.len());
    for (mut record, redacted) in before.into_iter().zip(after) {
        if record["subject"] == *alice {
            record["detail"] = Value::Null;
        }
        let is_anonymous_about_alice = record["actor"].is_null() && record["subject"] == *alice;
        if record["actor"] == *alice || is_anonymous_about_alice {
            record["ip"] = Value::Null;
            record["user_agent"] = Value::Null;
        }
        assert_eq!(record, *redacted);
    }
    let by_root = |record: &&Value| record["actor"] == *root && record["subject"] == *alice;
    assert!(after.iter().filter(by_root).all(|record| record["ip"] == "127.0.0.1"), "{after:?}");
    let on_bob = |record: &&Value| record["actor"] == *alice && record["subject"] != *alice;
    assert_eq!(after.iter().find(on_bob).unwrap()["detail"], "bob");
}

async fn account_that_was_imported_again_is_not_redacted(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let root = app.register_admin(&database).await;
    let [alice, bob] =
        [app.register_and_log_in("alice").await, app.register_and_log_in("bob").await]
            .map(|token| id_of(&token));
    for id in [&alice, &bob] {
        let path = format!("/admin/users/{id}");
        send_successfully(&app, Method::DELETE, &path, &root, &json!({})).await;
    }
    let row = json!({ "username": "alice", "password_hash": "!", "id": alice });
    let imported = run(&mut Process::command(&database), "user import -", &row.to_string()).await;
    assert_eq!(imported.exit_code, Some(0), "{imported:?}");
    age_records(&database, 2).await;

    let cleaning = start_redacting(&database).await;

    // Bob was deleted after Alice, and is redacted after her.
    eventually("the other deletion is redacted", async || {
        read_deletion(&cleaning, &root, &bob).await["detail"].is_null()
    })
    .await;
    assert_eq!(read_deletion(&cleaning, &root, &alice).await["detail"], "alice");
}

async fn long_log_of_a_deleted_account_is_redacted_in_batches(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let root = app.register_admin(&database).await;
    let token = app.register_and_log_in("alice").await;
    let insert = match &database {
        TestDatabase::Postgres { .. } => {
            "insert into audit_log (at, action, actor_id, subject_id, detail, address, user_agent)
             select now(), 'token.revoked', id, id, 'x', '::1', 'x'
             from users, generate_series(1, 2500) where username = 'alice'"
        }
        TestDatabase::Sqlite(_) => {
            "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < 2500)
             insert into audit_log (at, action, actor_id, subject_id, detail, address, user_agent)
             select unixepoch() * 1000000, 'token.revoked', id, id, 'x', '::1', 'x'
             from users, numbers where username = 'alice'"
        }
    };
    database.execute(insert).await;
    let password = json!({ "password": "correct horse" });
    send_successfully(&app, Method::DELETE, "/auth/me", &token, &password).await;

    let cleaning = TestApp::start_with(&database, |config| {
        config.deleted_account_retention = Duration::ZERO;
        config.revocations.sweep_interval = Duration::from_millis(20);
    })
    .await;
    eventually("the deletion is redacted", async || {
        read_records(&cleaning, &root, "action=user.deleted").await[0]["detail"].is_null()
    })
    .await;

    let alice = decode_claims(&token)["sub"].as_str().unwrap().to_owned();
    let mut page = format!("/admin/audit?subject={alice}&limit=100");
    let mut count = 0;
    loop {
        let reply = app.send_with_token(Method::GET, &page, &root).await;
        for record in reply.body["records"].as_array().unwrap() {
            count += 1;
            assert!(record["detail"].is_null() && record["ip"].is_null(), "{record}");
        }
        let Some(next) = reply.body["next"].as_i64() else { break };
        page = format!("/admin/audit?subject={alice}&limit=100&after={next}");
    }
    assert!(count > 2_500, "{count}");
}

async fn forwarded_address_requires_trusted_proxy(database: TestDatabase) {
    let trusting = TestApp::start_with(&database, |config| {
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let distrusting = TestApp::start(&database).await;
    let root = trusting.register_admin(&database).await;
    for app in [&trusting, &distrusting] {
        let login = app
            .request(Method::POST, "/auth/login")
            .header("x-forwarded-for", "6.6.6.6, 192.0.2.7")
            .json(&credentials("root", "correct horse"));
        send(login).await;
    }

    let log = read_records(&distrusting, &root, "action=session.opened&limit=2").await;

    assert_eq!((&log[1]["ip"], &log[0]["ip"]), (&json!("192.0.2.7"), &json!("127.0.0.1")));
}
