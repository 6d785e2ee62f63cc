//! Comparison of the OpenAPI document with the service. (Every reply in every other test is also
//! checked against the document.)

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, TestApp, TestDatabase, document, on_both_databases, send};

on_both_databases![
    documented_methods_match_the_routes,
    served_document_is_the_generated_one,
    served_document_names_the_public_url,
    docs_page_loads_only_its_own_files,
    docs_can_be_switched_off,
    examples_can_be_sent_as_they_are,
];

/// Source file with the table of routes.
const ROUTES: &str = include_str!("../../src/http/routes.rs");

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];

/// Returns the paths in the table of routes: its string literals that begin with a slash.
fn routed_paths() -> BTreeSet<&'static str> {
    let (table, _) =
        ROUTES.split_once("fn configure_errors").expect("the file has a table of routes");
    table.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/')).collect()
}

fn documented_paths() -> impl Iterator<Item = (&'static str, &'static Value)> {
    let paths = document()["paths"].as_object().expect("the document has paths");
    paths.iter().map(|(path, item)| (path.as_str(), item))
}

/// Returns the documented methods of a path. `GET` implies `HEAD`, and `x-any-method` all.
fn documented_methods(item: &Value) -> BTreeSet<&'static str> {
    let is_documented = |method: &&str| match *method {
        _ if item["get"]["x-any-method"] == true => true,
        "HEAD" => item.get("get").is_some(),
        method => item.get(method.to_lowercase()).is_some(),
    };
    METHODS.into_iter().filter(is_documented).collect()
}

async fn send_without_token(app: &TestApp, method: &str, path: &str) -> Reply {
    let path = path.replace("{id}", "7c4b7bc8-2d4b-4c0e-8d3c-2c7a4b1f9a10");
    let path = path.replace("{file}", "start.js");
    let path = path.replace("{rest}", "orders/7");
    let path = path.replace("{kid}", "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
    send(app.request(Method::from_bytes(method.as_bytes()).unwrap(), &path)).await
}

#[test]
fn documented_paths_match_the_routes() {
    assert_eq!(documented_paths().map(|(path, _)| path).collect::<BTreeSet<_>>(), routed_paths());
}

#[test]
fn operation_ids_are_unique() {
    let operations =
        documented_paths().flat_map(|(_, item)| item.as_object().expect("the item has methods"));
    let ids: Vec<_> =
        operations.map(|(_, operation)| operation["operationId"].as_str().unwrap()).collect();

    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
}

#[test]
fn error_replies_share_one_schema() {
    let replies = document()["components"]["responses"].as_object().expect("replies are shared");

    for (name, reply) in replies {
        let schema = &reply["content"]["application/json"]["schema"];
        assert_eq!(schema, &json!({ "$ref": "#/components/schemas/Error" }), "{name}");
    }
}

#[test]
fn operations_that_need_a_permission_are_open_to_clients() {
    let schemes = &document()["components"]["securitySchemes"];
    let scopes = &schemes["client_token"]["flows"]["clientCredentials"]["scopes"];

    let audit = &document()["paths"]["/admin/audit"]["get"]["security"];
    let me = &document()["paths"]["/auth/me"]["get"]["security"];

    let permission = json!(["audit:read"]);
    assert_eq!(audit, &json!([{ "access_token": permission }, { "client_token": permission }]));
    assert_eq!(me, &json!([{ "access_token": [] }]));
    assert!(scopes.get("audit:read").is_some(), "{scopes}");
}

async fn documented_methods_match_the_routes(database: TestDatabase) {
    // Without a public URL, there is no metadata.
    let url = "https://auth.example.com".to_owned();
    let app = TestApp::start_with(&database, |config| config.public_url = Some(url)).await;

    for (path, item) in documented_paths() {
        let allowed = documented_methods(item);
        for method in METHODS {
            let reply = send_without_token(&app, method, path).await;
            if allowed.contains(method) {
                assert!(![404, 405].contains(&reply.status.as_u16()), "{method} {path}: {reply:?}");
            } else {
                assert_eq!(reply.status, 405, "{method} {path}");
                let listed = reply.header("allow").expect("the reply has Allow").split(", ");
                assert_eq!(allowed, listed.collect(), "{method} {path}");
            }
        }
    }
}

async fn served_document_is_the_generated_one(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    let served = app.get("/openapi.json").await;

    assert_eq!(served.header("content-type"), Some("application/json"));
    assert_eq!(served.text, portcullis::http::openapi(None));
    assert_eq!(served.body["openapi"], "3.1.0");
}

async fn served_document_names_the_public_url(database: TestDatabase) {
    let url = "https://auth.example.com/portcullis".to_owned();
    let app = TestApp::start_with(&database, |config| config.public_url = Some(url)).await;

    let document = app.get("/openapi.json").await.body;

    assert_eq!(document["servers"], json!([{ "url": "https://auth.example.com/portcullis" }]));
    let scheme = &document["components"]["securitySchemes"]["client_token"];
    let token_url = &scheme["flows"]["clientCredentials"]["tokenUrl"];
    assert_eq!(token_url, "https://auth.example.com/portcullis/oauth/token");
}

async fn docs_page_loads_only_its_own_files(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    let page = app.get("/docs").await;
    let files = page.text.split('"').filter(|text| text.starts_with("docs/"));
    for path in files.map(|file| format!("/{file}")).chain(["/docs".to_owned()]) {
        let reply = app.get(&path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        let policy = reply.header("content-security-policy").expect("the reply has a policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    assert!(!page.text.contains("//"), "{}", page.text);
    app.get("/docs/index.html").await.assert_error(404, "not_found", "Not found");
}

async fn examples_can_be_sent_as_they_are(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = app.register_admin(&database).await;
    let schemas = &document()["components"]["schemas"];
    let example = |name: &str| &schemas[name]["example"];

    let registered = app.post("/auth/register", example("Credentials")).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let token = app.post("/auth/login", example("Login")).await.access_token();
    let parameters = &document()["paths"]["/auth/check"]["get"]["parameters"];
    let permission = parameters[0]["example"][0].as_str().expect("there is an example");
    let check = app.request(Method::GET, &format!("/auth/check?permission={permission}"));
    let required = parameters[1]["example"].as_str().expect("there is an example");
    let check = send(check.bearer_auth(&token).header("x-auth-require", required)).await;
    assert_eq!(check.status, 200, "{check:?}");
    for (method, path, schema, status) in [
        (Method::POST, "/admin/users", "NewAccount", 201),
        (Method::POST, "/admin/clients", "NewClient", 201),
        (Method::PUT, "/admin/roles/reader", "NewPermissions", 201),
    ] {
        let request = app.request(method, path).bearer_auth(&admin).json(example(schema));
        let reply = send(request).await;
        assert_eq!(reply.status, status, "{path}: {reply:?}");
    }
}

async fn docs_can_be_switched_off(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| config.http.serves_docs = false).await;

    for path in ["/docs", "/docs/start.js", "/openapi.json"] {
        let reply = app.request(Method::GET, path).send().await.unwrap();
        assert_eq!(reply.status(), 404, "{path}");
    }
    assert_eq!(app.get("/health/ready").await.status, 200);
}
