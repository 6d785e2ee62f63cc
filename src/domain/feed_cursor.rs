//! Cursors: positions in the feed of revocations, as instances and receivers exchange them.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;
use uuid::Uuid;

use super::Snapshot;

/// Maximum number of transactions in progress in the text of a cursor.
const MAX_IN_PROGRESS: usize = 512;

/// Number of bits of a number in each byte of its text; the last bit says that more bytes follow.
const BITS: u32 = 7;
const MORE: u8 = 1 << BITS;

/// Identity of a database server. Transaction ids of different servers cannot be compared, nor
/// those from before and after a restart or a restore: the later ones may be assigned again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerId(pub [u8; 8]);

/// Position in the feed: the revocations that a snapshot of a server can see.
///
/// Its text is base64url: the server, then the end of the snapshot and the distances from there to
/// each transaction in progress, downwards, in LEB128. From the 513th in progress on, the text says
/// that the snapshot sees nothing: an earlier snapshot is always sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedCursor {
    pub server: ServerId,
    pub snapshot: Snapshot,
}

/// Text that is not a cursor.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not a cursor of the revocation feed")]
pub struct FeedCursorError;

impl ServerId {
    /// Makes the identity of a server that has none of its own.
    #[must_use]
    pub fn random() -> Self {
        let (random, _) = Uuid::new_v4().as_u64_pair();
        Self(random.to_be_bytes())
    }
}

impl FeedCursor {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (server, mut rest) = bytes.split_first_chunk()?;
        let xmax = take_number(&mut rest)?;
        let mut in_progress = Vec::new();
        let mut lowest = xmax;
        while !rest.is_empty() && in_progress.len() < MAX_IN_PROGRESS {
            lowest = lowest.checked_sub(take_number(&mut rest)?)?;
            in_progress.push(lowest);
        }
        in_progress.reverse();
        let snapshot = Snapshot::new(xmax, in_progress)?;
        rest.is_empty().then_some(Self { server: ServerId(*server), snapshot })
    }
}

impl fmt::Display for FeedCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.snapshot.in_progress().get(MAX_IN_PROGRESS);
        let snapshot = self.snapshot.truncated(end.copied().unwrap_or(u64::MAX));
        let mut bytes = self.server.0.to_vec();
        push_number(&mut bytes, snapshot.xmax());
        let mut higher = snapshot.xmax();
        for &xid in snapshot.in_progress().iter().rev() {
            push_number(&mut bytes, higher - xid);
            higher = xid;
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for FeedCursor {
    type Err = FeedCursorError;

    fn from_str(text: &str) -> Result<Self, FeedCursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| FeedCursorError)?;
        Self::from_bytes(&bytes).ok_or(FeedCursorError)
    }
}

/// Writes a number in LEB128: seven bits a byte, the lowest ones first.
fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = number.to_le_bytes()[0] & !MORE;
        number >>= BITS;
        if number == 0 {
            return bytes.push(low);
        }
        bytes.push(low | MORE);
    }
}

/// Reads a number in LEB128. Returns `None` if it is incomplete or too large.
fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(BITS as usize) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let low = u64::from(byte & !MORE);
        let shifted = low << shift;
        if shifted >> shift != low {
            return None;
        }
        number |= shifted;
        if byte & MORE == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SERVER: ServerId = ServerId(*b"a server");

    fn cursor(xmax: u64, in_progress: Vec<u64>) -> FeedCursor {
        FeedCursor { server: SERVER, snapshot: Snapshot::new(xmax, in_progress).unwrap() }
    }

    #[test]
    fn list_ends_at_the_513th_transaction() {
        let many: Vec<u64> = (0..2_000).map(|number| 1_000 + 3 * number).collect();
        let text = cursor(10_000, many.clone()).to_string();

        let parsed: FeedCursor = text.parse().unwrap();
        assert_eq!(parsed, cursor(many[512], many[..512].to_vec()));
        assert!(text.len() < 1_000, "{}", text.len());
    }

    #[test]
    fn text_that_is_not_a_cursor_is_refused() {
        let valid = cursor(20, vec![10]).to_string();
        let bytes = |bytes: &[u8]| URL_SAFE_NO_PAD.encode([&SERVER.0[..], bytes].concat());
        let cases = [
            String::new(),
            "!".to_owned(),
            valid[1..].to_owned(),
            format!("{valid}="),
            bytes(&[]),
            bytes(&[20, 21]),
            bytes(&[20, 0]),
            bytes(&[20, 1, 0]),
            bytes(&[0x80]),
            bytes(&[0xff; 11]),
            bytes(&[[0xff; 9].as_slice(), &[2]].concat()),
            bytes(&[[200, 10].as_slice(), &[1; 513]].concat()),
        ];
        for text in cases {
            assert_eq!(text.parse::<FeedCursor>(), Err(FeedCursorError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn cursor_survives_its_text(
            server: [u8; 8],
            xmax: u64,
            in_progress in prop::collection::btree_set(any::<u64>(), 0..20),
        ) {
            let in_progress = in_progress.into_iter().filter(|&xid| xid < xmax).collect();
            let snapshot = Snapshot::new(xmax, in_progress).unwrap();
            let cursor = FeedCursor { server: ServerId(server), snapshot };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_refused(text in "[A-Za-z0-9_-]{0,60}") {
            if let Ok(cursor) = text.parse::<FeedCursor>() {
                prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }
    }
}
