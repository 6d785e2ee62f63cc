//! Verifiers that follow the revocation feed: `receivers ADDRESS CREDENTIALS COUNT SECONDS`, with the
//! credentials of a client for HTTP Basic. Writes `ready` to standard error when all of them follow.
//! At the end, prints a line for each revocation that each of them received: the id, and the Unix time
//! of its arrival in seconds.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "standard streams are the result")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

mod connection;

use std::error::Error;
use std::fmt::Write;
use std::io;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use connection::{Connection, is_ok};

type Failure = Box<dyn Error + Send + Sync>;

/// Memory for the stack of a thread, in bytes: there are many threads, which do little.
const STACK_SIZE: usize = 128 * 1024;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, credentials, count, seconds] = &arguments[..] else {
        return Err("usage: receivers ADDRESS CREDENTIALS COUNT SECONDS".into());
    };
    let head = format!("HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {credentials}\r\n\r\n");
    let mut connection = Connection::open(address)?;
    let reply = connection.send(format!("GET /revocations {head}").as_bytes())?;
    let cursor = cursor(text(reply)?)?;
    let connections =
        (0..count.parse()?).map(|_| Connection::open(address)).collect::<io::Result<Vec<_>>>()?;
    let ends_at = Instant::now() + Duration::from_secs(seconds.parse()?);

    thread::scope(|scope| {
        let mut threads = Vec::new();
        for connection in connections {
            let (head, cursor) = (&head, cursor.clone());
            let thread = thread::Builder::new().stack_size(STACK_SIZE);
            let receive = move || follow(connection, head, cursor, ends_at);
            threads.push(thread.spawn_scoped(scope, receive)?);
        }
        eprintln!("ready");
        for thread in threads {
            let arrivals = thread.join().map_err(|_| "a receiver panicked")?;
            print!("{}", arrivals?);
        }
        Ok(())
    })
}

/// Follows the feed, and returns the lines of its arrivals.
fn follow(
    mut connection: Connection,
    head: &str,
    mut cursor: String,
    ends_at: Instant,
) -> Result<String, Failure> {
    let mut arrivals = String::new();
    while Instant::now() < ends_at {
        let request = format!("GET /revocations?wait=2.5&cursor={cursor} {head}");
        let reply = text(connection.send(request.as_bytes())?)?;
        let arrived_at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
        let revoked = reply.split_once(r#""revoked":["#).ok_or("no revocations in the reply")?.1;
        for entry in revoked.split(r#"[""#).skip(1) {
            let id = entry.split('"').next().unwrap_or_default();
            writeln!(arrivals, "{id} {arrived_at:.6}")?;
        }
        cursor = self::cursor(reply)?;
    }
    Ok(arrivals)
}

/// Returns a reply as text if its status is 200.
fn text(reply: &[u8]) -> Result<&str, Failure> {
    let text = str::from_utf8(reply)?;
    if is_ok(reply) { Ok(text) } else { Err(text.into()) }
}

/// Returns the position for the next request.
fn cursor(reply: &str) -> Result<String, Failure> {
    let after = reply.split_once(r#""cursor":""#).ok_or("no cursor in the reply")?.1;
    Ok(after.split('"').next().unwrap_or_default().to_owned())
}
