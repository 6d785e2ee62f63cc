//! The graph of imports between source files, read from their text.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

/// Modules by their path in the crate, such as `http/auth`. The crate itself is the empty path.
type Modules = BTreeMap<PathBuf, Module>;

struct Module {
    file: PathBuf,
    /// Paths of `pub use` items. They count as imports only where the file itself uses their names.
    re_exports: Vec<String>,
    /// Paths of all other `use` items, and paths and names in code.
    paths: Vec<String>,
}

/// Returns the shortest circle of imports through each file that is part of one.
pub fn find_circles(sources: &[(PathBuf, String)]) -> BTreeSet<BTreeSet<PathBuf>> {
    let modules: Modules = sources.iter().map(|(path, text)| read_module(path, text)).collect();
    let circles = modules.keys().filter_map(|module| shortest_circle(&modules, module));
    let file = |module: &PathBuf| modules[module].file.clone();
    circles.map(|circle| circle.iter().map(file).collect()).collect()
}

/// Searches breadth-first for a chain of imports from a module back to itself.
fn shortest_circle(modules: &Modules, start: &Path) -> Option<Vec<PathBuf>> {
    let mut chains = VecDeque::from([vec![start.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(chain) = chains.pop_front() {
        for imported in imported_modules(modules, chain.last()?) {
            if imported == start {
                return Some(chain);
            }
            if seen.insert(imported.clone()) {
                chains.push_back([chain.clone(), vec![imported]].concat());
            }
        }
    }
    None
}

fn imported_modules(modules: &Modules, importer: &Path) -> BTreeSet<PathBuf> {
    let resolve_path = |path: &String| {
        let first = path.split("::").next()?;
        resolve(modules, importer, path).or_else(|| find_re_export(modules, importer, first))
    };
    let paths = modules[importer].paths.iter();
    paths.filter_map(resolve_path).filter(|module| module != importer).collect()
}

/// Returns the module that defines the item at a path. Returns `None` for a path out of the crate
/// and for a plain name.
fn resolve(modules: &Modules, from: &Path, path: &str) -> Option<PathBuf> {
    let (first, rest) = path.split_once("::")?;
    let mut module = match first {
        "crate" => PathBuf::new(),
        "self" => from.to_owned(),
        "super" => from.parent()?.to_owned(),
        child => Some(from.join(child)).filter(|module| modules.contains_key(module))?,
    };
    for segment in rest.split("::") {
        match segment {
            "self" => {}
            "super" => module = module.parent()?.into(),
            child if modules.contains_key(&module.join(child)) => module.push(child),
            name => return find_re_export(modules, &module, name).or(Some(module)),
        }
    }
    Some(module)
}

/// Returns the module that defines a name which another module re-exports. A `*` re-exports every
/// name in the other file.
fn find_re_export(modules: &Modules, module: &Path, name: &str) -> Option<PathBuf> {
    let mentions_name = |found: &PathBuf| modules[found].paths.iter().any(|path| path == name);
    modules[module].re_exports.iter().find_map(|path| match path.rsplit_once("::")? {
        (parent, "*") => {
            resolve(modules, module, &format!("{parent}::{name}")).filter(mentions_name)
        }
        (_, last) if last == name => resolve(modules, module, path),
        _ => None,
    })
}

fn read_module(path: &Path, text: &str) -> (PathBuf, Module) {
    let is_folder = path.ends_with("mod.rs") || path.ends_with("lib.rs");
    let name = if is_folder { path.parent().unwrap().into() } else { path.with_extension("") };
    // A module of unit tests is the last item of its file.
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut re_exports = String::new();
    let mut other_code = String::new();
    let mut in_re_export = false;
    for line in code.lines() {
        let is_declaration = line.ends_with(';') && line.split(' ').any(|word| word == "mod");
        if is_declaration || line.trim_start().starts_with("//") {
            continue;
        }
        in_re_export |= line.starts_with("pub") && line.contains(" use ");
        let section = if in_re_export { &mut re_exports } else { &mut other_code };
        section.push_str(line);
        section.push('\n');
        in_re_export &= !line.ends_with(';');
    }
    let module = Module {
        file: path.to_owned(),
        re_exports: read_paths(&re_exports),
        paths: read_paths(&other_code),
    };
    (name, module)
}

/// Reads the paths and names in code. A group `a::{b, c::d}` yields `a::b` and `a::c::d`.
fn read_paths(code: &str) -> Vec<String> {
    let code = code.replace("::<", " ").replace(": ", " ").replace('{', " { ").replace('}', " } ");
    let pieces = code.split(|c: char| !(c.is_alphanumeric() || "_:*{}".contains(c)));
    let mut paths = Vec::new();
    let mut group = String::new();
    // The path before each open brace; empty if the brace does not open a group.
    let mut groups = Vec::new();
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        match piece {
            "{" => groups.push(std::mem::take(&mut group)),
            "}" => drop(groups.pop()),
            _ => {
                let path = groups.last().cloned().unwrap_or_default() + piece;
                group = if piece.ends_with("::") { path.clone() } else { String::new() };
                paths.push(path);
            }
        }
    }
    paths.retain(|path| !path.ends_with("::"));
    paths
}
