//! Logs: structured lines on standard output, as the request that they belong to.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal};

use thiserror::Error as ThisError;
use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogSettings};

/// Why there is no log.
#[derive(Debug, ThisError)]
pub enum TelemetryError {
    /// The filter is none.
    #[error("RUST_LOG is no filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Somebody logs already.
    #[error("a logger is installed already")]
    Installed(#[source] Box<dyn Error + Send + Sync>),
}

/// Sends the log of the whole process to standard output.
///
/// # Errors
/// When the filter is malformed, or a logger is installed already.
pub fn install(settings: &LogSettings) -> Result<(), TelemetryError> {
    let terminal = io::stdout().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(EnvFilter::try_new(&settings.filter)?);
    let pretty = match settings.format {
        LogFormat::Auto => terminal,
        LogFormat::Json => false,
        LogFormat::Pretty => true,
    };
    let installed = if pretty {
        lines.with_ansi(terminal).with_target(false).try_init()
    } else {
        lines.json().flatten_event(true).with_span_list(false).try_init()
    };
    installed.map_err(TelemetryError::Installed)
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
