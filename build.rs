//! Sets the variables with the commit that `config/version.rs` reads: `PORTCULLIS_COMMIT`, a hash, and
//! `PORTCULLIS_BUILD`, which also has its date.

use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

fn main() -> io::Result<()> {
    tell("rerun-if-changed=build.rs")?;
    tell("rerun-if-env-changed=PORTCULLIS_COMMIT")?;
    let build = match variable("PORTCULLIS_COMMIT") {
        Some(given) => Some(given),
        // A debug build would be compiled again after each commit.
        None if variable("PROFILE").as_deref() == Some("release") => commit_of_checkout()?,
        None => None,
    };
    let build = build.as_deref().unwrap_or("unknown");
    let commit = build.split_once(',').map_or(build, |(commit, _)| commit);
    tell(&format!("rustc-env=PORTCULLIS_BUILD={build}"))?;
    tell(&format!("rustc-env=PORTCULLIS_COMMIT={commit}"))
}

/// Returns the abbreviated hash and the date of the commit that is checked out, if this is a
/// checkout and not a part of another one.
fn commit_of_checkout() -> io::Result<Option<String>> {
    if !Path::new(".git").exists() {
        return Ok(None);
    }
    // Changes with every commit and checkout.
    if let Some(path) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        tell(&format!("rerun-if-changed={path}"))?;
    }
    Ok(git(&["log", "-1", "--format=%h, %cs"]))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    first_line(&text)
}

#[expect(clippy::disallowed_methods, reason = "a build script has no settings")]
fn variable(name: &str) -> Option<String> {
    first_line(&env::var(name).ok()?)
}

fn first_line(text: &str) -> Option<String> {
    text.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned)
}

fn tell(cargo: &str) -> io::Result<()> {
    writeln!(io::stdout(), "cargo::{cargo}")
}
