//! [`Pieces`]: a reply body that is sent in small pieces.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;

/// Maximum size of a piece, in bytes.
const MAX_SIZE: usize = 32 * 1024;

/// Body that yields another one in pieces. The server copies what a body yields, so that a client
/// that reads a large reply slowly would otherwise occupy the size of the whole reply.
pub(super) struct Pieces<B> {
    body: B,
    rest: Bytes,
}

impl<B> Pieces<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, rest: Bytes::new() }
    }
}

impl<B: MessageBody + Unpin> MessageBody for Pieces<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_next(context)) {
                Some(Ok(bytes)) => self.rest = bytes,
                end => return Poll::Ready(end),
            }
        }
        let size = self.rest.len().min(MAX_SIZE);
        Poll::Ready(Some(Ok(self.rest.split_to(size))))
    }
}
