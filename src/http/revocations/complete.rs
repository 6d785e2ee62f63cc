//! [`CompleteReads`]: replies with every live revocation, which are serialized and compressed once
//! for many receivers.

use std::io::{self, Cursor, Read, Write};
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::http::header::{CONTENT_ENCODING, ContentType};
use actix_web::web::{self, Bytes};
use actix_web::{HttpResponse, rt};
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc, CrcWriter};
use futures_util::stream;
use tokio::time::timeout;

use crate::actors::{Mailbox, ReadRevocations, SessionActor};
use crate::clock::Clock;
use crate::domain::{FeedCursor, RevocationId};
use crate::http::error::ApiError;
use crate::revocation::{LogReply, LogView, Replica};

/// Header of a gzip stream without a name and a time (RFC 1952).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// End of a reply: that of the list, and of the object.
const END: &[u8] = b"]}\n";

/// Number of revocations that are serialized at a time.
const CHUNK: usize = 1_024;

/// Size of the pieces in which a reply is decompressed.
const PIECE: usize = 32 * 1024;

/// Time after which revocations that have expired meanwhile are left out.
const MAX_AGE: Duration = Duration::from_mins(5);

/// Number of later revocations that each reply adds by itself. More are compressed for all.
const MAX_ADDED: usize = 1_000;

/// The latest complete read of the replica.
pub struct CompleteReads {
    source: Source,
    /// Maximum duration of a read.
    timeout: Duration,
    latest: Arc<tokio::sync::Mutex<Option<Arc<CompleteRead>>>>,
}

/// Source of complete reads.
#[derive(Clone)]
struct Source {
    replica: Arc<Replica>,
    sessions: Mailbox<SessionActor>,
    clock: Arc<dyn Clock>,
}

/// Every live revocation as of a cursor, as the end of a JSON object.
pub(super) struct CompleteRead {
    pub(super) cursor: FeedCursor,
    made_at: Duration,
    is_empty: bool,
    /// The JSON, compressed (RFC 1951).
    deflated: Bytes,
    /// Checksum and length of the JSON.
    crc: Crc,
}

impl CompleteReads {
    /// Creates the reads. One is given up after `timeout`.
    #[must_use]
    pub fn new(
        replica: Arc<Replica>,
        sessions: Mailbox<SessionActor>,
        clock: Arc<dyn Clock>,
        timeout: Duration,
    ) -> Self {
        let source = Source { replica, sessions, clock };
        Self { source, timeout, latest: Arc::default() }
    }

    /// Returns a complete read. The log usually has the later revocations, and they are few.
    ///
    /// # Errors
    /// Returns the error of a read from the database.
    pub(super) async fn latest(&self) -> Result<Arc<CompleteRead>, ApiError> {
        let latest = timeout(self.timeout, self.make_once()).await;
        latest.unwrap_or_else(|error| Err(ApiError::Unavailable(error.into())))
    }

    /// Returns the latest complete read, or makes a new one. Callers that come meanwhile wait for it.
    async fn make_once(&self) -> Result<Arc<CompleteRead>, ApiError> {
        let mut latest = Arc::clone(&self.latest).lock_owned().await;
        let former = latest.clone().filter(|former| self.source.continues(former));
        if let Some(former) = &former
            && !has_many_after(&self.source.replica.log().latest(), former)
        {
            return Ok(Arc::clone(former));
        }
        let source = self.source.clone();
        // A task of its own: it would be in vain if its caller left, and then the next one.
        let making = rt::spawn(async move {
            let complete = match former {
                Some(former) => former,
                None => Arc::new(source.read().await?),
            };
            let complete = source.add_later(complete).await?;
            *latest = Some(Arc::clone(&complete));
            Ok(complete)
        });
        making.await.unwrap_or_else(|error| Err(ApiError::Internal(error.into())))
    }
}

impl Source {
    /// Takes the revocations from the replica, or from the database if the replica is incomplete.
    async fn read(&self) -> Result<CompleteRead, ApiError> {
        let made_at = self.clock.uptime();
        let replica = Arc::clone(&self.replica);
        let from_replica = in_background(move || {
            let all = replica.read_all();
            all.map(|(cursor, revoked)| CompleteRead::new(cursor, made_at, &revoked)).transpose()
        });
        if let Some(complete) = from_replica.await? {
            return Ok(complete);
        }
        let batch = self.sessions.ask(ReadRevocations).await?;
        in_background(move || {
            let revocations = batch.entries.iter().map(|entry| entry.revocation);
            let revoked = revocations.map(|one| (one.id, one.expires_at.unix_timestamp()));
            CompleteRead::new(batch.cursor, made_at, &revoked.collect::<Vec<_>>())
        })
        .await
    }

    /// Returns `true` if a read is young and the log has all later revocations.
    fn continues(&self, read: &CompleteRead) -> bool {
        let oldest = self.clock.uptime().saturating_sub(MAX_AGE);
        read.made_at >= oldest && self.replica.log().latest().serves(&read.cursor)
    }

    /// Adds the later revocations of the log if they are many.
    async fn add_later(&self, read: Arc<CompleteRead>) -> Result<Arc<CompleteRead>, ApiError> {
        let view = self.replica.log().latest();
        if !has_many_after(&view, &read) {
            return Ok(read);
        }
        in_background(move || match view.reply(&read.cursor, Duration::ZERO) {
            Some(later) => read.with(later).map(Arc::new),
            None => Ok(read),
        })
        .await
    }
}

