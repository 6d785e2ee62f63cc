//! What tokens checked a moment ago say, so that it is not read again with each request.

use std::sync::Mutex;

use super::AccessClaims;

/// Most tokens kept. A token has one place, which it shares with others.
const PLACES: usize = 4096;

/// The signature of a token that was found to be right.
pub(super) type Tag = [u8; 32];

/// What a good token says, and between which times it is good, in seconds since 1970.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) claims: AccessClaims,
    pub(super) not_before: Option<i64>,
    pub(super) expires_at: i64,
}

/// Remembers what good tokens say, by their signatures.
///
/// It saves nothing but the decoding: the signature is checked before something is looked up here, and
/// the times and the revocations after. So it cannot make a token good that is not, whatever it holds.
/// Two messages with one signature would be a collision of HMAC-SHA-256.
///
/// Nobody waits for the locks: a place that is taken at the moment is one that knows nothing.
pub(super) struct Memo(Box<[Place]>);

/// Where one token is remembered at a time.
type Place = Mutex<Option<(Tag, Known)>>;

impl Memo {
    pub(super) fn new() -> Self {
        Self((0..PLACES).map(|_| Mutex::new(None)).collect())
    }

    pub(super) fn recall(&self, tag: &Tag) -> Option<Known> {
        let place = self.place(tag)?.try_lock().ok()?;
        let (known_tag, known) = place.as_ref()?;
        (known_tag == tag).then(|| known.clone())
    }

    pub(super) fn remember(&self, tag: Tag, known: Known) {
        if let Some(Ok(mut place)) = self.place(&tag).map(Mutex::try_lock) {
            *place = Some((tag, known));
        }
    }

    fn place(&self, tag: &Tag) -> Option<&Place> {
        let [first, second, ..] = *tag;
        self.0.get(usize::from(u16::from_le_bytes([first, second])) % PLACES)
    }
}
