//! Reset codes: made by an administrator, used once by the user.

use std::time::Duration;

use futures_util::future::join_all;
use portcullis::domain::{Blocklist, PasswordPolicy};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, TestApp, TestDatabase, decode_claims, on_both_databases, send};

on_both_databases![
    reset_code_sets_a_new_password_once,
    refused_reset_uses_no_code_up,
    only_one_concurrent_reset_succeeds,
    code_expires_by_the_clock_of_the_database,
    change_of_the_account_voids_its_code,
    requester_needs_the_permissions_of_the_account,
    resets_are_paced_for_each_address,
];

const NEW_PASSWORD: &str = "battery staple";

/// The application with the administrator `root` and the user `alice`.
struct Fixture {
    app: TestApp,
    root: String,
    /// Login of `alice`.
    alice: Reply,
}

impl Fixture {
    async fn new(app: TestApp, database: &TestDatabase) -> Self {
        let root = app.register_admin(database).await;
        let alice = app.register_and_open_session("alice").await;
        Self { app, root, alice }
    }

    async fn start(database: &TestDatabase) -> Self {
        Self::new(TestApp::start(database).await, database).await
    }

    fn path(&self) -> String {
        let claims = decode_claims(&self.alice.access_token());
        format!("/admin/users/{}", claims["sub"].as_str().unwrap())
    }

    async fn send_as_root(&self, method: Method, path: &str, body: &Value) -> Reply {
        let reply = send(self.app.request(method, path).bearer_auth(&self.root).json(body)).await;
        assert!(reply.status.is_success(), "{path}: {reply:?}");
        reply
    }

    /// Makes a reset code for `alice`.
    async fn create_code(&self) -> String {
        let path = format!("{}/reset", self.path());
        let created = self.app.send_with_token(Method::POST, &path, &self.root).await;
        assert_eq!((created.status.as_u16(), &created.body["expires_in"]), (201, &json!(3600)));
        created.body["reset_code"].as_str().unwrap().to_owned()
    }

    async fn reset(&self, code: &str, password: &str) -> Reply {
        reset(&self.app, code, password).await
    }

    #[track_caller]
    fn assert_invalid(refused: &Reply) {
        refused.assert_error(401, "invalid_reset_code", "Invalid reset code");
    }
}

async fn reset(app: &TestApp, code: &str, password: &str) -> Reply {
    app.post("/auth/reset", &json!({ "reset_code": code, "new_password": password })).await
}

async fn reset_code_sets_a_new_password_once(database: TestDatabase) {
    let fixture = Fixture::start(&database).await;
    let app = &fixture.app;

    let code = fixture.create_code().await;
    let status_before = app.dashboard(&fixture.alice.access_token()).await.status;
    let reset = fixture.reset(&code, NEW_PASSWORD).await;

    assert!(code.starts_with("pcr_") && code.len() == 47, "{code}");
    assert_eq!(status_before, 200, "a code ends no session");
    reset.assert(200, &json!({ "msg": "Password changed" }));
    assert_eq!(app.dashboard(&fixture.alice.access_token()).await.status, 401);
    assert_eq!(app.refresh(&fixture.alice.refresh_token()).await.status, 401);
    assert_eq!(app.log_in("alice", "correct horse").await.status, 401);
    assert_eq!(app.log_in("alice", NEW_PASSWORD).await.status, 200);
    Fixture::assert_invalid(&fixture.reset(&code, "another password").await);

    let id = fixture.path().rsplit('/').next().unwrap().to_owned();
    let log = format!("/admin/audit?subject={id}");
    let log = app.send_with_token(Method::GET, &log, &fixture.root).await;
    let records = log.body["records"].as_array().unwrap();
    let find = |action| records.iter().find(|record| record["action"] == action).unwrap();
    let created = find("user.reset_code_created");
    assert_eq!(created["actor"], decode_claims(&fixture.root)["sub"]);
    let used = find("user.password_reset");
    assert_eq!((&used["actor"], &used["ip"]), (&Value::Null, &json!("127.0.0.1")));
    for record in [created, used] {
        assert_eq!(record["detail"], "alice");
    }
    let count = records.iter().filter(|record| record["action"] == "user.password_reset").count();
    assert_eq!(count, 1, "a refused reset is no reset");
}