impl CompleteRead {
    fn new(
        cursor: FeedCursor,
        made_at: Duration,
        revoked: &[(RevocationId, i64)],
    ) -> io::Result<Self> {
        let mut json = CrcWriter::new(DeflateEncoder::new(Vec::new(), Compression::fast()));
        write_pairs(&mut json, revoked)?;
        json.write_all(END)?;
        let mut crc = Crc::new();
        crc.combine(json.crc());
        let deflated = json.into_inner().finish()?.into();
        Ok(Self { cursor, made_at, is_empty: revoked.is_empty(), deflated, crc })
    }

    /// Returns the read with later revocations, which are compressed in front of the others.
    fn with(&self, later: LogReply) -> io::Result<Self> {
        let revoked: Vec<_> = later.rows.iter().map(|row| (row.id, row.expires_at)).collect();
        let mut json = Vec::new();
        write_pairs(&mut json, &revoked)?;
        let (beginning, crc) = self.put_before(Vec::new(), json)?;
        let deflated = [&beginning[..], &self.deflated].concat().into();
        Ok(Self { cursor: later.cursor, made_at: self.made_at, is_empty: false, deflated, crc })
    }

    /// Returns the number of bytes of a reply, without what it adds.
    pub(super) fn size(&self, is_gzip: bool) -> u32 {
        let deflated = u32::try_from(self.deflated.len()).unwrap_or(u32::MAX);
        if is_gzip { deflated } else { self.crc.amount() }
    }

    /// Replies with a JSON object that ends with a list, to which the revocations are added.
    pub(super) fn respond(&self, mut json: Vec<u8>, is_gzip: bool) -> io::Result<HttpResponse> {
        json.truncate(json.len() - END.len());
        let mut reply = HttpResponse::Ok();
        reply.content_type(ContentType::json());
        if !is_gzip {
            self.separate(&mut json);
            let size = json.len() as u64 + u64::from(self.crc.amount());
            let pieces = iter::once(Ok(json.into())).chain(self.inflate());
            return Ok(reply.body(SizedStream::new(size, stream::iter(pieces))));
        }
        let (beginning, crc) = self.put_before(GZIP_HEADER.to_vec(), json)?;
        let end = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
        let pieces = [beginning.into(), self.deflated.clone(), end.into()];
        let size = pieces.iter().map(Bytes::len).sum::<usize>() as u64;
        let pieces = stream::iter(pieces.map(Ok::<_, io::Error>));
        Ok(reply.insert_header((CONTENT_ENCODING, "gzip")).body(SizedStream::new(size, pieces)))
    }

    /// Compresses JSON that precedes the revocations, after `header`. It ends at a byte, so that they
    /// can follow (RFC 1951 section 3.2.4). Returns it with the checksum of both.
    fn put_before(&self, header: Vec<u8>, mut json: Vec<u8>) -> io::Result<(Vec<u8>, Crc)> {
        self.separate(&mut json);
        let mut deflated = DeflateEncoder::new(header, Compression::fast());
        deflated.write_all(&json)?;
        deflated.flush()?;
        let mut crc = Crc::new();
        crc.update(&json);
        crc.combine(&self.crc);
        Ok((deflated.get_ref().clone(), crc))
    }

    /// Ends JSON with a comma if revocations are on both sides of it.
    fn separate(&self, json: &mut Vec<u8>) {
        if !self.is_empty && !json.ends_with(b"[") {
            json.push(b',');
        }
    }

    /// Decompresses the revocations piece by piece, for receivers that do not.
    fn inflate(&self) -> impl Iterator<Item = io::Result<Bytes>> + use<> {
        let mut decoder = DeflateDecoder::new(Cursor::new(self.deflated.clone()));
        let mut piece = vec![0; PIECE];
        iter::from_fn(move || match decoder.read(&mut piece) {
            Ok(0) => None,
            Ok(size) => Some(Ok(Bytes::copy_from_slice(&piece[..size]))),
            Err(error) => Some(Err(error)),
        })
    }
}

/// Returns `true` if the log has more later revocations than a reply adds by itself.
fn has_many_after(view: &LogView, read: &CompleteRead) -> bool {
    view.rows_after(&read.cursor.snapshot).nth(MAX_ADDED).is_some()
}

/// Writes a list of revocations without its brackets.
fn write_pairs(json: &mut impl Write, revoked: &[(RevocationId, i64)]) -> io::Result<()> {
    for (index, chunk) in revoked.chunks(CHUNK).enumerate() {
        let pair = |&(id, expires_at): &(RevocationId, i64)| (id.as_uuid(), expires_at);
        let list = serde_json::to_vec(&chunk.iter().map(pair).collect::<Vec<_>>())?;
        let separator: &[u8] = if index > 0 { b"," } else { b"" };
        json.write_all(separator)?;
        json.write_all(&list[1..list.len() - 1])?;
    }
    Ok(())
}

/// Does work that takes long on another thread.
pub(super) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    Ok(web::block(work).await.map_err(|error| ApiError::Internal(error.into()))??)
}
