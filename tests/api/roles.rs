//! Roles: their administration, the rule about grants, and the sessions that end with a permission.

use std::time::Duration;

use futures_util::future::join_all;
use portcullis::config::DatabaseSettings;
use portcullis::store::{self, SchemaPolicy};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::Executor;
use tokio::join;

use crate::sessions::lock_is_waited_for;
use crate::support::{
    Process, Reply, TestApp, TestDatabase, credentials, decode_claims, eventually,
    on_both_databases, send,
};

on_both_databases![
    role_is_created_changed_and_deleted,
    built_in_role_keeps_its_permissions,
    invalid_change_of_a_role_is_refused,
    role_routes_require_permission,
    only_held_permissions_are_granted,
    permission_lost_before_the_commit_is_not_granted,
    reduced_role_ends_the_sessions_of_its_members,
    sessions_are_ended_after_a_restart,
    command_line_changes_roles_of_a_running_service,
    login_during_a_change_has_the_new_permissions,
];

/// A bearer of an access token.
struct Bearer {
    app: TestApp,
    token: String,
}

impl Bearer {
    /// Registers an administrator with the permissions of the service and of an API.
    async fn admin(app: &TestApp, database: &TestDatabase) -> Self {
        set_stored_permissions(database, "admin", &["orders:read", "orders:write"]).await;
        Self { app: app.clone(), token: app.register_admin(database).await }
    }

    async fn send(&self, method: Method, path: &str) -> Reply {
        self.app.send_with_token(method, path, &self.token).await
    }

    async fn send_json(&self, method: Method, path: &str, body: &Value) -> Reply {
        send(self.app.request(method, path).bearer_auth(&self.token).json(body)).await
    }

    async fn set_role(&self, name: &str, permissions: &[&str]) -> Reply {
        let body = json!({ "permissions": permissions });
        self.send_json(Method::PUT, &format!("/admin/roles/{name}"), &body).await
    }

    /// Creates an account with the password `correct horse`. Returns its path.
    async fn create_user(&self, username: &str, roles: &[&str]) -> String {
        let mut body = credentials(username, "correct horse");
        body["roles"] = json!(roles);
        let created = self.send_json(Method::POST, "/admin/users", &body).await;
        format!("/admin/users/{}", created.body["id"].as_str().unwrap())
    }

    /// Creates an account with a role, and logs it in.
    async fn create_bearer(&self, username: &str, role: &str) -> Self {
        self.create_user(username, &[role]).await;
        Self { app: self.app.clone(), token: self.app.log_in_for_token(username).await }
    }

    async fn ending_sessions(&self, role: &str) -> u64 {
        let role = self.send(Method::GET, &format!("/admin/roles/{role}")).await;
        role.body["ending_sessions"].as_u64().unwrap()
    }
}

fn role(name: &str, permissions: &[&str], built_in: bool) -> Value {
    json!({ "name": name, "permissions": permissions, "built_in": built_in, "ending_sessions": 0 })
}

fn scope(token: &str) -> String {
    decode_claims(token)["scope"].as_str().unwrap().to_owned()
}

/// Replaces the permissions in the row of a role, and ends no session.
async fn set_stored_permissions(database: &TestDatabase, role: &str, permissions: &[&str]) {
    let permissions = match database {
        TestDatabase::Postgres { .. } => format!("'{{{}}}'", permissions.join(",")),
        TestDatabase::Sqlite(_) => format!("'{}'", permissions.join(" ")),
    };
    let update = format!("update roles set permissions = {permissions} where name = '{role}'");
    database.execute(update).await;
}

