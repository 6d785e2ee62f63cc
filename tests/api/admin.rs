//! Administration of accounts.

use std::io::Error;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Reply, TestApp, TestDatabase, credentials, decode_claims, eventually, on_both_databases, send,
};

on_both_databases![
    created_account_has_requested_roles,
    invalid_or_taken_account_is_not_created,
    accounts_are_listed_in_pages,
    broken_accounts_are_listed_in_pages,
    disabled_account_is_locked_until_enabled,
    role_change_ends_tokens_with_old_roles,
    password_reset_ends_every_session,
    deleted_account_frees_its_username,
    admin_lists_and_ends_user_sessions,
    last_administrator_cannot_be_removed,
    admin_routes_require_an_administrator,
    unknown_account_is_not_found,
    accounts_are_filtered,
    unknown_query_parameters_are_refused,
    ended_session_reads_nothing,
    bearer_without_permission_is_refused_before_the_body,
    disabling_ends_tokens_on_other_instance,
];

/// A logged-in administrator.
struct Admin {
    app: TestApp,
    token: String,
}

impl Admin {
    async fn register(app: &TestApp, database: &TestDatabase) -> Self {
        Self { app: app.clone(), token: app.register_admin(database).await }
    }

    async fn send(&self, method: Method, path: &str) -> Reply {
        self.app.send_with_token(method, path, &self.token).await
    }

    async fn send_json(&self, method: Method, path: &str, body: &Value) -> Reply {
        send(self.app.request(method, path).bearer_auth(&self.token).json(body)).await
    }
}

/// Returns the administrative path of the account that owns a token.
fn account_path(token: &str) -> String {
    format!("/admin/users/{}", decode_claims(token)["sub"].as_str().unwrap())
}

fn list_usernames(page: &Reply) -> Vec<&str> {
    let users = page.body["users"].as_array().unwrap_or_else(|| panic!("no users: {page:?}"));
    users.iter().map(|user| user["username"].as_str().unwrap()).collect()
}

/// Routes below the path of an account.
const ACCOUNT_ROUTES: &[(Method, &str)] = &[
    (Method::GET, ""),
    (Method::DELETE, ""),
    (Method::POST, "/disable"),
    (Method::POST, "/enable"),
    (Method::PUT, "/roles"),
    (Method::PUT, "/password"),
    (Method::POST, "/reset"),
    (Method::GET, "/sessions"),
    (Method::DELETE, "/sessions"),
    (Method::DELETE, "/sessions/00000000-0000-4000-8000-000000000000"),
];

/// Returns a body that is valid for every route of an account.
fn universal_body() -> Value {
    json!({ "roles": ["user"], "password": "battery staple" })
}

async fn created_account_has_requested_roles(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    let mut body = credentials("Alice", "correct horse");
    body["roles"] = json!(["admin"]);

    let mut created = admin.send_json(Method::POST, "/admin/users", &body).await;

    let path = created.header("location").unwrap().to_owned();
    assert_eq!(admin.send(Method::GET, &path).await.body, created.body);
    let id = created.body["id"].take();
    assert_eq!(path, format!("/admin/users/{}", id.as_str().unwrap()));
    assert!(created.body["created_at"].take().is_string());
    created.assert(
        201,
        &json!({
            "id": null, "username": "Alice", "roles": ["admin"], "created_at": null,
            "permissions": [
                "audit:read", "clients:read", "clients:write", "dashboard:read", "keys:read",
                "keys:write", "revocations:read", "roles:read", "roles:write",
                "tokens:introspect", "tokens:revoke", "users:read", "users:write",
            ],
            "external_id": null, "metadata": {}, "disabled_at": null,
        }),
    );
    let token = app.log_in_for_token("alice").await;
    assert_eq!(app.send_with_token(Method::GET, "/admin/users", &token).await.status, 200);

    let bob = credentials("bob", "correct horse");
    let created = admin.send_json(Method::POST, "/admin/users", &bob).await;
    assert_eq!(created.body["roles"], json!(["user"]), "the default role is `user`");
}

