//! Logging: structured lines on standard output.

mod json_lines;
mod log_writer;

use std::error::Error;
use std::io::{self, IsTerminal};
use std::{fmt, panic};

use prometheus::IntCounter;
use thiserror::Error as ThisError;
use tracing::Metadata;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{fmt::layer, registry};

use crate::config::{LogFormat, LogSettings};
use json_lines::JsonLines;
use log_writer::LogWriter;

pub use log_writer::LogGuard;

/// Failure to install the logger.
#[derive(Debug, ThisError)]
pub enum TelemetryError {
    /// Another logger is already installed.
    #[error("a logger is already installed")]
    Installed(#[from] TryInitError),
    /// The thread that writes the log does not start.
    #[error("failed to start the thread of the log")]
    Thread(#[from] io::Error),
}

/// Installs the logger of the process, which also logs panics. The lines are written by a thread;
/// `dropped` counts those that nothing reads.
///
/// # Errors
/// Returns an error if a logger is already installed, or the thread does not start.
pub fn install(settings: &LogSettings, dropped: IntCounter) -> Result<LogGuard, TelemetryError> {
    let is_terminal = io::stdout().is_terminal();
    let is_pretty = match settings.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Json => false,
        LogFormat::Pretty => true,
    };
    let writer = LogWriter::start(io::stdout(), dropped)?;
    let guard = LogGuard::new(writer.clone());
    let writer = move || writer.clone();
    let registry = registry().with(settings.filter.clone()).with(filter_fn(shows_no_secret));
    if is_pretty {
        let layer = layer().with_ansi(is_terminal).with_target(false).with_writer(writer);
        registry.with(layer).try_init()?;
    } else {
        let layer = layer().fmt_fields(JsonLines).event_format(JsonLines);
        registry.with(layer.with_writer(writer)).try_init()?;
    }
    panic::set_hook(Box::new(|panic| {
        let error = panic.payload_as_str();
        tracing::error!(
            error,
            location = panic.location().map(tracing::field::display),
            "panicked"
        );
    }));
    Ok(guard)
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
