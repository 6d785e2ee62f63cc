//! Design rules that the compiler does not check.

mod imports;

use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the top down. Each may import those in the lines below it.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["startup", "commands"],
    &["http"],
    &["actors"],
    &["keys"],
    &["store", "hashing", "tokens", "revocation", "clients"],
    &["telemetry", "metrics", "clock", "signals", "descriptors", "healthcheck"],
    &["config"],
    &["domain"],
];

/// Reads every source file, with its path inside `src`.
fn read_sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                sources.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    sources
}

/// Returns the top-level module that a file belongs to.
fn top_level_module(path: &Path) -> String {
    let first = path.components().next().unwrap();
    Path::new(&first).file_stem().unwrap().to_str().unwrap().to_owned()
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Lists the lines that contain a text, except in the allowed modules.
fn find_outside(allowed_modules: &[&str], text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (path, source) in read_sources() {
        if !allowed_modules.contains(&top_level_module(&path).as_str()) {
            let lines = source.lines().filter(|line| line.contains(text));
            found.extend(lines.map(|line| format!("{}: {line}", path.display())));
        }
    }
    found
}

#[test]
fn only_top_modules_use_actix_web() {
    let found = find_outside(&["http", "startup", "main"], "actix_web::");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn only_store_uses_sqlx() {
    let found = find_outside(&["store"], "sqlx::");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn only_config_reads_the_environment() {
    let found = find_outside(&["config"], "env::var");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_module_has_a_layer() {
    for (path, _) in read_sources() {
        let module = top_level_module(&path);
        assert!(module == "lib" || layer_of(&module).is_some(), "{module} is not in LAYERS");
    }
}

#[test]
fn imports_point_to_lower_layers() {
    for (path, source) in read_sources() {
        let module = top_level_module(&path);
        let Some(layer) = layer_of(&module) else { continue };
        let imports = source.lines().filter_map(|line| line.trim().strip_prefix("use crate::"));
        for import in imports {
            let imported = import.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            let is_below = layer_of(imported).is_some_and(|imported| imported > layer);
            assert!(is_below || imported == module, "{} uses crate::{imported}", path.display());
        }
    }
}

/// Unlike rustc's `missing_docs`, this leaves out fields: a name like `user_id` needs no comment.
#[test]
fn every_public_item_has_a_doc_comment() {
    const ITEMS: &[&str] = &["fn", "async", "const", "struct", "enum", "trait", "type"];
    for (path, source) in read_sources() {
        let mut has_doc = false;
        for line in source.lines().map(str::trim) {
            let keyword = line.strip_prefix("pub ").and_then(|item| item.split(' ').next());
            let is_item = keyword.is_some_and(|keyword| ITEMS.contains(&keyword));
            assert!(has_doc || !is_item, "{}: no doc comment on `{line}`", path.display());
            // A macro passes a comment on as `$(#[$doc])*`.
            let is_doc = line.starts_with("///") || line.starts_with("$(#[");
            // Attributes, which may span lines, stand between the comment and the item.
            has_doc = is_doc || (has_doc && !line.ends_with([';', '}']));
        }
    }
}

#[test]
fn circle_through_a_re_export_is_found() {
    let sources = [
        ("a/mod.rs", "mod one;\nmod two;\n\npub use one::One;\npub use two::Two;\n"),
        ("a/one.rs", "use super::Two;\n\npub struct One(Two);\n"),
        ("a/two.rs", "pub struct Two(Option<Box<super::One>>);\n"),
        ("a/three.rs", "use super::{One, Two};\n"),
    ];
    let sources = sources.map(|(path, text)| (PathBuf::from(path), text.to_owned()));

    let circle = ["a/one.rs", "a/two.rs"].map(PathBuf::from).into();
    assert_eq!(imports::find_circles(&sources), [circle].into());
}

#[test]
fn files_do_not_import_in_circles() {
    let sources = read_sources();
    let circles = imports::find_circles(&sources);
    assert!(circles.is_empty(), "these files import each other: {circles:#?}");
}