/// Inserts sessions of an account.
async fn insert_sessions(database: &TestDatabase, username: &str, count: u32) {
    let (id, now, day, numbers) = match database {
        TestDatabase::Postgres { .. } => (
            "gen_random_uuid()",
            "clock_timestamp()",
            "interval '1 day'",
            format!("generate_series(1, {count})"),
        ),
        TestDatabase::Sqlite(_) => (
            "randomblob(16)",
            "unixepoch() * 1000000",
            "86400000000",
            format!(
                "(with recursive n (i) as (select 1 union all select i + 1 from n where i < {count}) select i from n)"
            ),
        ),
    };
    let insert = format!(
        "insert into sessions (id, user_id, generation, rotated_at, created_at, last_used_at,
                               expires_at, tokens_expire_at, address, user_agent)
         select {id}, users.id, 0, {now}, {now}, {now}, {now} + {day}, {now} + {day}, '::1', ''
         from users, {numbers} as numbers where username = '{username}'"
    );
    database.execute(insert).await;
}

/// Runs `portcullis role`. Returns the role that it prints.
async fn run_role_command(database: &TestDatabase, arguments: &str) -> Value {
    let mut command = Process::command(database);
    command.env_remove("JWT_SECRET_KEY").arg("role").args(arguments.split(' ')).arg("--json");
    let output = command.output().await.unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

async fn role_is_created_changed_and_deleted(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Bearer::admin(&app, &database).await;

    let created = admin.set_role("clerk", &["orders:write", "orders:read", "orders:read"]).await;
    let clerk = role("clerk", &["orders:read", "orders:write"], false);
    created.assert(201, &clerk);
    admin.set_role("clerk", &["orders:read", "orders:write"]).await.assert(200, &clerk);
    let changed = admin.set_role("clerk", &["orders:read"]).await;
    let clerk = role("clerk", &["orders:read"], false);
    changed.assert(200, &clerk);

    admin.send(Method::GET, "/admin/roles/clerk").await.assert(200, &clerk);
    let listed = admin.send(Method::GET, "/admin/roles").await;
    let names: Vec<_> = listed.body["roles"].as_array().unwrap().iter().collect();
    let names: Vec<_> = names.iter().map(|role| role["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["admin", "clerk", "introspector", "user"]);

    let path = admin.create_user("alice", &["clerk", "user"]).await;
    let token = app.log_in_for_token("alice").await;
    assert_eq!(scope(&token), "dashboard:read orders:read");
    let refused = admin.send(Method::DELETE, "/admin/roles/clerk").await;
    refused.assert_error(409, "role_in_use", "An account has the role");
    admin.send(Method::DELETE, &path).await;
    assert_eq!(admin.send(Method::DELETE, "/admin/roles/clerk").await.status, 204);
    for method in [Method::GET, Method::DELETE] {
        admin.send(method, "/admin/roles/clerk").await.assert_code(404, "not_found");
    }

    let log = admin.send(Method::GET, "/admin/audit").await;
    let records = log.body["records"].as_array().unwrap().iter();
    let records = records.filter(|record| record["action"].as_str().unwrap().starts_with("role."));
    let details: Vec<_> = records.map(|record| [&record["action"], &record["detail"]]).collect();
    assert_eq!(
        details,
        [
            ["role.deleted", "clerk: orders:read"],
            ["role.changed", "clerk: orders:read"],
            ["role.created", "clerk: orders:read orders:write"],
        ]
    );
}

async fn built_in_role_keeps_its_permissions(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Bearer::admin(&app, &database).await;

    let extended = admin.set_role("user", &["orders:read"]).await;

    extended.assert(200, &role("user", &["dashboard:read", "orders:read"], true));
    let token = app.register_and_log_in("alice").await;
    assert_eq!(scope(&token), "dashboard:read orders:read");
    let refused = admin.send(Method::DELETE, "/admin/roles/user").await;
    refused.assert_error(409, "built_in_role", "A built-in role cannot be deleted");
    let reduced = admin.set_role("user", &[]).await;
    assert_eq!(reduced.body["permissions"], json!(["dashboard:read"]));
}

async fn invalid_change_of_a_role_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Bearer::admin(&app, &database).await;

    let name = "The name of a role has 1 to 64 characters: a-z, 0-9, `.`, `_` and `-`";
    admin.set_role("Clerk", &[]).await.assert_error(400, "invalid_roles", name);
    for permission in ["", "a b", "é"] {
        admin.set_role("clerk", &[permission]).await.assert_code(400, "invalid_permissions");
    }
    let path = "/admin/roles/clerk";
    let missing = admin.send_json(Method::PUT, path, &json!({})).await;
    missing.assert_error(400, "missing_permissions", "Missing permissions");
    let text = admin.send_json(Method::PUT, path, &json!({ "permissions": "orders:read" })).await;
    text.assert_code(400, "invalid_body");
    for method in [Method::GET, Method::DELETE] {
        admin.send(method.clone(), "/admin/roles/Clerk").await.assert_code(404, "not_found");
        admin.send(method, path).await.assert_code(404, "not_found");
    }
}

async fn role_routes_require_permission(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Bearer::admin(&app, &database).await;
    admin.set_role("reader", &["roles:read"]).await;
    let reader = admin.create_bearer("reader", "reader").await;
    let user = admin.create_bearer("alice", "user").await;

    assert_eq!(reader.send(Method::GET, "/admin/roles").await.status, 200);
    reader.set_role("clerk", &[]).await.assert_code(403, "permission_missing");
    for path in ["/admin/roles", "/admin/roles/user"] {
        user.send(Method::GET, path).await.assert_code(403, "permission_missing");
    }
    let refused = reader.send(Method::DELETE, "/admin/roles/user").await;
    refused.assert_code(403, "permission_missing");
    app.log_out(&reader.token).await;
    let ended = reader.send(Method::GET, "/admin/roles").await;
    ended.assert_code(401, "token_revoked");
}

/// Every request that grants `keys:write`: by a role, by an account, or by a password with which the
/// requester can log in to one.
fn grants(admin: &str, alice: &str) -> [(Method, String, Value); 6] {
    let mut account = credentials("mallory", "correct horse");
    account["roles"] = json!(["admin"]);
    let permissions = json!({ "permissions": ["keys:write"] });
    let password = json!({ "password": "battery staple" });
    [
        (Method::POST, "/admin/users".to_owned(), account),
        (Method::PUT, format!("{alice}/roles"), json!({ "roles": ["user", "admin"] })),
        (Method::PUT, format!("{admin}/password"), password),
        (Method::POST, format!("{admin}/enable"), json!({})),
        (Method::PUT, "/admin/roles/new".to_owned(), permissions.clone()),
        (Method::PUT, "/admin/roles/user".to_owned(), permissions),
    ]
}

async fn only_held_permissions_are_granted(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Bearer::admin(&app, &database).await;
    admin.set_role("helpdesk", &["users:write", "users:read", "roles:write"]).await;
    let helpdesk = admin.create_bearer("helga", "helpdesk").await;
    let second = admin.create_user("second", &["admin"]).await;
    admin.send(Method::POST, &format!("{second}/disable")).await;
    let alice = admin.create_user("alice", &[]).await;

    for (method, path, body) in grants(&second, &alice) {
        let refused = helpdesk.send_json(method.clone(), &path, &body).await;
        refused.assert_code(403, "permissions_lacking");
        assert!(refused.text.contains("keys:write"), "{method} {path}: {refused:?}");
    }
    let listed = helpdesk.send(Method::GET, "/admin/users?role=admin").await;
    assert_eq!(
        listed.body["users"].as_array().unwrap().len(),
        2,
        "no other account has it: {listed:?}"
    );
    // What a requester holds, it grants.
    assert_eq!(helpdesk.set_role("new", &["users:read"]).await.status, 201);
}

/// A token may still carry a permission that the database has already taken away.
async fn permission_lost_before_the_commit_is_not_granted(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Bearer::admin(&app, &database).await;
    let second = admin.create_user("second", &["user"]).await;
    admin.send(Method::POST, &format!("{second}/disable")).await;
    let alice = admin.create_user("alice", &[]).await;
    let held = ["dashboard:read", "keys:write", "roles:write", "users:write"];
    for (name, permissions) in [("boss", held.as_slice()), ("keeper", &["keys:write"])] {
        admin.set_role(name, permissions).await;
    }
    let boss = admin.create_bearer("boss", "boss").await;
    let mut account = credentials("mallory", "correct horse");
    account["roles"] = json!(["keeper"]);
    let set_role = json!({ "permissions": ["keys:write"] });
    let requests = [
        (Method::POST, "/admin/users".to_owned(), account),
        (Method::PUT, format!("{alice}/roles"), json!({ "roles": ["keeper"] })),
        (Method::PUT, "/admin/roles/new".to_owned(), set_role),
    ];

    set_stored_permissions(&database, "boss", &["roles:write", "users:write"]).await;

    assert!(scope(&boss.token).contains("keys:write"));
    for (method, path, body) in &requests {
        let refused = boss.send_json(method.clone(), path, body).await;
        refused.assert_code(403, "permissions_lacking");
    }
    let enable = format!("{second}/enable");
    let refused = boss.send(Method::POST, &enable).await;
    refused.assert_code(403, "permissions_lacking");
    set_stored_permissions(&database, "boss", &held).await;
    assert_eq!(boss.send(Method::POST, &enable).await.status, 200);
    for (method, path, body) in &requests {
        let granted = boss.send_json(method.clone(), path, body).await;
        assert!(granted.status.is_success(), "{granted:?}");
    }
}

async fn reduced_role_ends_the_sessions_of_its_members(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Bearer::admin(&app, &database).await;
    admin.set_role("clerk", &["orders:read", "orders:write"]).await;
    let alice = admin.create_bearer("alice", "clerk").await;
    insert_sessions(&database, "alice", 2_499).await;
    let bob = admin.create_bearer("bob", "user").await;
    let committed = app.metric("portcullis_revocations_committed_total").await;

    let reduced = admin.set_role("clerk", &["orders:read"]).await;

    assert_eq!(reduced.body["ending_sessions"], 2_500, "{reduced:?}");
    eventually("the sessions have ended", async || {
        admin.ending_sessions("clerk").await == 0
            && app.metric("portcullis_revocations_committed_total").await == committed + 2_500
    })
    .await;
    alice.send(Method::GET, "/auth/me").await.assert_code(401, "token_revoked");
    assert_eq!(app.metric("portcullis_sessions_ending").await, 0);
    assert_eq!(bob.send(Method::GET, "/auth/me").await.status, 200);
}

/// The command line takes a permission away, and one batch runs before the service starts.
async fn sessions_are_ended_after_a_restart(database: TestDatabase) {
    let mut first = Process::start(&database).await;
    let admin = Bearer::admin(&first.app, &database).await;
    admin.set_role("clerk", &["orders:read", "orders:write"]).await;
    admin.create_user("alice", &["clerk"]).await;
    insert_sessions(&database, "alice", 2_500).await;
    first.send_signal(Signal::KILL);
    first.wait_for_exit().await;
    let changed = run_role_command(&database, "set clerk --permission orders:read").await;
    assert_eq!(changed["ending_sessions"], 2_500);
    let settings = DatabaseSettings {
        database: database.config(),
        max_connections: 1,
        acquire_timeout: Duration::from_secs(3),
    };
    let store = store::open(&settings, SchemaPolicy::Require, &|_| {}).await.unwrap();
    assert_eq!(store.end_sessions_of_roles(1_000).await.unwrap().unwrap().revocations.len(), 1_000);
    store.close().await;

    let second = Process::start(&database).await;

    let admin = Bearer { app: second.app.clone(), ..admin };
    eventually("the sessions have ended", async || admin.ending_sessions("clerk").await == 0).await;
}

async fn command_line_changes_roles_of_a_running_service(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        // The change is noticed without a cleanup.
        config.revocations.sweep_interval = Duration::from_hours(24);
    })
    .await;
    let admin = Bearer::admin(&app, &database).await;

    let created = run_role_command(&database, "set clerk --permission orders:read").await;

    assert_eq!(created, role("clerk", &["orders:read"], false));
    let alice = admin.create_bearer("alice", "clerk").await;
    assert_eq!(scope(&alice.token), "orders:read");
    let reduced = run_role_command(&database, "set clerk").await;
    assert_eq!(reduced["ending_sessions"], 1, "{reduced}");
    eventually("the session has ended", async || {
        alice.send(Method::GET, "/auth/me").await.status == 401
    })
    .await;
    assert_eq!(admin.ending_sessions("clerk").await, 0);
}

