//! `portcullis doctor`: checks of a deployment. Each group of checks has a file. The database is only
//! read, and what cannot be checked is a finding of its own.

mod accounts;
mod clock;
mod configuration;
mod database;
mod exposure;
mod files;
mod finding;
mod keys;
mod ports;
mod secret;

use std::io::{self, Write};
use std::time::Duration;

use tokio::time::timeout;

use super::error::CommandError;
use crate::clock::Clock;
use crate::config::{Config, DatabaseSettings, DoctorArgs, RawSettings};
use crate::store::{self, DatabaseFacts, SchemaPolicy, Store};
use finding::{Finding, Severity};

/// Longest duration of all checks of the database.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(30);

/// Checks the deployment and prints the findings.
pub(super) async fn run(
    args: DoctorArgs,
    settings: &RawSettings,
    host: &dyn Clock,
) -> Result<(), CommandError> {
    let findings = examine(settings, host).await;
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let mut out = io::stdout().lock();
    for finding in &findings {
        if args.json {
            serde_json::to_writer(&mut out, finding).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{finding}")?;
        }
    }
    if !args.json {
        let ok = count(Severity::Ok);
        writeln!(out, "\nerrors: {errors}, warnings: {warnings}, ok: {ok}")?;
    }
    match (errors, warnings) {
        (0, 0) => Ok(()),
        (0, _) if args.strict => Err(CommandError::FoundWarnings),
        (0, _) => Ok(()),
        _ => Err(CommandError::FoundErrors),
    }
}

/// Makes all checks. Settings that the service refuses leave out those that need them.
async fn examine(settings: &RawSettings, host: &dyn Clock) -> Vec<Finding> {
    let config = settings.check();
    let management = settings.check_for_management();
    let mut findings = configuration::check(&config, &management);
    let mut skipped = Vec::new();
    findings.extend(files::check(settings, management.as_ref().ok()));
    match &config {
        Ok(config) => {
            findings.extend(secret::check_strength(&config.keys));
            findings.extend(exposure::check(config));
            findings.extend(ports::check(settings, config).await);
        }
        Err(_) => skipped.extend(["secret", "exposure", "ports"]),
    }
    match &management {
        Ok(management) => {
            if config.is_err() {
                skipped.push("keys");
            }
            check_database(&management.database, config.as_ref().ok(), host, &mut findings).await;
        }
        Err(_) => skipped.push("database"),
    }
    if !skipped.is_empty() {
        findings.push(Finding::skipped(&skipped, "the service refuses the settings"));
    }
    findings.sort_by_key(|finding| finding.severity);
    findings
}

async fn check_database(
    settings: &DatabaseSettings,
    config: Option<&Config>,
    host: &dyn Clock,
    findings: &mut Vec<Finding>,
) {
    let store = match store::open(settings, SchemaPolicy::Inspect, &|_| ()).await {
        Ok(store) => store,
        Err(error) => return findings.push(database::unopened(&error)),
    };
    let checks = check_store(&*store, settings, config, host, findings);
    if timeout(DATABASE_TIMEOUT, checks).await.is_err() {
        findings.push(database::silent(DATABASE_TIMEOUT));
    }
    // The process ends: a connection that does not respond is not waited for.
    let _ = timeout(settings.acquire_timeout, store.close()).await;
}

async fn check_store(
    store: &dyn Store,
    settings: &DatabaseSettings,
    config: Option<&Config>,
    host: &dyn Clock,
    findings: &mut Vec<Finding>,
) {
    let facts = store.inspect().await;
    findings.extend(database::judge(&facts, settings));
    let leeway = config.map(|config| config.tokens.leeway);
    findings.extend(clock::check(store, settings, leeway, host).await);
    if let Err(error) = store.check_schema().await {
        // Facts that cannot be read have a finding of their own.
        let can_migrate = facts.as_ref().map_or(true, DatabaseFacts::can_migrate);
        findings.push(database::unusable_schema(&error, &settings.database, can_migrate));
        return;
    }
    findings.push(Finding::ok("database.schema", "the schema is the one of this version"));
    if let Some(config) = config {
        findings.extend(secret::check_root_key(store, &config.keys).await);
        findings.extend(keys::check(store, config, host.now()).await);
    }
    findings.extend(accounts::check(store, host.now()).await);
}
