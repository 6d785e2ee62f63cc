//! The OpenAPI document against the service that it describes. (Every reply in every other test is held
//! against it, too.)

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

use crate::support::{Reply, TestApp, TestDatabase, document, on_both_databases, send};

/// Where the table of routes is.
const ROUTES: &str = include_str!("../../src/http/mod.rs");

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];

/// Returns the paths in the table of routes: the texts there that begin with a slash.
fn routed() -> BTreeSet<&'static str> {
    let (_, table) = ROUTES.split_once("pub fn routes").expect("a table of routes");
    let (table, _) = table.split_once("\n}").expect("an end of it");
    table.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/')).collect()
}

fn documented() -> impl Iterator<Item = (&'static str, &'static Value)> {
    let paths = document()["paths"].as_object().expect("paths");
    paths.iter().map(|(path, item)| (path.as_str(), item))
}

/// Returns the methods of a path. `HEAD` goes without saying where there is `GET`.
fn methods(item: &Value) -> BTreeSet<&'static str> {
    let is_documented = |method: &&str| match *method {
        "HEAD" => item.get("get").is_some(),
        method => item.get(method.to_lowercase()).is_some(),
    };
    METHODS.into_iter().filter(is_documented).collect()
}

async fn try_out(app: &TestApp, method: &str, path: &str) -> Reply {
    let path = path.replace("{id}", "7c4b7bc8-2d4b-4c0e-8d3c-2c7a4b1f9a10");
    let path = path.replace("{file}", "start.js");
    send(app.request(Method::from_bytes(method.as_bytes()).unwrap(), &path)).await
}

#[test]
fn every_path_is_in_the_document_and_every_documented_path_is_there() {
    assert_eq!(documented().map(|(path, _)| path).collect::<BTreeSet<_>>(), routed());
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let operations = documented().flat_map(|(_, item)| item.as_object().expect("methods"));
    let name =
        |(_, operation): (_, &'static Value)| operation["operationId"].as_str().expect("a name");
    let names: Vec<_> = operations.map(name).collect();

    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
}

on_both_databases! {
    async fn the_methods_of_every_path_are_those_in_the_document(database: TestDatabase) {
        let app = TestApp::start(&database).await;

        for (path, item) in documented() {
            let allowed = methods(item);
            for method in METHODS {
                let reply = try_out(&app, method, path).await;
                if allowed.contains(method) {
                    assert!(![404, 405].contains(&reply.status.as_u16()), "{method} {path}: {reply:?}");
                } else {
                    assert_eq!(reply.status, 405, "{method} {path}");
                    let said = reply.header("allow").expect("methods").split(", ").collect();
                    assert_eq!(allowed, said, "{method} {path}");
                }
            }
        }
    }

    async fn the_document_is_served_as_it_is_written(database: TestDatabase) {
        let app = TestApp::start(&database).await;

        let served = app.get("/openapi.json").await;

        assert_eq!(served.header("content-type"), Some("application/json"));
        assert_eq!(served.text, portcullis::http::openapi());
        assert_eq!(served.body["openapi"], "3.1.0");
    }

    async fn the_page_about_it_loads_nothing_but_its_own_files(database: TestDatabase) {
        let app = TestApp::start(&database).await;

        let page = app.get("/docs").await;
        let files = page.text.split('"').filter(|text| text.starts_with("docs/"));
        for path in files.map(|file| format!("/{file}")).chain(["/docs".to_owned()]) {
            let reply = app.get(&path).await;
            assert_eq!(reply.status, 200, "{path}");
            assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
            let policy = reply.header("content-security-policy").expect("a policy");
            assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
        }
        assert!(!page.text.contains("//"), "{}", page.text);
        app.get("/docs/index.html").await.assert_error(404, "not_found", "Not found");
    }
}