async fn refused_reset_uses_no_code_up(database: TestDatabase) {
    let blocklist = Blocklist::from_lines("battery staples");
    let app = TestApp::start_with(&database, |config| {
        config.passwords = PasswordPolicy::new(12, Some(blocklist));
    });
    let fixture = Fixture::new(app.await, &database).await;
    let path = fixture.path();
    fixture.app.register("alice-in-chains", "correct horse").await;
    let code = fixture.create_code().await;
    let post = async |body: Value| fixture.app.post("/auth/reset", &body).await;

    for (body, code) in [
        (json!({ "new_password": NEW_PASSWORD }), "missing_reset_code"),
        (json!({ "reset_code": code }), "missing_password"),
        (json!({ "reset_code": code, "new_password": "" }), "missing_password"),
        (json!({ "reset_code": code, "new_password": "eleven char" }), "invalid_password"),
        (json!({ "reset_code": code, "new_password": "Battery Staples" }), "password_too_common"),
    ] {
        post(body).await.assert_code(400, code);
    }
    let unknown = format!("pcr_{}", "x".repeat(43));
    for wrong in ["", "x", &unknown, &code[4..], &code.to_uppercase()] {
        Fixture::assert_invalid(&fixture.reset(wrong, NEW_PASSWORD).await);
    }

    assert_eq!(fixture.app.log_in("alice", "correct horse").await.status, 200);
    assert_eq!(fixture.reset(&code, NEW_PASSWORD).await.status, 200, "the code is not used up");
    // `alice` is too short to be a password.
    let others = fixture.app.log_in("alice-in-chains", "correct horse").await;
    let id = decode_claims(&others.access_token())["sub"].as_str().unwrap().to_owned();
    let other_path = format!("/admin/users/{id}/reset");
    assert_ne!(other_path, format!("{path}/reset"));
    let created = fixture.send_as_root(Method::POST, &other_path, &json!({})).await;
    let code = created.body["reset_code"].as_str().unwrap();
    fixture.reset(code, "Alice-in-Chains").await.assert_code(400, "password_too_common");
    assert_eq!(fixture.reset(code, NEW_PASSWORD).await.status, 200);
}

async fn only_one_concurrent_reset_succeeds(database: TestDatabase) {
    let fixture = Fixture::start(&database).await;
    let code = fixture.create_code().await;
    let passwords: Vec<_> = (0..8).map(|number| format!("{NEW_PASSWORD} {number}")).collect();

    let resets = passwords.iter().map(|password| fixture.reset(&code, password));
    let replies = join_all(resets).await;

    let winners: Vec<_> =
        replies.iter().zip(&passwords).filter(|(reply, _)| reply.status == 200).collect();
    assert_eq!(winners.len(), 1, "{replies:?}");
    for refused in replies.iter().filter(|reply| reply.status != 200) {
        Fixture::assert_invalid(refused);
    }
    let log_in = async |password| fixture.app.log_in("alice", password).await.status;
    assert_eq!(log_in(winners[0].1).await, 200);
}

async fn code_expires_by_the_clock_of_the_database(database: TestDatabase) {
    let app = TestApp::start_with_own_clock(&database, |_| {}).await;
    let mut fixture = Fixture::new(app, &database).await;
    let age_code = async |minutes: u32| {
        let age = match &database {
            TestDatabase::Postgres { .. } => format!("interval '{minutes} minutes'"),
            TestDatabase::Sqlite(_) => format!("{minutes} * 60000000"),
        };
        let statement = "update users set reset_code_expires_at = reset_code_expires_at";
        database.execute(format!("{statement} - {age}")).await;
    };

    let code = fixture.create_code().await;
    age_code(55).await;
    fixture.app.clock.advance(Duration::from_hours(2));
    let reset = fixture.reset(&code, NEW_PASSWORD).await;
    assert_eq!(reset.status, 200, "the clock of the instance does not count: {reset:?}");

    fixture.root = fixture.app.log_in_for_token("root").await;
    let code = fixture.create_code().await;
    age_code(60).await;
    Fixture::assert_invalid(&fixture.reset(&code, "another password").await);
    assert_eq!(fixture.app.log_in("alice", NEW_PASSWORD).await.status, 200);
}

