//! Clients: their secrets, their tokens, and what each change of them ends.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{
    Process, Reply, TestApp, TestDatabase, decode_claims, eventually, on_both_databases, send,
};

on_both_databases![
    client_gets_a_token_with_basic_or_form_credentials,
    refused_clients_get_one_answer,
    token_request_is_checked_as_in_the_rfc,
    scope_narrows_the_permissions,
    client_introspects_tokens_of_its_resource,
    client_revokes_its_own_tokens_and_others_with_the_permission,
    many_token_revocations_end_all_tokens_of_the_secret,
    client_token_opens_no_account,
    change_of_a_client_ends_its_tokens,
    secret_is_replaced_without_a_gap,
    client_grants_only_what_it_holds,
    wider_rights_of_a_client_count_as_grants,
    client_is_the_requester_in_the_audit_log,
    invalid_client_is_not_created,
    client_commands_change_the_clients,
    other_instance_refuses_a_disabled_client,
    unreadable_client_fails_no_list,
];

/// Registers an administrator who can grant the permissions of an API, too.
async fn register_admin(app: &TestApp, database: &TestDatabase) -> String {
    let permissions = match database {
        TestDatabase::Postgres { .. } => "{orders:read,orders:write,orders:delete}",
        TestDatabase::Sqlite(_) => "orders:read orders:write orders:delete",
    };
    let update = format!("update roles set permissions = '{permissions}' where name = 'admin'");
    database.execute(update).await;
    app.register_admin(database).await
}

/// A client with its secret.
struct Machine {
    app: TestApp,
    id: String,
    secret: String,
}

impl Machine {
    /// Creates a client with the permissions, separated by spaces.
    async fn create(app: &TestApp, admin: &str, name: &str, permissions: &str) -> Self {
        let permissions: Vec<_> = permissions.split_whitespace().collect();
        let body = json!({ "name": name, "permissions": permissions });
        Self::from_reply(app, &create(app, admin, &body).await)
    }

    fn from_reply(app: &TestApp, reply: &Reply) -> Self {
        let text = |name: &str| {
            let text = reply.body[name].as_str();
            text.unwrap_or_else(|| panic!("no {name} in {reply:?}")).to_owned()
        };
        Self { app: app.clone(), id: text("client_id"), secret: text("client_secret") }
    }

    fn path(&self) -> String {
        format!("/admin/clients/{}", self.id)
    }

    /// Posts a form with HTTP Basic.
    async fn post(&self, path: &str, form: &str) -> Reply {
        let request = self.app.request(Method::POST, path);
        send(with_form(request.basic_auth(&self.id, Some(&self.secret)), form)).await
    }

    async fn get_token(&self) -> Reply {
        self.post("/oauth/token", "grant_type=client_credentials").await
    }

    async fn token(&self) -> String {
        self.get_token().await.access_token()
    }

    async fn is_active(&self, token: &str) -> bool {
        let reply = self.post("/oauth/introspect", &format!("token={token}")).await;
        reply.body["active"].as_bool().unwrap_or_else(|| panic!("no state: {reply:?}"))
    }
}

fn with_form(request: RequestBuilder, form: &str) -> RequestBuilder {
    request.header("content-type", "application/x-www-form-urlencoded").body(form.to_owned())
}

async fn post_form(app: &TestApp, path: &str, form: &str) -> Reply {
    send(with_form(app.request(Method::POST, path), form)).await
}

async fn create(app: &TestApp, admin: &str, body: &Value) -> Reply {
    send_json(app, Method::POST, "/admin/clients", admin, body).await
}

async fn send_json(app: &TestApp, method: Method, path: &str, bearer: &str, body: &Value) -> Reply {
    send(app.request(method, path).bearer_auth(bearer).json(body)).await
}

