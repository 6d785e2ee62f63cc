//! [`CompleteReads`]: replies with every live revocation, which are serialized and compressed once
//! for many receivers.

use std::io::{self, Cursor, Read, Write};
use std::iter;
use std::sync::{Arc, Mutex, PoisonError};
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
use crate::revocation::{LogView, Replica};

/// Header of a gzip stream without a name and a time (RFC 1952).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// End of a reply: that of the list, and of the object.
const END: &[u8] = b"]}";

/// Number of revocations that are serialized at a time.
const CHUNK: usize = 1_024;

/// Size of the pieces in which a reply is decompressed.
const PIECE: usize = 32 * 1024;

/// Complete replies a second, in bytes.
const RATE: f64 = 128.0 * 1024.0 * 1024.0;

/// Complete replies at once, in bytes: those of a fleet of receivers that starts.
const BURST: f64 = 8.0 * RATE;

/// Bytes that a small reply counts for: at most 2,048 replies a second are complete.
const SMALLEST: usize = 64 * 1024;

/// Least time after which a receiver beyond the burst tries again.
const SHORTEST_RETRY: Duration = Duration::from_secs(1);

/// Time after which revocations that have expired meanwhile are left out.
const MAX_AGE: Duration = Duration::from_mins(5);

/// Number of later revocations that may be added to a reply, beside a tenth of its own.
const MAX_ADDED: usize = 1_000;

/// The latest complete read of the replica, and the limit on the replies with it.
pub struct CompleteReads {
    source: Source,
    /// Maximum duration of a read.
    timeout: Duration,
    latest: Arc<tokio::sync::Mutex<Option<Arc<CompleteRead>>>>,
    budget: Mutex<Budget>,
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
    /// Number of revocations.
    len: usize,
    /// The JSON, compressed (RFC 1951).
    deflated: Bytes,
    /// Checksum and length of the JSON.
    crc: Crc,
}

/// Number of bytes that may be sent now. Bytes come back as time passes.
#[derive(Default)]
struct Budget {
    used: f64,
    updated_at: Duration,
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
        Self { source, timeout, latest: Arc::default(), budget: Mutex::default() }
    }

    /// Returns a complete read. The log usually has the later revocations.
    ///
    /// # Errors
    /// Returns [`ApiError::Overloaded`] beyond the limit, or the error of a read from the database.
    pub(super) async fn take(&self) -> Result<Arc<CompleteRead>, ApiError> {
        let complete = timeout(self.timeout, self.make_once()).await;
        let complete = complete.unwrap_or_else(|error| Err(ApiError::Unavailable(error.into())))?;
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        match budget.spend(complete.deflated.len(), self.source.clock.uptime()) {
            Ok(()) => Ok(complete),
            Err(retry_after) => Err(ApiError::Overloaded { retry_after }),
        }
    }

    /// Returns the latest complete read, or makes a new one. Callers that come meanwhile wait for it.
    async fn make_once(&self) -> Result<Arc<CompleteRead>, ApiError> {
        let mut latest = Arc::clone(&self.latest).lock_owned().await;
        let view = self.source.replica.log().latest();
        let oldest = self.source.clock.uptime().saturating_sub(MAX_AGE);
        if let Some(complete) = &*latest
            && complete.made_at >= oldest
            && complete.is_recent(&view)
        {
            return Ok(Arc::clone(complete));
        }
        let source = self.source.clone();
        // A task of its own: it would be in vain if its caller left, and then the next one.
        let making = rt::spawn(async move {
            let complete = Arc::new(CompleteRead::make(&source).await?);
            *latest = Some(Arc::clone(&complete));
            Ok(complete)
        });
        making.await.unwrap_or_else(|error| Err(ApiError::Internal(error.into())))
    }
}

impl CompleteRead {
    /// Takes the revocations from the replica, or from the database if the replica is incomplete.
    async fn make(source: &Source) -> Result<Self, ApiError> {
        let made_at = source.clock.uptime();
        let replica = Arc::clone(&source.replica);
        let from_replica = in_background(move || {
            let all = replica.read_all();
            all.map(|(cursor, revoked)| Self::new(cursor, made_at, &revoked)).transpose()
        });
        if let Some(complete) = from_replica.await? {
            return Ok(complete);
        }
        let batch = source.sessions.ask(ReadRevocations).await?;
        in_background(move || {
            let revocations = batch.entries.iter().map(|entry| entry.revocation);
            let revoked = revocations.map(|one| (one.id, one.expires_at.unix_timestamp()));
            Self::new(batch.cursor, made_at, &revoked.collect::<Vec<_>>())
        })
        .await
    }

