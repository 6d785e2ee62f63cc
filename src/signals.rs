//! SIGTERM, SIGINT and SIGHUP: the first signal starts a shutdown, the second one ends the process at
//! once.

use std::future::poll_fn;
use std::task::Poll;
use std::{fs, io, process};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code after a second signal: 128 + SIGINT, as shells report it.
const INTERRUPTED: i32 = 130;

/// Installs the signal handlers. The future resolves at the first signal; the next one ends the
/// process.
///
/// # Errors
/// Returns an error if the operating system refuses a handler.
pub fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut signals = vec![signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    if !is_hangup_ignored() {
        signals.push(signal(SignalKind::hangup())?);
    }
    Ok(async move {
        next_signal(&mut signals).await;
        actix::spawn(async move {
            next_signal(&mut signals).await;
            exit();
        });
    })
}

async fn next_signal(signals: &mut [Signal]) {
    poll_fn(|context| {
        let has_arrived = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
        if has_arrived { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Returns `true` if the process was started with SIGHUP ignored, as by `nohup`. Outside Linux it
/// cannot be told.
fn is_hangup_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 != 0)
}

#[expect(clippy::exit, reason = "a second signal is a request to skip the shutdown")]
fn exit() -> ! {
    process::exit(INTERRUPTED)
}