async fn client_gets_a_token_with_basic_or_form_credentials(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    let orders = Machine::create(&app, &admin, "orders", "dashboard:read orders:read").await;
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        orders.id, orders.secret
    );

    for reply in [orders.get_token().await, post_form(&app, "/oauth/token", &form).await] {
        let token = reply.access_token();
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        let expected = json!({
            "access_token": token, "token_type": "Bearer", "expires_in": 3_600,
            "scope": "dashboard:read orders:read",
        });
        reply.assert(200, &expected);
        let claims = decode_claims(&token);
        assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(orders.id), &json!(orders.id)));
        assert_eq!((&claims["roles"], claims.get("username")), (&json!([]), None));
        assert_eq!(app.dashboard(&token).await.status, 200);
    }
}

async fn refused_clients_get_one_answer(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    let orders = Machine::create(&app, &admin, "orders", "orders:read").await;
    let disabled = Machine::create(&app, &admin, "disabled", "orders:read").await;
    let disable = format!("{}/disable", disabled.path());
    app.send_with_token(Method::POST, &disable, &admin).await.assert_disabled(true);
    let expired = json!({ "name": "expired", "expires_at": "2020-01-01T00:00:00Z" });
    let expired = Machine::from_reply(&app, &create(&app, &admin, &expired).await);

    let unknown = "00000000-0000-4000-8000-000000000000";
    for (id, secret) in [
        (orders.id.as_str(), "pcs_wrong"),
        (&orders.id, ""),
        (&orders.id, &disabled.secret),
        (unknown, &orders.secret),
        ("orders", &orders.secret),
        (&disabled.id, &disabled.secret),
        (&expired.id, &expired.secret),
    ] {
        for path in ["/oauth/token", "/oauth/introspect", "/oauth/revoke"] {
            let request = app.request(Method::POST, path).basic_auth(id, Some(secret));
            let reply = send(with_form(request, "grant_type=client_credentials&token=x")).await;
            let msg = "Invalid client_id or client_secret";
            let expected = json!({
                "msg": msg, "code": "invalid_client", "error": "invalid_client",
                "error_description": msg,
            });
            reply.assert(401, &expected);
            assert_eq!(reply.header("www-authenticate"), Some(r#"Basic realm="portcullis""#));
        }
    }
}

impl Reply {
    #[track_caller]
    fn assert_disabled(&self, is_disabled: bool) {
        assert_eq!((self.status.as_u16(), !self.body["disabled_at"].is_null()), (200, is_disabled));
    }
}

async fn token_request_is_checked_as_in_the_rfc(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    let orders = Machine::create(&app, &admin, "orders", "orders:read").await;
    let both = format!("grant_type=client_credentials&client_secret={}", orders.secret);

    for (form, code, error) in [
        ("", "missing_grant_type", "invalid_request"),
        ("grant_type=", "missing_grant_type", "invalid_request"),
        ("grant_type=password", "unsupported_grant_type", "unsupported_grant_type"),
        ("grant_type=client_credentials&grant_type=x", "invalid_body", "invalid_request"),
        ("grant_type=client_credentials&scope=keys:write", "invalid_scope", "invalid_scope"),
        ("grant_type=client_credentials&scope=%22", "invalid_scope", "invalid_scope"),
        (&both, "two_credentials", "invalid_request"),
        ("grant_type=client_credentials&client_id=other", "two_credentials", "invalid_request"),
    ] {
        let reply = orders.post("/oauth/token", form).await;
        reply.assert_code(400, code);
        assert_eq!(reply.body["error"], error, "{form}");
    }
    let reply = post_form(&app, "/oauth/token", "grant_type=client_credentials").await;
    reply.assert_code(401, "invalid_client");
    let json = app.request(Method::POST, "/oauth/token").json(&json!({}));
    send(json).await.assert_code(415, "unsupported_media_type");
    let user = app.request(Method::POST, "/oauth/token").bearer_auth(&admin);
    let reply = send(with_form(user, "grant_type=client_credentials")).await;
    reply.assert_code(401, "invalid_client");
    let reply = app.get("/oauth/token").await;
    assert_eq!((reply.status.as_u16(), &reply.body["error"]), (405, &json!("invalid_request")));
}

async fn scope_narrows_the_permissions(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    let orders = Machine::create(&app, &admin, "orders", "dashboard:read orders:read").await;

    let form = "grant_type=client_credentials&scope=orders:read%20orders:read";
    let reply = orders.post("/oauth/token", form).await;

    assert_eq!(reply.body["scope"], "orders:read");
    app.dashboard(&reply.access_token()).await.assert_code(403, "permission_missing");
}

async fn client_introspects_tokens_of_its_resource(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    let any = Machine::create(&app, &admin, "any", "tokens:introspect").await;
    let body = json!({
        "name": "orders", "permissions": ["tokens:introspect"], "resource": ["orders"],
        "audience": ["orders"],
    });
    let orders = Machine::from_reply(&app, &create(&app, &admin, &body).await);
    let alice = app.register_and_open_session("alice").await.access_token();
    let login = json!({
        "username": "alice", "password": "correct horse", "audience": ["portcullis"],
    });
    let for_service = app.post("/auth/login", &login).await.access_token();

    assert!(any.is_active(&alice).await && any.is_active(&for_service).await);
    assert!(orders.is_active(&alice).await);
    assert!(!orders.is_active(&for_service).await, "the token is for another resource");
    let own = orders.token().await;
    let reply = any.post("/oauth/introspect", &format!("token={own}")).await;
    let claims = decode_claims(&own);
    let expected = json!({
        "active": true, "token_type": "Bearer", "iss": "portcullis", "aud": ["orders"],
        "sub": orders.id, "client_id": orders.id, "roles": [], "scope": "tokens:introspect",
        "sid": claims["sid"], "jti": claims["jti"], "iat": claims["iat"], "nbf": claims["nbf"],
        "exp": claims["exp"],
    });
    reply.assert(200, &expected);
    let body = json!({
        "name": "limited", "permissions": ["tokens:introspect"], "resource": ["orders"],
    });
    let limited = Machine::from_reply(&app, &create(&app, &admin, &body).await);
    let request = app.request(Method::POST, "/oauth/introspect").bearer_auth(limited.token().await);
    let reply = send(with_form(request, &format!("token={for_service}"))).await;
    reply.assert(200, &json!({ "active": false }));
    let weak = Machine::create(&app, &admin, "weak", "tokens:revoke").await;
    let reply = weak.post("/oauth/introspect", "token=x").await;
    reply.assert_code(403, "permission_missing");
    assert_eq!(reply.body["error"], "insufficient_scope");
}

async fn client_revokes_its_own_tokens_and_others_with_the_permission(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    let orders = Machine::create(&app, &admin, "orders", "tokens:introspect").await;
    let operator = Machine::create(&app, &admin, "operator", "tokens:revoke").await;
    let session = app.register_and_open_session("alice").await;
    let (alice, refresh) = (session.access_token(), session.refresh_token());
    let [first, second] = [orders.token().await, orders.token().await];
    let revoke = async |machine: &Machine, token: &str| {
        machine.post("/oauth/revoke", &format!("token={token}")).await
    };

    assert_eq!(revoke(&orders, &first).await.status, 200);
    assert!(!orders.is_active(&first).await && orders.is_active(&second).await);
    revoke(&orders, &alice).await.assert_code(403, "permission_missing");
    revoke(&orders, &refresh).await.assert_code(403, "permission_missing");
    assert!(orders.is_active(&alice).await);
    assert_eq!(revoke(&operator, &second).await.status, 200);
    assert_eq!(revoke(&operator, &refresh).await.status, 200);
    assert!(!orders.is_active(&second).await && !orders.is_active(&alice).await);
}

async fn many_token_revocations_end_all_tokens_of_the_secret(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    let orders = Machine::create(&app, &admin, "orders", "tokens:introspect").await;
    let kept = orders.token().await;
    let revoke = async |token: String| {
        let reply = orders.post("/oauth/revoke", &format!("token={token}")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    };

    for _ in 0..20 {
        revoke(orders.token().await).await;
    }
    assert!(orders.is_active(&kept).await);
    revoke(orders.token().await).await;

    assert!(!orders.is_active(&kept).await);
    assert_eq!(app.metric("portcullis_revocations_held").await, 21);
    assert!(orders.is_active(&orders.token().await).await, "the secret goes on");
}

async fn client_token_opens_no_account(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    let orders = Machine::create(&app, &admin, "orders", "dashboard:read users:read").await;
    let token = orders.token().await;

    for (method, path) in [
        (Method::GET, "/auth/me"),
        (Method::DELETE, "/auth/me"),
        (Method::PUT, "/auth/password"),
        (Method::POST, "/auth/logout"),
        (Method::POST, "/auth/logout-all"),
        (Method::GET, "/auth/sessions"),
        (Method::DELETE, "/auth/sessions/00000000-0000-4000-8000-000000000000"),
    ] {
        let body = json!({
            "password": "correct horse", "current_password": "correct horse",
            "new_password": "correct horse",
        });
        let reply = send_json(&app, method.clone(), path, &token, &body).await;
        reply.assert_code(403, "not_a_user");
    }
    assert_eq!(app.send_with_token(Method::GET, "/admin/users", &token).await.status, 200);
}

async fn change_of_a_client_ends_its_tokens(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    let watcher = Machine::create(&app, &admin, "watcher", "tokens:introspect").await;
    let orders = Machine::create(&app, &admin, "orders", "orders:read orders:write").await;
    let path = orders.path();
    let set = async |permissions: Value| {
        let body = json!({ "permissions": permissions });
        assert_eq!(send_json(&app, Method::PUT, &path, &admin, &body).await.status, 200);
    };

    let token = orders.token().await;
    set(json!(["orders:read", "orders:write", "orders:delete"])).await;
    assert!(watcher.is_active(&token).await, "more rights end nothing");
    set(json!(["orders:read"])).await;
    assert!(!watcher.is_active(&token).await);
    let token = orders.token().await;
    assert_eq!(decode_claims(&token)["scope"], "orders:read");
    for (method, suffix) in [(Method::POST, "/disable"), (Method::POST, "/enable")] {
        let reply = app.send_with_token(method, &format!("{path}{suffix}"), &admin).await;
        reply.assert_disabled(suffix == "/disable");
    }
    assert!(!watcher.is_active(&token).await);
    let token = orders.token().await;
    assert!(watcher.is_active(&token).await);
    assert_eq!(app.send_with_token(Method::DELETE, &path, &admin).await.status, 204);
    assert!(!watcher.is_active(&token).await);
    orders.get_token().await.assert_code(401, "invalid_client");
    app.send_with_token(Method::GET, &path, &admin).await.assert_code(404, "not_found");
}

async fn secret_is_replaced_without_a_gap(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    let watcher = Machine::create(&app, &admin, "watcher", "tokens:introspect").await;
    let old = Machine::create(&app, &admin, "orders", "orders:read").await;
    let secrets = format!("{}/secrets", old.path());

    let reply = app.send_with_token(Method::POST, &secrets, &admin).await;
    assert_eq!(reply.status, 201);
    let new = Machine::from_reply(&app, &reply);
    app.send_with_token(Method::POST, &secrets, &admin).await.assert_code(409, "too_many_secrets");
    let [of_old, of_new] = [old.token().await, new.token().await];
    let old_id = reply.body["secrets"][0]["id"].as_str().unwrap();
    let remove = format!("{secrets}/{old_id}");
    assert_eq!(app.send_with_token(Method::DELETE, &remove, &admin).await.status, 200);

    old.get_token().await.assert_code(401, "invalid_client");
    assert!(!watcher.is_active(&of_old).await && watcher.is_active(&of_new).await);
    assert_eq!(new.get_token().await.status, 200);
    app.send_with_token(Method::DELETE, &remove, &admin).await.assert_code(404, "not_found");
}

async fn client_grants_only_what_it_holds(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    let target = Machine::create(&app, &admin, "target", "keys:write").await;
    let manager = Machine::create(&app, &admin, "manager", "clients:write orders:read").await;
    let token = manager.token().await;
    let narrow = "grant_type=client_credentials&scope=clients:write";
    let narrow = manager.post("/oauth/token", narrow).await.access_token();
    let new = |name: &str, permissions: Value| json!({ "name": name, "permissions": permissions });

    let lacking = create(&app, &token, &new("a", json!(["orders:read", "keys:write"]))).await;
    lacking.assert_error(
        403,
        "permissions_lacking",
        "Permissions can be granted only by a requester that has them: keys:write",
    );
    let by_narrow = create(&app, &narrow, &new("b", json!(["orders:read"]))).await;
    by_narrow.assert_code(403, "permissions_lacking");
    let secrets = format!("{}/secrets", target.path());
    let takeover = app.send_with_token(Method::POST, &secrets, &token).await;
    takeover.assert_code(403, "permissions_lacking");
    assert_eq!(create(&app, &token, &new("c", json!(["orders:read"]))).await.status, 201);

    // The token still has the permission, the client does not: the commit decides.
    let body = json!({ "permissions": ["clients:write"] });
    send_json(&app, Method::PUT, &manager.path(), &admin, &body).await;
    create(&app, &token, &new("d", json!([]))).await.assert_code(401, "token_revoked");
}

async fn wider_rights_of_a_client_count_as_grants(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    let manager = Machine::create(&app, &admin, "manager", "clients:write").await;
    let token = manager.token().await;
    let limited = json!({
        "name": "limited", "permissions": ["keys:write"], "resource": ["orders"],
        "audience": ["orders"], "expires_at": "2099-01-01T00:00:00Z",
    });
    let limited = Machine::from_reply(&app, &create(&app, &admin, &limited).await);
    let rights = |resource: &str, audience: &str, expires_at: &str| {
        json!({
            "permissions": ["keys:write"], "resource": [resource], "audience": [audience],
            "expires_at": expires_at,
        })
    };
    for (body, status) in [
        (json!({ "permissions": ["keys:write", "users:read"] }), 403),
        (rights("portcullis", "orders", "2099-01-01T00:00:00Z"), 403),
        (rights("orders", "portcullis", "2099-01-01T00:00:00Z"), 403),
        (rights("orders", "orders", "2099-01-02T00:00:00Z"), 403),
        (json!({ "permissions": ["keys:write"] }), 403),
        (rights("orders", "orders", "2098-01-01T00:00:00Z"), 200),
    ] {
        let reply = send_json(&app, Method::PUT, &limited.path(), &token, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {reply:?}");
    }
    for (action, status) in [("disable", 200), ("enable", 403)] {
        let path = format!("{}/{action}", limited.path());
        let reply = app.send_with_token(Method::POST, &path, &token).await;
        assert_eq!(reply.status.as_u16(), status, "{action}: {reply:?}");
    }
}

async fn client_is_the_requester_in_the_audit_log(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    let manager = Machine::create(&app, &admin, "manager", "users:write dashboard:read").await;

    let new = json!({ "username": "alice", "password": "correct horse" });
    let reply = send_json(&app, Method::POST, "/admin/users", &manager.token().await, &new).await;

    assert_eq!(reply.status, 201, "{reply:?}");
    let log = app.send_with_token(Method::GET, "/admin/audit?action=user.created", &admin).await;
    assert_eq!(log.body["records"][0]["actor"], manager.id, "{log:?}");
    let log = app.send_with_token(Method::GET, "/admin/audit?action=client.created", &admin).await;
    let detail = format!("manager {}: dashboard:read users:write", manager.id);
    assert_eq!(log.body["records"][0]["detail"], detail);
}

async fn invalid_client_is_not_created(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    Machine::create(&app, &admin, "orders", "").await;

    for (body, status, code) in [
        (json!({ "name": "orders" }), 409, "client_exists"),
        (json!({}), 400, "invalid_client_name"),
        (json!({ "name": "two words" }), 400, "invalid_client_name"),
        (json!({ "name": "a", "permissions": ["two words"] }), 400, "invalid_permissions"),
        (json!({ "name": "a", "audience": ["moon"] }), 400, "invalid_audience"),
        (json!({ "name": "a", "resource": [] }), 400, "invalid_audience"),
        (json!({ "name": "a", "expires_at": "tomorrow" }), 400, "invalid_body"),
        (json!({ "name": "a", "permissions": "orders:read" }), 400, "invalid_body"),
        (json!({ "name": "a", "resources": ["orders"] }), 400, "invalid_body"),
    ] {
        create(&app, &admin, &body).await.assert_code(status, code);
    }
    let list = app.send_with_token(Method::GET, "/admin/clients", &admin).await;
    assert_eq!(list.body["clients"].as_array().unwrap().len(), 1);
    let path = format!("/admin/clients/{}", list.body["clients"][0]["client_id"].as_str().unwrap());
    let reply = send_json(&app, Method::PUT, &path, &admin, &json!({})).await;
    reply.assert_code(400, "missing_permissions");
    assert!(!list.text.contains("pcs_"), "no secret is shown again");
    let user = app.register_and_log_in("alice").await;
    let refused = app.send_with_token(Method::GET, "/admin/clients", &user).await;
    refused.assert_code(403, "permission_missing");
}

async fn client_commands_change_the_clients(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let run = async |args: &str| {
        let mut command = Process::command(&database);
        let output = command.arg("client").args(args.split_whitespace()).output().await.unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let line = stdout.lines().next().unwrap_or("null").to_owned();
        (output.status.code(), serde_json::from_str::<Value>(&line).unwrap_or_default(), stdout)
    };

    let (code, created, _) =
        run("create orders --permission tokens:introspect --permission orders:read --json").await;
    assert_eq!(code, Some(0));
    let text = |name: &str| created[name].as_str().unwrap().to_owned();
    let orders = Machine { app: app.clone(), id: text("client_id"), secret: text("client_secret") };
    // The running service follows.
    eventually("the client is known", async || orders.get_token().await.status == 200).await;
    let token = orders.token().await;
    let (code, added, _) = run("add-secret orders --json").await;
    assert_eq!((code, added["secrets"].as_array().unwrap().len()), (Some(0), 2));
    let (code, set, _) = run("set orders --permission tokens:introspect --json").await;
    assert_eq!((code, &set["permissions"]), (Some(0), &json!(["tokens:introspect"])));
    eventually("the token has ended", async || {
        app.send_with_token(Method::GET, "/auth/check", &token).await.status == 401
    })
    .await;
    let remove = format!("remove-secret orders {}", added["secrets"][0]["id"].as_str().unwrap());
    assert_eq!(run(&remove).await.0, Some(0));
    assert_eq!(run("disable orders").await.0, Some(0));
    assert_eq!(run("enable orders").await.0, Some(0));
    let (_, shown, _) = run(&format!("show {} --json", orders.id)).await;
    assert_eq!((&shown["name"], shown.get("client_secret")), (&json!("orders"), None));
    assert!(run("list").await.2.contains(&orders.id));
    assert_eq!(run("create orders").await.0, Some(4));
    assert_eq!(run("create two,words").await.0, Some(2));
    assert_eq!(run("create other --audience moon").await.0, Some(2));
    assert_eq!(run("delete orders --yes").await.0, Some(0));
    assert_eq!(run("delete orders --yes").await.0, Some(3));
}

async fn other_instance_refuses_a_disabled_client(database: TestDatabase) {
    let first = TestApp::start(&database).await;
    let second = TestApp::start(&database).await;
    let admin = register_admin(&first, &database).await;
    let orders = Machine::create(&first, &admin, "orders", "tokens:introspect").await;
    let elsewhere = Machine { app: second.clone(), id: orders.id.clone(), secret: orders.secret };
    eventually("the client is known", async || elsewhere.get_token().await.status == 200).await;

    let disable = format!("{}/disable", elsewhere.path());
    first.send_with_token(Method::POST, &disable, &admin).await.assert_disabled(true);

    eventually("the client is refused", async || elsewhere.get_token().await.status == 401).await;
}

async fn unreadable_client_fails_no_list(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = register_admin(&app, &database).await;
    Machine::create(&app, &admin, "orders", "").await;
    Machine::create(&app, &admin, "broken", "").await;
    database.execute("update clients set name = 'two words' where name = 'broken'").await;

    let list = app.send_with_token(Method::GET, "/admin/clients", &admin).await;

    assert_eq!(list.body["clients"][0]["name"], "orders", "{list:?}");
    assert_eq!(list.body["broken"], json!(["two words"]));
}
