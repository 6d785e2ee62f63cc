use std::sync::LazyLock;

use reqwest::Method;
use serde_json::Value;

use super::Reply;

/// The OpenAPI document; every reply of every test is checked against it.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(&portcullis::http::openapi(None)).expect("the document is JSON")
});

pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Panics unless the document describes this reply to a request.
pub fn assert_documented(method: &Method, path: &str, reply: &Reply) {
    let Some(operation) = find_operation(method, path) else { return };
    let status = reply.status.as_str();
    let response = resolve_reference(&operation["responses"][status]);
    assert!(response.is_object(), "{method} {path}: {status} is not in the document: {reply:?}");

    if let Some(content_type) = reply.header("content-type") {
        let content_type = content_type.split(';').next().unwrap_or_default();
        let content = &response["content"][content_type];
        assert!(content.is_object(), "{method} {path}: {content_type} is not in the document");
        let is_error = content["schema"]["$ref"] == "#/components/schemas/Error";
        let mut examples = content["examples"].as_object().into_iter().flatten();
        let has_code = |(_, example): (&_, _)| {
            resolve_reference(example)["value"]["code"] == reply.body["code"]
        };
        assert!(
            reply.text.is_empty() || !is_error || examples.any(has_code),
            "{method} {path}: the code is not in the document: {reply:?}",
        );
    }
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        let is_present = reply.header(name).is_some();
        assert!(
            is_present || resolve_reference(header)["required"] != true,
            "{method} {path}: {status} has no header {name}"
        );
    }
}

/// Returns the documented operation of a path and method, if there is one.
fn find_operation(method: &Method, path: &str) -> Option<&'static Value> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let mut paths = document()["paths"].as_object()?.iter();
    let (_, item) = paths.find(|(template, _)| matches_template(path, template))?;
    item.get(method.as_str().to_lowercase())
}

/// Returns `true` if a path fits a template such as `/admin/users/{id}`.
fn matches_template(path: &str, template: &str) -> bool {
    let segments: Vec<_> = path.split('/').collect();
    let template_segments: Vec<_> = template.split('/').collect();
    let matches_segment = |(segment, template): (&&str, &&str)| {
        segment == template || (template.starts_with('{') && !segment.is_empty())
    };
    segments.len() == template_segments.len()
        && segments.iter().zip(&template_segments).all(matches_segment)
}

/// Follows a `$ref`, if the value is one.
fn resolve_reference(value: &'static Value) -> &'static Value {
    let Some(reference) = value["$ref"].as_str() else { return value };
    let pointer = reference.strip_prefix('#').expect("the reference is local");
    document().pointer(pointer).expect("the reference resolves")
}
