//! SIGTERM and SIGINT: the first signal starts a shutdown, the second one ends the process at once.

use std::io;
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code after a second signal: 128 + SIGINT, as shells report it.
const INTERRUPTED: i32 = 130;

/// Installs the signal handlers. The future resolves at the first signal; the next one ends the
/// process.
///
/// # Errors
/// Returns an error if the operating system refuses a handler.
pub fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        next_signal(&mut terminate, &mut interrupt).await;
        actix::spawn(async move {
            next_signal(&mut terminate, &mut interrupt).await;
            exit();
        });
    })
}

async fn next_signal(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[expect(clippy::exit, reason = "a second signal is a request to skip the shutdown")]
fn exit() -> ! {
    process::exit(INTERRUPTED)
}
