//! Logging: structured lines on standard output.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal};

use thiserror::Error as ThisError;
use tracing::Metadata;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{fmt::layer, registry};

use crate::config::{LogFormat, LogSettings};

/// Failure to install the logger.
#[derive(Debug, ThisError)]
#[error("a logger is already installed")]
pub struct TelemetryError(#[from] TryInitError);

/// Installs the logger of the process.
///
/// # Errors
/// Returns an error if a logger is already installed.
pub fn install(settings: &LogSettings) -> Result<(), TelemetryError> {
    let is_terminal = io::stdout().is_terminal();
    let is_pretty = match settings.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Json => false,
        LogFormat::Pretty => true,
    };
    let registry = registry().with(settings.filter.clone()).with(filter_fn(shows_no_secret));
    if is_pretty {
        registry.with(layer().with_ansi(is_terminal).with_target(false)).try_init()?;
    } else {
        registry.with(layer().json().flatten_event(true).with_span_list(false)).try_init()?;
    }
    Ok(())
}

/// Returns `false` for the events of `sqlx` that contain values of a URL or lines of a `pgpass`
/// file.
fn shows_no_secret(metadata: &Metadata<'_>) -> bool {
    let fields = metadata.fields();
    let shows_input = fields.field("value").is_some() || fields.field("line").is_some();
    !(shows_input && metadata.target().starts_with("sqlx_postgres::options"))
}

/// Displays an error and its sources on one line.
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
