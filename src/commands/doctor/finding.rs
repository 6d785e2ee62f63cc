//! [`Finding`]: the result of one check.

use std::fmt;

use serde::Serialize;
use strum::IntoStaticStr;

/// Severity of a finding, in the order of the output: what matters most comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub(super) enum Severity {
    Ok,
    /// Unwise, or not checked.
    Warning,
    /// A promise of the service is lost, or it does not start.
    Error,
}

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// Stable name of the check: its group and, after a dot, its subject.
    pub(super) check: &'static str,
    pub(super) severity: Severity,
    message: String,
    /// Remedy, with a section of `docs/`; `None` if there is nothing to do.
    advice: Option<String>,
}

impl Finding {
    pub(super) fn error(
        check: &'static str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let (message, advice) = (message.into(), Some(advice.into()));
        Self { check, severity: Severity::Error, message, advice }
    }

    pub(super) fn warning(
        check: &'static str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let (message, advice) = (message.into(), Some(advice.into()));
        Self { check, severity: Severity::Warning, message, advice }
    }

    pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, severity: Severity::Ok, message: message.into(), advice: None }
    }

    /// Returns the finding of a check that failed.
    pub(super) fn unchecked(check: &'static str, reason: impl fmt::Display) -> Self {
        Self::warning(check, format!("not checked: {reason}"), "correct that, and check again")
    }

    /// Returns the finding of groups of checks that were not made.
    pub(super) fn skipped(groups: &[&str], reason: &str) -> Self {
        let message = format!("not checked, since {reason}: {}", groups.join(", "));
        Self::warning("doctor.skipped", message, "correct that, and check again")
    }
}

/// Writes one line.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, severity, message, advice } = self;
        let severity: &str = severity.into();
        // A message can contain text of the server or of a file.
        let message = message.replace(char::is_control, " ");
        write!(f, "{severity:<7}  {check}: {message}")?;
        let separator = if message.ends_with('?') { "" } else { ";" };
        match advice {
            Some(advice) => write!(f, "{separator} {advice}"),
            None => Ok(()),
        }
    }
}