async fn change_of_the_account_voids_its_code(database: TestDatabase) {
    let fixture = Fixture::start(&database).await;
    let path = fixture.path();
    let change = async |method, route: &str, body: Value| {
        fixture.send_as_root(method, &format!("{path}{route}"), &body).await;
    };
    let assert_void = async |code: String, reason: &str| {
        let refused = fixture.reset(&code, NEW_PASSWORD).await;
        assert_eq!(refused.body["code"], "invalid_reset_code", "{reason}: {refused:?}");
    };

    let replaced = fixture.create_code().await;
    let code = fixture.create_code().await;
    assert_void(replaced, "replaced").await;
    let body = json!({ "current_password": "correct horse", "new_password": "correct horse 2" });
    let own_change = fixture.app.request(Method::PUT, "/auth/password");
    let own_change = own_change.bearer_auth(fixture.alice.access_token()).json(&body);
    assert_eq!(send(own_change).await.status, 200);
    assert_void(code, "own change of the password").await;

    let code = fixture.create_code().await;
    change(Method::PUT, "/password", json!({ "password": "correct horse" })).await;
    assert_void(code, "change of the password").await;
    let code = fixture.create_code().await;
    change(Method::PUT, "/roles", json!({ "roles": ["user", "admin"] })).await;
    assert_void(code, "new roles").await;
    let code = fixture.create_code().await;
    change(Method::POST, "/disable", json!({})).await;
    assert_void(code.clone(), "disabled").await;
    change(Method::POST, "/enable", json!({})).await;
    assert_void(code, "enabled again").await;

    let code = fixture.create_code().await;
    change(Method::DELETE, "/sessions", json!({})).await;
    assert_eq!(fixture.reset(&code, NEW_PASSWORD).await.status, 200, "sessions are no change");
    let code = fixture.create_code().await;
    change(Method::DELETE, "", json!({})).await;
    assert_void(code, "deleted").await;
}

async fn requester_needs_the_permissions_of_the_account(database: TestDatabase) {
    let fixture = Fixture::start(&database).await;
    let app = &fixture.app;
    let permissions = json!({ "permissions": ["users:write"] });
    fixture.send_as_root(Method::PUT, "/admin/roles/helpdesk", &permissions).await;
    let mut helper = json!({ "username": "helper", "password": "correct horse" });
    helper["roles"] = json!(["user", "helpdesk"]);
    fixture.send_as_root(Method::POST, "/admin/users", &helper).await;
    let helper = app.log_in_for_token("helper").await;
    let create = async |token: &str, path: &str| {
        app.send_with_token(Method::POST, &format!("{path}/reset"), token).await
    };
    let root_path =
        format!("/admin/users/{}", decode_claims(&fixture.root)["sub"].as_str().unwrap());
    let alice_path = fixture.path();

    let without_permission = create(&fixture.alice.access_token(), &alice_path).await;
    without_permission.assert_code(403, "permission_missing");
    create(&helper, &root_path).await.assert_code(403, "permissions_lacking");
    let unknown = "/admin/users/00000000-0000-4000-8000-000000000000";
    create(&helper, unknown).await.assert_code(404, "not_found");
    assert_eq!(create(&helper, &alice_path).await.status, 201);

    fixture.send_as_root(Method::POST, &format!("{alice_path}/disable"), &json!({})).await;
    create(&fixture.root, &alice_path).await.assert_error(
        409,
        "user_disabled",
        "The account is disabled",
    );
}

async fn resets_are_paced_for_each_address(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        config.http.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    });
    let fixture = Fixture::new(app.await, &database).await;
    let app = &fixture.app;
    let code = fixture.create_code().await;
    let hashes = "portcullis_hash_jobs_total{outcome=\"completed\"}";
    let hashes_before = app.metric(hashes).await;
    let attempt = async |address: &str, code: &str| {
        let body = json!({ "reset_code": code, "new_password": NEW_PASSWORD });
        let request = app.request(Method::POST, "/auth/reset").json(&body);
        send(request.header("x-forwarded-for", address)).await
    };

    for _ in 0..10 {
        Fixture::assert_invalid(&attempt("192.0.2.7", "pcr_wrong").await);
    }
    for code in ["pcr_wrong", &code] {
        let refused = attempt("192.0.2.7", code).await;
        refused.assert_error(429, "too_many_attempts", "Too many attempts, try again later");
        assert_eq!(refused.header("retry-after"), Some("6"));
    }
    Fixture::assert_invalid(&attempt("192.0.2.8", "pcr_wrong").await);

    assert_eq!(app.metric(hashes).await, hashes_before, "no refusal costs a hash");
    app.clock.advance(Duration::from_secs(6));
    assert_eq!(attempt("192.0.2.7", &code).await.status, 200);
    for (outcome, count) in [("success", 1), ("invalid_code", 11), ("too_many_attempts", 2)] {
        let sample = format!("portcullis_password_resets_total{{outcome=\"{outcome}\"}}");
        assert_eq!(app.metric(&sample).await, count, "{outcome}");
    }
}
