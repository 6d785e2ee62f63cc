//! [`Connection`]: a TCP stream that records its state, and [`missed_deadline`], which watches it.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::metrics::MissedDeadline;

/// Longest time between two requests of a connection. Load balancers commonly keep idle connections
/// for a minute: with a longer time here the balancer closes first, and no request meets a closed
/// connection.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Number of looks at a connection during the shortest of its deadlines.
const LOOKS_PER_DEADLINE: u32 = 4;

/// Part of a reply that a client has to take during [`Deadlines::reply`], in bytes.
const MIN_PROGRESS: u64 = 16 * 1024;

/// Longest waits for the client of a connection. Handlers, and the bodies that they read, have
/// deadlines of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// Longest time for the head of a request, from its first byte.
    pub(super) head: Duration,
    /// Longest time until the client takes the next [`MIN_PROGRESS`] bytes of a reply.
    pub(super) reply: Duration,
}

/// Record of what happens on a connection. Its stream and its requests write it, the watch reads
/// it, all on one thread. A write reads no clock and sets no timer.
#[derive(Debug)]
pub(super) struct Activity {
    /// Number of requests whose head is complete.
    requests: Cell<u64>,
    is_handling: Cell<bool>,
    /// Whether bytes have arrived since the latest request.
    has_received: Cell<bool>,
    /// Whether bytes wait until the client has taken earlier ones.
    is_blocked: Cell<bool>,
    /// Number of bytes sent.
    sent: Cell<u64>,
}

/// Event that a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first byte after the first `n` requests.
    Idle(u64),
    /// The rest of a head after the first `n` requests, or of a body that is not read.
    Receiving(u64),
    /// The reply of a handler.
    Handling,
    /// A client that does not read.
    Replying,
}

impl Activity {
    /// Records that the head of a request is complete.
    pub(super) fn begin_request(&self) {
        self.requests.set(self.requests.get().wrapping_add(1));
        self.is_handling.set(true);
    }

    /// Records that a handler has replied.
    pub(super) fn end_request(&self) {
        self.is_handling.set(false);
        self.has_received.set(false);
    }

    fn phase(&self) -> Phase {
        if self.is_blocked.get() {
            Phase::Replying
        } else if self.is_handling.get() {
            Phase::Handling
        } else if self.has_received.get() {
            Phase::Receiving(self.requests.get())
        } else {
            Phase::Idle(self.requests.get())
        }
    }
}

impl Default for Activity {
    /// Returns the record of a new connection, whose first request is due at once.
    fn default() -> Self {
        Self {
            requests: Cell::default(),
            is_handling: Cell::default(),
            has_received: Cell::new(true),
            is_blocked: Cell::default(),
            sent: Cell::default(),
        }
    }
}

/// Watches a connection until its client misses a deadline. It looks a few times during each, and
/// so notices a quarter of the shortest one late.
pub(super) async fn missed_deadline(
    activity: Rc<Activity>,
    deadlines: Deadlines,
) -> MissedDeadline {
    let period = deadlines.head.min(deadlines.reply) / LOOKS_PER_DEADLINE;
    let mut phase = activity.phase();
    let mut sent = activity.sent.get();
    let mut waited = Duration::ZERO;
    loop {
        sleep(period).await;
        waited += period;
        let is_reading = activity.sent.get().wrapping_sub(sent) >= MIN_PROGRESS;
        if phase != activity.phase() || (phase == Phase::Replying && is_reading) {
            phase = activity.phase();
            sent = activity.sent.get();
            waited = Duration::ZERO;
        }
        match phase {
            Phase::Idle(_) if waited >= KEEP_ALIVE => return MissedDeadline::KeepAlive,
            Phase::Receiving(_) if waited >= deadlines.head => return MissedDeadline::Request,
            Phase::Replying if waited >= deadlines.reply => return MissedDeadline::Reply,
            _ => {}
        }
    }
}

/// TCP stream of a client, which records its [`Activity`].
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    activity: Rc<Activity>,
    /// Whether a read was put off because a write was blocked.
    is_read_put_off: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, activity: Rc::default(), is_read_put_off: false }
    }

    pub(super) fn activity(&self) -> &Rc<Activity> {
        &self.activity
    }
}

impl Drop for Connection {
    /// Resets the connection if its client does not read. Otherwise the kernel would keep for some
    /// minutes what the client has not taken.
    fn drop(&mut self) {
        if self.activity.is_blocked.get() {
            // An error means that the connection is gone already.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Connection {
    /// Reads nothing while a write is blocked: a client that does not take its replies gets no more
    /// requests in.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.activity.is_blocked.get() {
            self.is_read_put_off = true;
            return Poll::Pending;
        }
        let filled = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > filled {
            self.activity.has_received.set(true);
        }
        result
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.activity.is_blocked.set(result.is_pending());
        if let Poll::Ready(Ok(count)) = &result {
            let sent = self.activity.sent.get().wrapping_add(*count as u64);
            self.activity.sent.set(sent);
        }
        if result.is_ready() && std::mem::take(&mut self.is_read_put_off) {
            context.waker().wake_by_ref();
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
