use std::sync::LazyLock;

use reqwest::Method;
use serde_json::Value;

use super::Reply;

/// The OpenAPI document, which every reply of every test is held against.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(&portcullis::http::openapi()).expect("the document is JSON")
});

pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Fails unless a reply is one that the document foresees.
pub fn assert_documented(method: &Method, path: &str, reply: &Reply) {
    let Some(operation) = operation(method, path) else { return };
    let status = reply.status.as_str();
    let documented = resolved(&operation["responses"][status]);
    assert!(documented.is_object(), "{method} {path}: {status} is not in the document: {reply:?}");

    if let Some(content_type) = reply.header("content-type") {
        let content_type = content_type.split(';').next().unwrap_or_default();
        let content = &documented["content"][content_type];
        assert!(content.is_object(), "{method} {path}: {content_type} is not in the document");
        let codes = &content["schema"]["allOf"][1]["properties"]["code"]["enum"];
        let is_known = |codes: &Vec<Value>| codes.contains(&reply.body["code"]);
        assert!(
            reply.text.is_empty() || codes.as_array().is_none_or(is_known),
            "{method} {path}: the code is not in the document: {reply:?}",
        );
    }
    for (name, header) in documented["headers"].as_object().into_iter().flatten() {
        let is_there = reply.header(name).is_some();
        assert!(
            is_there || resolved(header)["required"] != true,
            "{method} {path}: {status} comes without {name}"
        );
    }
}

/// Returns what is said of a request, if there is something at its path for its method.
fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let mut paths = document()["paths"].as_object()?.iter();
    let (_, item) = paths.find(|(template, _)| is_at(path, template))?;
    item.get(method.as_str().to_lowercase())
}

fn is_at(path: &str, template: &str) -> bool {
    let (path, template): (Vec<_>, Vec<_>) =
        (path.split('/').collect(), template.split('/').collect());
    let alike = |(segment, template): (&&str, &&str)| {
        segment == template || (template.starts_with('{') && !segment.is_empty())
    };
    path.len() == template.len() && path.iter().zip(&template).all(alike)
}

fn resolved(value: &'static Value) -> &'static Value {
    let reference = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.map_or(value, |pointer| document().pointer(pointer).expect("it leads somewhere"))
}
