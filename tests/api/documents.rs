//! README and `docs/`: links and file names.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use regex_lite::Regex;

/// Reads every page for people, with its path.
fn read_pages() -> HashMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = HashMap::new();
    for folder in ["", "docs", "examples/express", "examples/fastapi", "examples/gateways"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.insert(path.clone(), fs::read_to_string(path).unwrap());
            }
        }
    }
    pages
}

/// Returns the anchors that GitHub gives to the headings of a page.
fn anchors(page: &str) -> Vec<String> {
    let headings = Regex::new(r"(?m)^#+ (.*)$").unwrap();
    let dropped = Regex::new(r"[^\w\- ]").unwrap();
    let anchor = |heading: &str| dropped.replace_all(&heading.to_lowercase(), "").replace(' ', "-");
    headings.captures_iter(page).map(|found| anchor(&found[1])).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\((?:([^)#:]+))?(?:#([^)]+))?\)").unwrap();
    let pages = read_pages();
    let mut dead = Vec::new();
    for (path, text) in &pages {
        for found in link.captures_iter(text) {
            let target = match found.get(1) {
                Some(file) => path.parent().unwrap().join(file.as_str()),
                None => path.clone(),
            };
            let is_alive = match (found.get(2), target.canonicalize()) {
                (_, Err(_)) => false,
                (None, Ok(_)) => true,
                (Some(anchor), Ok(target)) => anchors(&fs::read_to_string(target).unwrap())
                    .contains(&anchor.as_str().to_owned()),
            };
            if !is_alive {
                dead.push(format!("{}: {}", path.display(), &found[0]));
            }
        }
    }
    assert!(pages.len() > 20);
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn advice_of_doctor_names_sections_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let reference = Regex::new(r"docs/([\w-]+\.md)(?:#([\w-]+))?").unwrap();
    let pages = read_pages();
    let mut count = 0;
    for entry in fs::read_dir(root.join("src/commands/doctor")).unwrap() {
        let source = fs::read_to_string(entry.unwrap().path()).unwrap();
        for found in reference.captures_iter(&source) {
            let page = pages.get(&root.join("docs").join(&found[1]));
            let is_alive = |page: &String| match found.get(2) {
                Some(anchor) => anchors(page).contains(&anchor.as_str().to_owned()),
                None => true,
            };
            assert!(page.is_some_and(is_alive), "{}", &found[0]);
            count += 1;
        }
    }
    assert!(count > 30, "only {count} were found");
}

#[test]
fn every_file_in_the_architecture_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let files = Regex::new(r"`((?:\w+/|\*/)*\w+(?:\.rs|/))`").unwrap();
    let dialects = |file: &str| ["postgres", "sqlite"].map(|dialect| file.replace('*', dialect));
    let mut missing = Vec::new();
    for found in files.captures_iter(&page).flat_map(|found| dialects(&found[1])) {
        let places = ["", "src", "src/config", "src/domain", "src/actors", "src/http", "src/store"];
        if !places.iter().any(|place| root.join(place).join(&found).exists()) {
            missing.push(found);
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
