//! The program: runs a command. A failure is one line on standard error and an exit code. A reader
//! of the output that has gone is an exit code alone.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use actix_web::rt::System;
use mimalloc::MiMalloc;
use portcullis::clock::SystemClock;
use portcullis::commands::{self, CommandError};
use portcullis::config::{
    Cli, Command, Config, Database, DatabaseCommand, KeyArgs, KeyCommand, ManagementConfig,
    RawSettings, SecretCommand, SecretKeySource, VERSION, Warning,
};
use portcullis::metrics::Metrics;
use portcullis::startup::Application;
use portcullis::telemetry::{self, ErrorChain};
use portcullis::{healthcheck, signals};
use tokio::select;

/// A revocation that is applied makes half a dozen small allocations: a million take 0.9 s of a core
/// with mimalloc, and 1.2 s with the system's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let command_error = error.downcast_ref::<CommandError>();
            if !command_error.is_some_and(CommandError::is_broken_pipe) {
                // If standard error cannot be written to, the exit code has to do.
                let _ = writeln!(io::stderr(), "portcullis: {}", ErrorChain(error.as_ref()));
            }
            command_error.map_or(ExitCode::FAILURE, CommandError::exit_code)
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let Cli { command, settings } = Cli::load();
    let system = System::new();
    match command.unwrap_or(Command::Serve) {
        Command::Serve => system.block_on(serve(settings.check()?)),
        Command::Healthcheck => {
            let address = settings.local_address()?;
            Ok(system.block_on(healthcheck::run(address))?)
        }
        Command::User(args) => {
            let config = check_for_management(&settings)?;
            Ok(system.block_on(commands::user(args, config, Arc::new(SystemClock)))?)
        }
        Command::Role(args) => {
            let config = check_for_management(&settings)?;
            Ok(system.block_on(commands::role(args, config))?)
        }
        Command::Client(args) => {
            let config = settings.check()?;
            print_warnings(&config.warnings)?;
            Ok(system.block_on(commands::client(args, config))?)
        }
        Command::Key(KeyArgs { command: KeyCommand::List, json }) => {
            let config = check_for_management(&settings)?;
            Ok(system.block_on(commands::list_keys(config, json))?)
        }
        Command::Key(args) => {
            let config = settings.check()?;
            print_warnings(&config.warnings)?;
            Ok(system.block_on(commands::change_keys(args, config, Arc::new(SystemClock)))?)
        }
        Command::Secret(SecretCommand::Generate) => Ok(commands::generate_secret()?),
        Command::Secret(SecretCommand::Retire) => {
            let config = settings.check()?;
            print_warnings(&config.warnings)?;
            Ok(system.block_on(commands::retire_secret(config))?)
        }
        Command::Database(command) => system.block_on(run_on_databases(command, &settings)),
        Command::Doctor(args) => {
            Ok(system.block_on(commands::doctor(args, &settings, Arc::new(SystemClock)))?)
        }
        Command::Openapi => Ok(commands::openapi()?),
        Command::Settings => Ok(commands::settings()?),
        Command::Completions { shell } => Ok(commands::completions(shell)?),
        Command::Migrate => {
            let config = check_for_management(&settings)?;
            Ok(system.block_on(commands::migrate(&config.database))?)
        }
    }
}

async fn run_on_databases(
    command: DatabaseCommand,
    settings: &RawSettings,
) -> Result<(), Box<dyn Error>> {
    match command {
        DatabaseCommand::Copy(args) => {
            let config = settings.check_for_copy(&args)?;
            print_warnings(&config.warnings)?;
            Ok(commands::copy_database(config).await?)
        }
        DatabaseCommand::Backup { file } => {
            let config = check_for_management(settings)?;
            Ok(commands::back_up_database(config, &file).await?)
        }
    }
}

fn check_for_management(settings: &RawSettings) -> Result<ManagementConfig, Box<dyn Error>> {
    let config = settings.check_for_management()?;
    print_warnings(&config.warnings)?;
    Ok(config)
}

fn print_warnings(warnings: &[Warning]) -> io::Result<()> {
    warnings.iter().try_for_each(|warning| writeln!(io::stderr(), "portcullis: warning: {warning}"))
}

async fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    let metrics = Arc::new(Metrics::new()?);
    let _log = telemetry::install(&config.log, metrics.log_lines_dropped.clone())?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let mut stop = Box::pin(signals::stop()?);
    let database = match &config.database.database {
        Database::Postgres(_) => "postgres".to_owned(),
        Database::Sqlite(path) => format!("sqlite, {}", path.display()),
    };
    let secret = match &config.keys.secret {
        SecretKeySource::Given(_) => "from JWT_SECRET_KEY".to_owned(),
        SecretKeySource::KeptIn(path) => format!("kept in {}", path.display()),
    };
    let application = select! {
        application = Application::build(config, Arc::new(SystemClock), metrics) => application?,
        () = &mut stop => {
            tracing::info!("stopped before the service had started");
            return Ok(());
        }
    };
    if let Some(address) = application.management_address() {
        tracing::info!("metrics, probes, documentation and administration on http://{address}");
    }
    tracing::info!(
        version = VERSION,
        database,
        secret,
        "listening on http://{}",
        application.address()
    );
    application.run_until_stopped(stop).await?;
    Ok(())
}
