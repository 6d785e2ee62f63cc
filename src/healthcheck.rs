//! Client of `/health/ready`: the health check of containers without `curl`.

use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::ListenAddress;

/// Timeout of the request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Failure of a health check.
#[derive(Debug, Error)]
pub enum HealthcheckError {
    /// The request could not be sent, or the reply could not be read.
    #[error("cannot reach {0}:{1}")]
    Unreachable(String, u16, #[source] io::Error),
    /// The instance did not answer in time.
    #[error("no answer within {TIMEOUT:?}")]
    Timeout,
    /// The instance is not ready. Contains the body of its reply.
    #[error("not ready: {0}")]
    NotReady(String),
}

/// Checks that the instance whose probes are at an address is ready.
///
/// # Errors
/// Returns an error unless the instance answers with 200.
pub async fn run(ListenAddress { host, port }: ListenAddress) -> Result<(), HealthcheckError> {
    let Ok(outcome) = timeout(TIMEOUT, get_ready(&host, port)).await else {
        return Err(HealthcheckError::Timeout);
    };
    let reply = outcome.map_err(|error| HealthcheckError::Unreachable(host, port, error))?;
    if reply.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    let body = reply.split_once("\r\n\r\n").map_or(reply.as_str(), |(_, body)| body);
    Err(HealthcheckError::NotReady(body.trim().to_owned()))
}

/// Requests `/health/ready` and returns the reply, head and body.
async fn get_ready(host: &str, port: u16) -> io::Result<String> {
    let mut connection = TcpStream::connect((host, port)).await?;
    let request =
        format!("GET /health/ready HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut reply = String::new();
    connection.read_to_string(&mut reply).await?;
    Ok(reply)
}
