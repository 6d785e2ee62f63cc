//! SIGTERM and SIGINT: the first asks the service to stop, the second does not ask.

use std::io;
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code of a process that was interrupted twice, as a shell would give it for SIGINT.
const INTERRUPTED: i32 = 130;

/// Listens for signals. What it returns resolves at the first; from then on, the second ends the
/// process at once.
///
/// # Errors
/// When the operating system does not let it listen.
pub fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        either(&mut terminate, &mut interrupt).await;
        actix::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            exit();
        });
    })
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[expect(clippy::exit, reason = "whoever signals twice wants it to end without ceremony")]
fn exit() -> ! {
    process::exit(INTERRUPTED)
}