async fn invalid_or_taken_account_is_not_created(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    let create = async |username, password, roles: Value| {
        let mut body = credentials(username, password);
        body["roles"] = roles;
        admin.send_json(Method::POST, "/admin/users", &body).await
    };
    app.register("alice", "correct horse").await;

    create("ALICE", "correct horse", json!([])).await.assert_code(409, "user_exists");
    create("", "correct horse", json!([])).await.assert_code(400, "missing_credentials");
    create("a b", "correct horse", json!([])).await.assert_code(400, "invalid_username");
    create("bob", "short", json!([])).await.assert_code(400, "invalid_password");
    create("bob", "correct horse", json!(["god"])).await.assert_code(400, "invalid_roles");
    create("bob", "correct horse", json!("user")).await.assert_code(400, "invalid_body");
}

async fn broken_accounts_are_listed_in_pages(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    for name in ["alice", "bob"] {
        app.register(name, "correct horse").await;
    }
    database
        .execute("update users set username_key = 'a\u{200b}', username = 'a\u{200b}' where username = 'alice'")
        .await;

    let first = admin.send(Method::GET, "/admin/users?limit=1").await;
    let second = admin.send(Method::GET, "/admin/users?limit=1&after=a%E2%80%8B").await;

    let broken = &first.body["users"][0];
    assert_eq!(
        (&broken["username"], &broken["broken"], &first.body["next"]),
        (&json!("a\u{200b}"), &json!("users.username"), &json!("a\u{200b}"))
    );
    assert_eq!(list_usernames(&second), ["bob"]);
    let path = format!("/admin/users/{}", broken["id"].as_str().unwrap());
    admin.send(Method::GET, &path).await.assert_code(500, "internal_error");
    let after_nul = admin.send(Method::GET, "/admin/users?after=a%00").await;
    after_nul.assert_code(400, "invalid_query");
}

async fn accounts_are_listed_in_pages(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    for name in ["alice", "Albert", "bob"] {
        app.register(name, "correct horse").await;
    }

    let first = admin.send(Method::GET, "/admin/users?limit=2").await;
    let second = admin.send(Method::GET, "/admin/users?limit=2&after=alice").await;
    let third = admin.send(Method::GET, "/admin/users?limit=2&after=root").await;
    let filtered = admin.send(Method::GET, "/admin/users?prefix=AL").await;

    assert_eq!(
        (list_usernames(&first), &first.body["next"]),
        (vec!["Albert", "alice"], &json!("alice"))
    );
    assert_eq!(
        (list_usernames(&second), &second.body["next"]),
        (vec!["bob", "root"], &json!("root"))
    );
    assert_eq!((list_usernames(&third), &third.body["next"]), (vec![], &Value::Null));
    assert_eq!(
        (list_usernames(&filtered), &filtered.body["next"]),
        (vec!["Albert", "alice"], &Value::Null)
    );
    for query in ["limit=0", "limit=201", "limit=x", "limit=-1"] {
        let refused = admin.send(Method::GET, &format!("/admin/users?{query}")).await;
        refused.assert_code(400, "invalid_query");
    }
    let refused = admin.send(Method::GET, "/admin/users?prefix=a%00").await;
    refused.assert_code(400, "invalid_username");
}

