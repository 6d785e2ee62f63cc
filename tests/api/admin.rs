//! What administrators do with the accounts of others.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Reply, TestApp, TestDatabase, claims, credentials, eventually, on_both_databases, send,
};

/// An administrator, logged in.
struct Admin {
    app: TestApp,
    token: String,
}

impl Admin {
    async fn of(app: &TestApp, database: &TestDatabase) -> Self {
        Self { app: app.clone(), token: app.admin_token(database).await }
    }

    async fn ask(&self, method: Method, path: &str) -> Reply {
        self.app.with_token(method, path, &self.token).await
    }

    async fn tell(&self, method: Method, path: &str, body: &Value) -> Reply {
        send(self.app.request(method, path).bearer_auth(&self.token).json(body)).await
    }
}

/// Returns where the account of a token is managed.
fn path_of(token: &str) -> String {
    format!("/admin/users/{}", claims(token)["sub"].as_str().unwrap())
}

fn usernames(page: &Reply) -> Vec<&str> {
    let users = page.body["users"].as_array().unwrap_or_else(|| panic!("no users: {page:?}"));
    users.iter().map(|user| user["username"].as_str().unwrap()).collect()
}

const ROUTES: &[(Method, &str)] = &[
    (Method::GET, ""),
    (Method::DELETE, ""),
    (Method::POST, "/disable"),
    (Method::POST, "/enable"),
    (Method::PUT, "/roles"),
    (Method::PUT, "/password"),
    (Method::GET, "/sessions"),
    (Method::DELETE, "/sessions"),
    (Method::DELETE, "/sessions/00000000-0000-4000-8000-000000000000"),
];

/// A body that every route which reads one can do something with.
fn any_body() -> Value {
    json!({ "roles": ["user"], "password": "battery staple" })
}

