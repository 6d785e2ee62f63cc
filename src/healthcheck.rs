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

/// Longest reply that is read, in bytes.
const MAX_REPLY: u64 = 4 * 1024 * 1024;

/// Reply of an instance.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status; `None` if the reply is not HTTP/1.1.
    pub status: Option<u16>,
    pub body: String,
}

/// Checks that the instance whose probes are at an address is ready.
///
/// # Errors
/// Returns an error unless the instance answers with 200.
pub async fn run(address: ListenAddress) -> Result<(), HealthcheckError> {
    match get(&address, "/health/ready").await? {
        Reply { status: Some(200), .. } => Ok(()),
        Reply { body, .. } => Err(HealthcheckError::NotReady(body)),
    }
}

/// Requests a path of the instance at an address.
///
/// # Errors
/// Returns an error unless a reply arrives.
pub async fn get(address: &ListenAddress, path: &str) -> Result<Reply, HealthcheckError> {
    let ListenAddress { host, port } = address;
    let Ok(outcome) = timeout(TIMEOUT, request(host, *port, path)).await else {
        return Err(HealthcheckError::Timeout);
    };
    let unreachable = |error| HealthcheckError::Unreachable(host.clone(), *port, error);
    let reply = outcome.map_err(unreachable)?;
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or(("", &reply));
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    Ok(Reply { status, body: body.trim().to_owned() })
}

/// Sends a request and returns the reply, head and body.
async fn request(host: &str, port: u16, path: &str) -> io::Result<String> {
    let mut connection = TcpStream::connect((host, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut reply = Vec::new();
    connection.take(MAX_REPLY).read_to_end(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