async fn disabled_account_is_locked_until_enabled(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    let alice = app.register_and_open_session("alice").await;
    let path = account_path(&alice.access_token());

    let disabled = admin.send(Method::POST, &format!("{path}/disable")).await;

    assert_eq!(disabled.status, 200, "{disabled:?}");
    assert!(disabled.body["disabled_at"].is_string(), "{disabled:?}");
    let refused = app.dashboard(&alice.access_token()).await;
    refused.assert_error(401, "token_revoked", "Token has been revoked");
    assert_eq!(app.refresh(&alice.refresh_token()).await.status, 401);
    let refused = app.log_in("alice", "correct horse").await;
    refused.assert_error(401, "invalid_credentials", "Invalid username or password");

    app.clock.advance(std::time::Duration::from_secs(2));
    let disabled_again = admin.send(Method::POST, &format!("{path}/disable")).await;
    assert_eq!(disabled_again.body, disabled.body, "the time of disabling stays");
    let enabled = admin.send(Method::POST, &format!("{path}/enable")).await;
    assert_eq!(enabled.body["disabled_at"], Value::Null, "{enabled:?}");
    assert_eq!(app.log_in("alice", "correct horse").await.status, 200);
    let refused = app.dashboard(&alice.access_token()).await;
    assert_eq!(refused.status, 401, "enabling revives no session");
}

async fn role_change_ends_tokens_with_old_roles(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    let old_token = app.register_and_log_in("alice").await;
    let path = format!("{}/roles", account_path(&old_token));
    let set_roles =
        async |roles: Value| admin.send_json(Method::PUT, &path, &json!({ "roles": roles })).await;

    let promoted = set_roles(json!(["user", "admin", "user"])).await;
    assert_eq!(promoted.body["roles"], json!(["admin", "user"]), "{promoted:?}");
    assert_eq!(app.dashboard(&old_token).await.status, 401);
    let admin_token = app.log_in_for_token("alice").await;
    assert_eq!(app.send_with_token(Method::GET, "/admin/users", &admin_token).await.status, 200);

    assert_eq!(set_roles(json!([])).await.body["permissions"], json!([]));
    assert_eq!(app.send_with_token(Method::GET, "/admin/users", &admin_token).await.status, 401);
    let token_without_roles = app.log_in_for_token("alice").await;
    let msg = "You do not have the permission dashboard:read";
    app.dashboard(&token_without_roles).await.assert_error(403, "permission_missing", msg);

    let msg = "Roles must be among these: admin, introspector, user";
    set_roles(json!(["god"])).await.assert_error(400, "invalid_roles", msg);
    let missing = admin.send_json(Method::PUT, &path, &json!({})).await;
    missing.assert_error(400, "missing_roles", "Missing roles");
}

async fn password_reset_ends_every_session(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    let token = app.register_and_log_in("alice").await;
    let path = format!("{}/password", account_path(&token));

    let changed =
        admin.send_json(Method::PUT, &path, &json!({ "password": "battery staple" })).await;

    assert_eq!((changed.status.as_u16(), &changed.body["username"]), (200, &json!("alice")));
    assert_eq!(app.dashboard(&token).await.status, 401);
    assert_eq!(app.log_in("alice", "correct horse").await.status, 401);
    assert_eq!(app.log_in("alice", "battery staple").await.status, 200);
    let short = admin.send_json(Method::PUT, &path, &json!({ "password": "short" })).await;
    short.assert_code(400, "invalid_password");
}

async fn deleted_account_frees_its_username(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    let token = app.register_and_log_in("alice").await;

    let deleted = admin.send(Method::DELETE, &account_path(&token)).await;

    assert_eq!((deleted.status.as_u16(), deleted.text.as_str()), (204, ""));
    assert_eq!(admin.send(Method::GET, &account_path(&token)).await.status, 404);
    assert_eq!(app.dashboard(&token).await.status, 401);
    assert_eq!(app.register("alice", "correct horse").await.status, 201);
}

