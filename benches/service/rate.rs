//! Requests at a fixed rate: `rate ADDRESS METHOD PATH TOKENS RATE SECONDS CONNECTIONS`, with a
//! file of one access token a line, each of which is used in turn. Prints the latencies as JSON.
//!
//! Each request is due at a time of its own, and its latency counts from then, whether or not its
//! connection was free. So a server that stalls is charged for the requests that it kept from being
//! sent (coordinated omission).
#![expect(clippy::print_stdout, reason = "standard output is the result")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

mod connection;

use std::error::Error;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use connection::{Connection, is_ok};

/// Time for all connections to open.
const START_DELAY: Duration = Duration::from_millis(300);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, method, path, tokens, rate, seconds, connections] = &arguments[..] else {
        return Err("usage: rate ADDRESS METHOD PATH TOKENS RATE SECONDS CONNECTIONS".into());
    };
    let tokens = fs::read_to_string(tokens)?;
    let requests: Vec<_> = tokens.lines().map(|token| request(method, path, token)).collect();
    let (rate, connections): (u32, u32) = (rate.parse()?, connections.parse()?);
    let count = rate * seconds.parse::<u32>()?;
    let start = Instant::now() + START_DELAY;
    let due = |index: u32| start + Duration::from_secs(1) * index / rate;

    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|first| {
                let (requests, due) = (&requests, &due);
                scope.spawn(move || {
                    let mut connection = Connection::open(address)?;
                    let indexes = (first..count).step_by(connections as usize);
                    let send = |index: u32| {
                        let request = &requests[index as usize % requests.len()];
                        thread::sleep(due(index).saturating_duration_since(Instant::now()));
                        let is_ok = is_ok(connection.send(request)?);
                        Ok((due(index).elapsed(), is_ok))
                    };
                    indexes.map(send).collect::<io::Result<Vec<_>>>()
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });

    let mut latencies = Vec::new();
    let mut failed = 0;
    for result in results {
        for (latency, is_ok) in result? {
            latencies.push(latency);
            failed += u32::from(!is_ok);
        }
    }
    latencies.sort_unstable();
    let percentile = |per_mille: usize| {
        let latency = latencies.get((latencies.len() - 1) * per_mille / 1000);
        latency.copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    println!(
        r#"{{"requests": {}, "failed": {failed}, "p50_ms": {}, "p99_ms": {}, "p999_ms": {}}}"#,
        latencies.len(),
        percentile(500),
        percentile(990),
        percentile(999),
    );
    Ok(())
}

fn request(method: &str, path: &str, token: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n")
        .into()
}
