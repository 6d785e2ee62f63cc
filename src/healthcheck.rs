//! Asks a running instance whether it is ready: the health check of containers without `curl`.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for the answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why an instance does not count as ready.
#[derive(Debug, Error)]
pub enum NotReady {
    /// It could not be asked.
    #[error("cannot reach {0}:{1}")]
    Unreachable(String, u16, #[source] io::Error),
    /// It did not answer in time.
    #[error("no answer within {DEADLINE:?}")]
    Late,
    /// It said no.
    #[error("not ready: {0}")]
    No(String),
}

/// Asks the instance at a host and a port.
///
/// # Errors
/// When its answer is anything but 200, or there is none.
pub async fn run((host, port): (String, u16)) -> Result<(), NotReady> {
    let reply = timeout(DEADLINE, ask(&host, port)).await.map_err(|_| NotReady::Late)?;
    let reply = reply.map_err(|error| NotReady::Unreachable(host, port, error))?;
    if reply.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    let body = reply.split_once("\r\n\r\n").map_or(reply.as_str(), |(_, body)| body);
    Err(NotReady::No(body.trim().to_owned()))
}

async fn ask(host: &str, port: u16) -> io::Result<String> {
    let mut connection = TcpStream::connect((host, port)).await?;
    let request =
        format!("GET /health/ready HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut reply = String::new();
    connection.read_to_string(&mut reply).await?;
    Ok(reply)
}