async fn admin_lists_and_ends_user_sessions(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    let first = app.register_and_log_in("alice").await;
    let second = app.log_in_for_token("alice").await;
    let third = app.log_in_for_token("alice").await;
    let bobs_token = app.register_and_log_in("bob").await;
    let path = format!("{}/sessions", account_path(&first));
    let second_session = format!("{path}/{}", decode_claims(&second)["sid"].as_str().unwrap());

    let listed = admin.send(Method::GET, &path).await;
    assert_eq!(listed.body["sessions"].as_array().map(Vec::len), Some(3), "{listed:?}");
    let wrong_owner = second_session.replace(&account_path(&first), &account_path(&bobs_token));
    let refused = admin.send(Method::DELETE, &wrong_owner).await;
    assert_eq!(refused.status, 404, "the session belongs to another account");
    assert_eq!(app.dashboard(&second).await.status, 200);

    assert_eq!(admin.send(Method::DELETE, &second_session).await.status, 204);
    assert_eq!(admin.send(Method::DELETE, &second_session).await.status, 404);
    assert_eq!(app.dashboard(&second).await.status, 401);
    assert_eq!(app.dashboard(&first).await.status, 200);

    assert_eq!(admin.send(Method::DELETE, &path).await.status, 204);
    for token in [&first, &third] {
        assert_eq!(app.dashboard(token).await.status, 401);
    }
    assert_eq!(app.dashboard(&bobs_token).await.status, 200);
    let listed = admin.send(Method::GET, &path).await;
    listed.assert(200, &json!({ "sessions": [], "next": null }));
}

async fn last_administrator_cannot_be_removed(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    let path = account_path(&admin.token);
    let demotion = json!({ "roles": ["user"] });
    let own_password = json!({ "password": "correct horse" });

    let refusals = [
        admin.send_json(Method::PUT, &format!("{path}/roles"), &demotion).await,
        admin.send(Method::POST, &format!("{path}/disable")).await,
        admin.send(Method::DELETE, &path).await,
        admin.send_json(Method::DELETE, "/auth/me", &own_password).await,
    ];
    for refused in refusals {
        refused.assert_error(409, "last_admin", "The last administrator has to stay one");
    }
    assert_eq!(app.dashboard(&admin.token).await.status, 200, "the session is still alive");

    let mut other = credentials("other", "correct horse");
    other["roles"] = json!(["admin"]);
    let created = admin.send_json(Method::POST, "/admin/users", &other).await;
    let disable = format!("/admin/users/{}/disable", created.body["id"].as_str().unwrap());
    assert_eq!(admin.send(Method::POST, &disable).await.status, 200);
    let refused = admin.send(Method::DELETE, &path).await;
    assert_eq!(refused.status, 409, "a disabled administrator does not count");
    admin.send(Method::POST, &disable.replace("disable", "enable")).await;
    assert_eq!(admin.send_json(Method::DELETE, "/auth/me", &own_password).await.status, 204);
}

async fn admin_routes_require_an_administrator(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    let token = app.register_and_log_in("alice").await;
    let own_path = account_path(&token);
    let admin_path = account_path(&admin.token);
    let account_routes = ACCOUNT_ROUTES.iter().flat_map(|(method, subpath)| {
        [&own_path, &admin_path].map(|path| (method.clone(), format!("{path}{subpath}")))
    });
    let other_routes = [
        (Method::GET, "/admin/users"),
        (Method::POST, "/admin/users"),
        (Method::GET, "/admin/audit"),
    ];
    let other_routes = other_routes.map(|(method, path)| (method, path.to_owned()));

    for (method, path) in account_routes.chain(other_routes) {
        let request = || app.request(method.clone(), &path).json(&universal_body());
        let refused = send(request().bearer_auth(&token)).await;
        assert_eq!(refused.status, 403, "{method} {path}: {refused:?}");
        assert_eq!(send(request()).await.status, 401, "{method} {path}");
    }
    assert_eq!(app.dashboard(&token).await.status, 200);
    assert_eq!(app.dashboard(&admin.token).await.status, 200);
}

