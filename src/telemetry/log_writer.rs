//! [`LogWriter`]: writes log lines from a thread of its own, so that a reader that stops holds up
//! nothing else.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;

/// Maximum number of lines that wait for the reader.
const CAPACITY: usize = 8 * 1024;

/// Maximum wait for the reader at the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval at which the waiting lines are counted at the end of the process.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Writer of log lines that never blocks: when too many wait for the reader, new ones are dropped
/// and counted.
#[derive(Clone)]
pub(super) struct LogWriter {
    lines: SyncSender<Vec<u8>>,
    waiting: Arc<AtomicUsize>,
    dropped: IntCounter,
}

impl LogWriter {
    /// Starts the thread that writes to an output.
    pub(super) fn start(
        output: impl Write + Send + 'static,
        dropped: IntCounter,
    ) -> io::Result<Self> {
        let (lines, queue) = sync_channel(CAPACITY);
        let writer = Self { lines, waiting: Arc::default(), dropped };
        let waiting = Arc::clone(&writer.waiting);
        let dropped = writer.dropped.clone();
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&queue, output, &waiting, &dropped))?;
        Ok(writer)
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if self.lines.try_send(line.to_vec()).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.dropped.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes lines as they arrive. When the reader has caught up, reports how many were dropped.
fn write_lines(
    queue: &Receiver<Vec<u8>>,
    mut output: impl Write,
    waiting: &AtomicUsize,
    dropped: &IntCounter,
) {
    let mut reported = 0;
    for line in queue {
        let is_written = output.write_all(&line).and_then(|()| output.flush()).is_ok();
        if !is_written {
            dropped.inc();
        }
        let is_last = waiting.fetch_sub(1, Ordering::Relaxed) == 1;
        let unreported = dropped.get() - reported;
        if is_written && is_last && unreported > 0 {
            reported += unreported;
            tracing::warn!(lines = unreported, "dropped log lines because nothing read them");
        }
    }
}

/// Guard of the lines that wait. When it is dropped, it waits until they are written, at most a
/// second.
pub struct LogGuard(LogWriter);

impl LogGuard {
    pub(super) fn new(writer: LogWriter) -> Self {
        Self(writer)
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let mut rest = FLUSH_TIMEOUT;
        while self.0.waiting.load(Ordering::Relaxed) > 0 && !rest.is_zero() {
            thread::sleep(POLL_INTERVAL);
            rest = rest.saturating_sub(POLL_INTERVAL);
        }
    }
}