async fn login_during_a_change_has_the_new_permissions(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = Bearer::admin(&app, &database).await;
    admin.set_role("clerk", &["orders:read", "orders:write"]).await;
    let names = ["a", "b", "c", "d"];
    for name in names {
        admin.create_user(name, &["clerk"]).await;
    }
    let logins = join_all(names.iter().cycle().take(40).map(async |name| {
        let opened = app.log_in(name, "correct horse").await;
        let exchanged = app.refresh(&opened.refresh_token()).await;
        let exchanged = exchanged.body["access_token"].as_str().map(str::to_owned);
        [Some(opened.access_token()), exchanged]
    }));

    let (tokens, reduced) = join!(logins, admin.set_role("clerk", &["orders:read"]));

    assert_eq!(reduced.status, 200, "{reduced:?}");
    let former: Vec<_> = tokens.into_iter().flatten().flatten().collect();
    let former = former.into_iter().filter(|token| scope(token).contains("orders:write"));
    for token in former {
        eventually("a token with the lost permission is refused", async || {
            app.send_with_token(Method::GET, "/auth/me", &token).await.status == 401
        })
        .await;
    }
}

#[actix_web::test]
async fn killed_instance_leaves_the_rest_to_the_next() {
    let test = async |database: TestDatabase| {
        let mut first = Process::start(&database).await;
        let admin = Bearer::admin(&first.app, &database).await;
        admin.set_role("clerk", &["orders:read", "orders:write"]).await;
        admin.create_user("alice", &["clerk"]).await;
        insert_sessions(&database, "alice", 2_500).await;
        // The last batch waits for this session.
        let mut lock = database.connect().await;
        let last = "begin; select from sessions
                    where user_id = (select id from users where username = 'alice')
                    order by id desc limit 1 for update";
        lock.execute(last).await.unwrap();

        admin.set_role("clerk", &["orders:read"]).await;
        lock_is_waited_for(&database).await;
        assert_eq!(admin.ending_sessions("clerk").await, 500);
        first.send_signal(Signal::KILL);
        first.wait_for_exit().await;
        drop(lock);
        let second = Process::start(&database).await;

        let admin = Bearer { app: second.app.clone(), ..admin };
        eventually("the sessions have ended", async || admin.ending_sessions("clerk").await == 0)
            .await;
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn login_waits_for_a_change_of_its_role() {
    let test = async |database: TestDatabase| {
        let app = TestApp::start(&database).await;
        let admin = Bearer::admin(&app, &database).await;
        admin.set_role("clerk", &["orders:read", "orders:write"]).await;
        admin.create_user("alice", &["clerk"]).await;
        let mut change = database.connect().await;
        let update = "begin; update roles set permissions = '{orders:read}' where name = 'clerk'";
        change.execute(update).await.unwrap();

        let login = actix_web::rt::spawn({
            let app = app.clone();
            async move { app.log_in_for_token("alice").await }
        });
        lock_is_waited_for(&database).await;
        change.execute("commit").await.unwrap();

        assert_eq!(scope(&login.await.unwrap()), "orders:read");
    };
    TestDatabase::postgres().await.run(test).await;
}