async fn accounts_are_filtered(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    for name in ["u0", "u1", "u00"] {
        app.register(name, "correct horse").await;
    }
    let token = app.log_in_for_token("u1").await;
    let disable = format!("{}/disable", account_path(&token));
    assert_eq!(admin.send(Method::POST, &disable).await.status, 200);

    for (query, expected) in [
        ("username=U0&limit=1", vec!["u0"]),
        ("username=u", vec![]),
        ("username=u0&prefix=u1", vec![]),
        ("username=u0&prefix=u", vec!["u0"]),
        ("username=", vec!["root", "u0", "u00", "u1"]),
        ("role=admin", vec!["root"]),
        ("role=user&prefix=u0", vec!["u0", "u00"]),
        ("role=introspector", vec![]),
        ("disabled=true", vec!["u1"]),
        ("disabled=false", vec!["root", "u0", "u00"]),
        ("disabled=false&role=user&after=u0", vec!["u00"]),
    ] {
        let listed = admin.send(Method::GET, &format!("/admin/users?{query}")).await;
        assert_eq!(list_usernames(&listed), expected, "{query}");
    }
    for query in ["role=God", "disabled=yes", "username=u0&username=u1"] {
        let refused = admin.send(Method::GET, &format!("/admin/users?{query}")).await;
        refused.assert_code(400, "invalid_query");
    }
}

async fn unknown_query_parameters_are_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    let token = app.register_and_log_in("alice").await;
    let path = account_path(&token);
    let account_routes =
        ACCOUNT_ROUTES.iter().map(|(method, subpath)| (method, format!("{path}{subpath}")));
    let other_routes = [
        (&Method::GET, "/admin/users".to_owned()),
        (&Method::POST, "/admin/users".to_owned()),
        (&Method::GET, "/admin/audit".to_owned()),
    ];

    for (method, path) in account_routes.chain(other_routes) {
        let path = format!("{path}?dry_run=true");
        let refused = admin.send_json(method.clone(), &path, &universal_body()).await;
        refused.assert_code(400, "invalid_query");
    }
    assert_eq!(app.dashboard(&token).await.status, 200);
}

/// A session whose row is gone while no revocation has arrived yet, as on another instance.
async fn ended_session_reads_nothing(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    let path = account_path(&admin.token);
    database.execute("delete from sessions").await;

    for path in ["/admin/users", "/admin/audit", &path, &format!("{path}/sessions")] {
        let refused = admin.send(Method::GET, path).await;
        refused.assert_error(401, "token_revoked", "Token has been revoked");
    }
}

async fn bearer_without_permission_is_refused_before_the_body(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;
    let path = account_path(&token);

    for (method, path) in [
        (Method::POST, "/admin/users".to_owned()),
        (Method::PUT, format!("{path}/roles")),
        (Method::PUT, format!("{path}/password")),
        (Method::POST, "/oauth/introspect".to_owned()),
    ] {
        let body =
            reqwest::Body::wrap_stream(futures_util::stream::pending::<Result<&str, Error>>());
        let request = app.request(method, &path).bearer_auth(&token).body(body);
        send(request).await.assert_code(403, "permission_missing");
    }
}

async fn unknown_account_is_not_found(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;

    for (method, subpath) in ACCOUNT_ROUTES {
        for id in ["00000000-0000-4000-8000-000000000000", "alice", "%00"] {
            let path = format!("/admin/users/{id}{subpath}");
            let refused = admin.send_json(method.clone(), &path, &universal_body()).await;
            refused.assert_error(404, "not_found", "Not found");
        }
    }
}

async fn disabling_ends_tokens_on_other_instance(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let other_app = TestApp::start(&database).await;
    let admin = Admin::register(&app, &database).await;
    let token = other_app.register_and_log_in("alice").await;
    assert_eq!(other_app.dashboard(&token).await.status, 200);

    admin.send(Method::POST, &format!("{}/disable", account_path(&token))).await;

    eventually("the other instance refuses the token", async || {
        other_app.dashboard(&token).await.status == 401
    })
    .await;
    assert_eq!(other_app.log_in("alice", "correct horse").await.status, 401);
}