    fn new(
        cursor: FeedCursor,
        made_at: Duration,
        revoked: &[(RevocationId, i64)],
    ) -> io::Result<Self> {
        let mut json = CrcWriter::new(DeflateEncoder::new(Vec::new(), Compression::fast()));
        for (index, chunk) in revoked.chunks(CHUNK).enumerate() {
            let pair = |&(id, expires_at): &(RevocationId, i64)| (id.as_uuid(), expires_at);
            let list = serde_json::to_vec(&chunk.iter().map(pair).collect::<Vec<_>>())?;
            let separator: &[u8] = if index > 0 { b"," } else { b"" };
            json.write_all(separator)?;
            json.write_all(&list[1..list.len() - 1])?;
        }
        json.write_all(END)?;
        let mut crc = Crc::new();
        crc.combine(json.crc());
        let deflated = json.into_inner().finish()?.into();
        Ok(Self { cursor, made_at, len: revoked.len(), deflated, crc })
    }

    /// Returns `true` if the log has the later revocations, and they are few.
    fn is_recent(&self, view: &LogView) -> bool {
        let limit = MAX_ADDED.max(self.len / 10);
        view.serves(&self.cursor) && view.rows_after(&self.cursor.snapshot).nth(limit).is_none()
    }

    /// Replies with a JSON object that ends with a list, to which the revocations are added.
    pub(super) fn respond(&self, mut json: Vec<u8>, is_gzip: bool) -> io::Result<HttpResponse> {
        json.truncate(json.len() - END.len());
        if self.len > 0 && !json.ends_with(b"[") {
            json.push(b',');
        }
        let mut reply = HttpResponse::Ok();
        reply.content_type(ContentType::json());
        if !is_gzip {
            let size = json.len() as u64 + u64::from(self.crc.amount());
            let pieces = iter::once(Ok(json.into())).chain(self.inflate());
            return Ok(reply.body(SizedStream::new(size, stream::iter(pieces))));
        }
        let pieces = self.gzip(&json)?;
        let size = pieces.iter().map(Bytes::len).sum::<usize>() as u64;
        let pieces = stream::iter(pieces.map(Ok::<_, io::Error>));
        Ok(reply.insert_header((CONTENT_ENCODING, "gzip")).body(SizedStream::new(size, pieces)))
    }

    /// Compresses the beginning of a reply. It ends at a byte, so that the rest can follow (RFC 1951
    /// section 3.2.4); one checksum covers both.
    fn gzip(&self, json: &[u8]) -> io::Result<[Bytes; 3]> {
        let mut beginning = DeflateEncoder::new(GZIP_HEADER.to_vec(), Compression::fast());
        beginning.write_all(json)?;
        beginning.flush()?;
        let beginning = Bytes::copy_from_slice(beginning.get_ref());
        let mut crc = Crc::new();
        crc.update(json);
        crc.combine(&self.crc);
        let end = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat();
        Ok([beginning, self.deflated.clone(), end.into()])
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

/// Does work that takes long on another thread.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    Ok(web::block(work).await.map_err(|error| ApiError::Internal(error.into()))??)
}

impl Budget {
    /// Takes a number of bytes.
    ///
    /// # Errors
    /// Returns the time after which they can be taken.
    #[expect(clippy::cast_precision_loss, reason = "a size is far below 2^52")]
    fn spend(&mut self, bytes: usize, now: Duration) -> Result<(), Duration> {
        let regained = now.saturating_sub(self.updated_at).as_secs_f64() * RATE;
        self.updated_at = now;
        self.used = (self.used - regained).max(0.0);
        if self.used >= BURST {
            return Err(Duration::from_secs_f64((self.used - BURST) / RATE) + SHORTEST_RETRY);
        }
        self.used += bytes.max(SMALLEST) as f64;
        Ok(())
    }
}
