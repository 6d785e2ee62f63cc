//! Logs: structured lines on standard output, as the request that they belong to.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal};

use thiserror::Error as ThisError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{fmt::layer, registry};

use crate::config::{LogFormat, LogSettings};

/// A logger that was installed already.
#[derive(Debug, ThisError)]
#[error("a logger is installed already")]
pub struct TelemetryError(#[from] TryInitError);

/// Sends the log of the whole process to standard output.
///
/// # Errors
/// When a logger is installed already.
pub fn install(settings: &LogSettings) -> Result<(), TelemetryError> {
    let terminal = io::stdout().is_terminal();
    let pretty = match settings.format {
        LogFormat::Auto => terminal,
        LogFormat::Json => false,
        LogFormat::Pretty => true,
    };
    let filtered = registry().with(settings.filter.clone());
    if pretty {
        filtered.with(layer().with_ansi(terminal).with_target(false)).try_init()?;
    } else {
        filtered.with(layer().json().flatten_event(true).with_span_list(false)).try_init()?;
    }
    Ok(())
}

/// Shows an error with everything that caused it, on one line.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
