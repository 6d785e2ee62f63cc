//! The lines of the design that the compiler does not hold.

use std::fs;
use std::path::{Path, PathBuf};

/// Modules from the top down; each may use those below it.
const LAYERS: &[&[&str]] = &[
    &["main"],
    &["startup", "commands"],
    &["http"],
    &["actors"],
    &["store", "hashing", "tokens", "revocation"],
    &["telemetry", "metrics", "clock", "signals", "healthcheck"],
    &["config"],
    &["domain"],
];

fn sources() -> Vec<(PathBuf, String)> {
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
fn module(path: &Path) -> String {
    let first = path.components().next().unwrap();
    Path::new(&first).file_stem().unwrap().to_str().unwrap().to_owned()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Lists the places outside some modules that mention a text.
fn mentions(text: &str, allowed: &[&str]) -> Vec<String> {
    let outside = |path: &Path| !allowed.contains(&module(path).as_str());
    let lines = |(path, source): (PathBuf, String)| {
        let found: Vec<_> =
            source.lines().filter(|line| line.contains(text)).map(str::to_owned).collect();
        found.into_iter().map(move |line| format!("{}: {line}", path.display()))
    };
    sources().into_iter().filter(|(path, _)| outside(path)).flat_map(lines).collect()
}

#[test]
fn http_is_spoken_at_the_top_alone() {
    let found = mentions("actix_web::", &["http", "startup", "main"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn sql_lives_in_the_store_alone() {
    let found = mentions("sqlx::", &["store"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_environment_is_read_in_config_alone() {
    let found = mentions("env::var", &["config"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_module_has_its_layer() {
    for (path, _) in sources() {
        let module = module(&path);
        assert!(module == "lib" || layer(&module).is_some(), "{module} is not in LAYERS");
    }
}

#[test]
fn imports_point_down() {
    for (path, source) in sources() {
        let Some(from) = layer(&module(&path)) else { continue };
        let imported = source.lines().filter_map(|line| line.trim().strip_prefix("use crate::"));
        for import in imported {
            let to = import.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            let down = layer(to).is_some_and(|to| to > from) || to == module(&path);
            assert!(down, "{} uses crate::{to}", path.display());
        }
    }
}
