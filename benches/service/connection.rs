//! A persistent HTTP connection that takes little processor time from the service it measures.

use std::io::{self, Read, Write};
use std::net::TcpStream;

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 16 * 1024] })
    }

    /// Sends a request and returns the whole reply, which has a `Content-Length` or no body.
    pub(crate) fn send(&mut self, request: &[u8]) -> io::Result<&[u8]> {
        self.stream.write_all(request)?;
        let mut length = 0;
        loop {
            if length == self.buffer.len() {
                self.buffer.resize(2 * length, 0);
            }
            let read = self.stream.read(&mut self.buffer[length..])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            length += read;
            let reply = &self.buffer[..length];
            if let Some(end) = find(reply, b"\r\n\r\n")
                && length >= end + 4 + content_length(&reply[..end])
            {
                return Ok(&self.buffer[..length]);
            }
        }
    }
}

pub(crate) fn is_ok(reply: &[u8]) -> bool {
    reply.starts_with(b"HTTP/1.1 200")
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
