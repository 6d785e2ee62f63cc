//! Checks of the settings: what the service refuses, and what it warns of.

use super::finding::Finding;
use crate::config::{Config, ConfigError, ManagementConfig, Warning};

/// Reports the problems and the warnings of the settings. Warnings about files with secrets are left
/// to [`super::files`].
pub(super) fn check(
    config: &Result<Config, ConfigError>,
    management: &Result<ManagementConfig, ConfigError>,
) -> Vec<Finding> {
    let problems = config.as_ref().err().map(ConfigError::problems).unwrap_or_default();
    let advice = "the service does not start with it (docs/settings.md)";
    let errors = problems.iter().map(|text| Finding::error("configuration.settings", text, advice));
    let mut findings: Vec<_> = errors.collect();
    if findings.is_empty() {
        findings.push(Finding::ok("configuration.settings", "the service accepts all settings"));
    }
    let warnings = match (config, management) {
        (Ok(config), _) => config.warnings.as_slice(),
        (Err(_), Ok(config)) => config.warnings.as_slice(),
        _ => &[],
    };
    findings.extend(warnings.iter().filter_map(|warning| match warning {
        Warning::Setting(text) => Some(Finding::warning(
            "configuration.names",
            text,
            "correct or remove it (docs/settings.md)",
        )),
        Warning::ReadableSecret(_) => None,
    }));
    findings
}