on_both_databases! {
    async fn an_account_is_made_with_the_roles_that_were_asked_for(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let admin = Admin::of(&app, &database).await;
        let mut body = credentials("Alice", "correct horse");
        body["roles"] = json!(["admin"]);

        let mut created = admin.tell(Method::POST, "/admin/users", &body).await;

        let path = created.header("location").unwrap().to_owned();
        assert_eq!(admin.ask(Method::GET, &path).await.body, created.body);
        let id = created.body["id"].take();
        assert_eq!(path, format!("/admin/users/{}", id.as_str().unwrap()));
        assert!(created.body["created_at"].take().is_string());
        created.assert(201, &json!({
            "id": null, "username": "Alice", "roles": ["admin"], "created_at": null,
            "permissions": ["dashboard:read", "users:read", "users:write", "tokens:introspect"],
            "disabled_at": null,
        }));
        let token = app.another_token_of("alice").await;
        assert_eq!(app.with_token(Method::GET, "/admin/users", &token).await.status, 200);

        let bob = credentials("bob", "correct horse");
        let bob = admin.tell(Method::POST, "/admin/users", &bob).await;
        assert_eq!(bob.body["roles"], json!(["user"]), "unless something else is asked for");
    }

    async fn an_account_is_not_made_of_nonsense_nor_twice(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let admin = Admin::of(&app, &database).await;
        let create = async |username, password, roles: Value| {
            let mut body = credentials(username, password);
            body["roles"] = roles;
            let reply = admin.tell(Method::POST, "/admin/users", &body).await;
            (reply.status.as_u16(), reply.body["code"].as_str().unwrap_or_default().to_owned())
        };
        let refused = |status, code: &str| (status, code.to_owned());
        app.register("alice", "correct horse").await;

        assert_eq!(create("ALICE", "correct horse", json!([])).await, refused(409, "user_exists"));
        assert_eq!(create("", "correct horse", json!([])).await, refused(400, "missing_credentials"));
        assert_eq!(create("a b", "correct horse", json!([])).await, refused(400, "invalid_username"));
        assert_eq!(create("bob", "short", json!([])).await, refused(400, "invalid_password"));
        assert_eq!(create("bob", "correct horse", json!(["god"])).await, refused(400, "invalid_roles"));
        assert_eq!(create("bob", "correct horse", json!("user")).await, refused(400, "invalid_body"));
    }

    async fn accounts_are_read_a_page_at_a_time(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let admin = Admin::of(&app, &database).await;
        for name in ["alice", "Albert", "bob"] {
            app.register(name, "correct horse").await;
        }

        let first = admin.ask(Method::GET, "/admin/users?limit=2").await;
        let second = admin.ask(Method::GET, "/admin/users?limit=2&after=alice").await;
        let third = admin.ask(Method::GET, "/admin/users?limit=2&after=root").await;
        let some = admin.ask(Method::GET, "/admin/users?prefix=AL").await;

        assert_eq!((usernames(&first), &first.body["next"]), (vec!["Albert", "alice"], &json!("alice")));
        assert_eq!((usernames(&second), &second.body["next"]), (vec!["bob", "root"], &json!("root")));
        assert_eq!((usernames(&third), &third.body["next"]), (vec![], &Value::Null));
        assert_eq!((usernames(&some), &some.body["next"]), (vec!["Albert", "alice"], &Value::Null));
        for query in ["limit=0", "limit=201", "limit=x", "limit=-1"] {
            let refused = admin.ask(Method::GET, &format!("/admin/users?{query}")).await;
            assert_eq!((refused.status.as_u16(), &refused.body["code"]), (400, &json!("invalid_query")));
        }
        let refused = admin.ask(Method::GET, "/admin/users?prefix=a%20b").await;
        assert_eq!((refused.status.as_u16(), &refused.body["code"]), (400, &json!("invalid_username")));
    }

    async fn a_disabled_account_is_shut_until_it_is_enabled(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let admin = Admin::of(&app, &database).await;
        let alice = app.pair_of("alice").await;
        let path = path_of(&alice.access_token());

        let disabled = admin.ask(Method::POST, &format!("{path}/disable")).await;

        assert_eq!(disabled.status, 200, "{disabled:?}");
        assert!(disabled.body["disabled_at"].is_string(), "{disabled:?}");
        let refused = app.dashboard(&alice.access_token()).await;
        refused.assert_error(401, "token_revoked", "Token has been revoked");
        assert_eq!(app.refresh(&alice.refresh_token()).await.status, 401);
        let refused = app.log_in("alice", "correct horse").await;
        refused.assert_error(401, "invalid_credentials", "Invalid username or password");

        app.clock.advance(std::time::Duration::from_secs(5));
        let again = admin.ask(Method::POST, &format!("{path}/disable")).await;
        assert_eq!(again.body, disabled.body, "since when is not changed");
        let enabled = admin.ask(Method::POST, &format!("{path}/enable")).await;
        assert_eq!(enabled.body["disabled_at"], Value::Null, "{enabled:?}");
        assert_eq!(app.log_in("alice", "correct horse").await.status, 200);
        assert_eq!(app.dashboard(&alice.access_token()).await.status, 401, "what ended stays ended");
    }

    async fn a_token_never_carries_more_than_its_owner_has(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let admin = Admin::of(&app, &database).await;
        let before = app.token_of("alice").await;
        let path = format!("{}/roles", path_of(&before));
        let set_roles = async |roles: Value| {
            admin.tell(Method::PUT, &path, &json!({ "roles": roles })).await
        };

        let promoted = set_roles(json!(["user", "admin", "user"])).await;
        assert_eq!(promoted.body["roles"], json!(["user", "admin"]), "{promoted:?}");
        assert_eq!(app.dashboard(&before).await.status, 401);
        let as_admin = app.another_token_of("alice").await;
        assert_eq!(app.with_token(Method::GET, "/admin/users", &as_admin).await.status, 200);

        assert_eq!(set_roles(json!([])).await.body["permissions"], json!([]));
        assert_eq!(app.with_token(Method::GET, "/admin/users", &as_admin).await.status, 401);
        let as_nobody = app.another_token_of("alice").await;
        let msg = "You do not have the permission dashboard:read";
        app.dashboard(&as_nobody).await.assert_error(403, "permission_missing", msg);

        let msg = "Roles must be among these: user, admin, introspector";
        set_roles(json!(["god"])).await.assert_error(400, "invalid_roles", msg);
        let missing = admin.tell(Method::PUT, &path, &json!({})).await;
        missing.assert_error(400, "missing_roles", "Missing roles");
    }

    async fn a_password_that_was_set_is_the_only_one_and_ends_every_session(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let admin = Admin::of(&app, &database).await;
        let token = app.token_of("alice").await;
        let path = format!("{}/password", path_of(&token));

        let set = admin.tell(Method::PUT, &path, &json!({ "password": "battery staple" })).await;

        assert_eq!((set.status.as_u16(), &set.body["username"]), (200, &json!("alice")));
        assert_eq!(app.dashboard(&token).await.status, 401);
        assert_eq!(app.log_in("alice", "correct horse").await.status, 401);
        assert_eq!(app.log_in("alice", "battery staple").await.status, 200);
        let short = admin.tell(Method::PUT, &path, &json!({ "password": "short" })).await;
        assert_eq!((short.status.as_u16(), &short.body["code"]), (400, &json!("invalid_password")));
    }

    async fn a_deleted_account_is_gone_and_its_name_is_free(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let admin = Admin::of(&app, &database).await;
        let token = app.token_of("alice").await;

        let deleted = admin.ask(Method::DELETE, &path_of(&token)).await;

        assert_eq!((deleted.status.as_u16(), deleted.text.as_str()), (204, ""));
        assert_eq!(admin.ask(Method::GET, &path_of(&token)).await.status, 404);
        assert_eq!(app.dashboard(&token).await.status, 401);
        assert_eq!(app.register("alice", "correct horse").await.status, 201);
    }

    async fn the_sessions_of_a_user_are_listed_and_ended(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let admin = Admin::of(&app, &database).await;
        let (first, bobs) = (app.token_of("alice").await, app.token_of("bob").await);
        let [second, third] = [app.another_token_of("alice").await, app.another_token_of("alice").await];
        let path = format!("{}/sessions", path_of(&first));
        let one = format!("{path}/{}", claims(&second)["sid"].as_str().unwrap());

        let listed = admin.ask(Method::GET, &path).await;
        assert_eq!(listed.body["sessions"].as_array().map(Vec::len), Some(3), "{listed:?}");
        let of_bob = one.replace(&path_of(&first), &path_of(&bobs));
        assert_eq!(admin.ask(Method::DELETE, &of_bob).await.status, 404, "it is not his");
        assert_eq!(app.dashboard(&second).await.status, 200);

        assert_eq!(admin.ask(Method::DELETE, &one).await.status, 204);
        assert_eq!(admin.ask(Method::DELETE, &one).await.status, 404);
        assert_eq!(app.dashboard(&second).await.status, 401);
        assert_eq!(app.dashboard(&first).await.status, 200);

        assert_eq!(admin.ask(Method::DELETE, &path).await.status, 204);
        for token in [&first, &third] {
            assert_eq!(app.dashboard(token).await.status, 401);
        }
        assert_eq!(app.dashboard(&bobs).await.status, 200);
        let listed = admin.ask(Method::GET, &path).await;
        listed.assert(200, &json!({ "sessions": [] }));
    }

    async fn the_last_administrator_stays_one(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let admin = Admin::of(&app, &database).await;
        let path = path_of(&admin.token);
        let demotion = json!({ "roles": ["user"] });
        let own = json!({ "password": "correct horse" });

        let refusals = [
            admin.tell(Method::PUT, &format!("{path}/roles"), &demotion).await,
            admin.ask(Method::POST, &format!("{path}/disable")).await,
            admin.ask(Method::DELETE, &path).await,
            admin.tell(Method::DELETE, "/auth/me", &own).await,
        ];
        for refused in refusals {
            refused.assert_error(409, "last_admin", "The last administrator has to stay one");
        }
        assert_eq!(app.dashboard(&admin.token).await.status, 200, "and nothing has ended");

        let mut other = credentials("other", "correct horse");
        other["roles"] = json!(["admin"]);
        let other = admin.tell(Method::POST, "/admin/users", &other).await;
        let disable = format!("/admin/users/{}/disable", other.body["id"].as_str().unwrap());
        assert_eq!(admin.ask(Method::POST, &disable).await.status, 200);
        let refused = admin.ask(Method::DELETE, &path).await;
        assert_eq!(refused.status, 409, "one that is disabled does not count");
        admin.ask(Method::POST, &disable.replace("disable", "enable")).await;
        assert_eq!(admin.tell(Method::DELETE, "/auth/me", &own).await.status, 204);
    }

    async fn administration_is_for_administrators(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let admin = Admin::of(&app, &database).await;
        let token = app.token_of("alice").await;
        let (alice, root) = (path_of(&token), path_of(&admin.token));
        let below = ROUTES.iter().flat_map(|(method, path)| {
            [&alice, &root].map(|of| (method.clone(), format!("{of}{path}")))
        });
        let others = [(Method::GET, "/admin/users"), (Method::POST, "/admin/users"), (Method::GET, "/admin/audit")];
        let others = others.map(|(method, path)| (method, path.to_owned()));

        for (method, path) in below.chain(others) {
            let request = || app.request(method.clone(), &path).json(&any_body());
            let refused = send(request().bearer_auth(&token)).await;
            assert_eq!(refused.status, 403, "{method} {path}: {refused:?}");
            assert_eq!(send(request()).await.status, 401, "{method} {path}");
        }
        assert_eq!(app.dashboard(&token).await.status, 200);
        assert_eq!(app.dashboard(&admin.token).await.status, 200);
    }

    async fn an_account_that_is_not_there_is_404(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let admin = Admin::of(&app, &database).await;

        for (method, path) in ROUTES {
            for id in ["00000000-0000-4000-8000-000000000000", "alice", "%00"] {
                let path = format!("/admin/users/{id}{path}");
                let refused = admin.tell(method.clone(), &path, &any_body()).await;
                refused.assert_error(404, "not_found", "Not found");
            }
        }
    }

    async fn what_an_administrator_ends_has_ended_at_the_other_instance(database: TestDatabase) {
        let (here, there) = (TestApp::start(&database).await, TestApp::start(&database).await);
        let admin = Admin::of(&here, &database).await;
        let token = there.token_of("alice").await;
        assert_eq!(there.dashboard(&token).await.status, 200);

        admin.ask(Method::POST, &format!("{}/disable", path_of(&token))).await;

        eventually("the other instance knows", async || there.dashboard(&token).await.status == 401)
            .await;
        assert_eq!(there.log_in("alice", "correct horse").await.status, 401);
    }
}
