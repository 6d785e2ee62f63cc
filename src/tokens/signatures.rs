//! [`VerifiedSignatures`]: spares the check of an ES256 signature, which takes far longer than the rest
//! of a token, where the tokens in use are too many for the caches of their claims.

use std::iter;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::digest::{SHA256, digest};

/// Number of places in a set.
const WAYS: usize = 8;

/// Number of sets in a block.
const BLOCK_LEN: usize = 32;

/// Tokens whose signature was found valid, each as the first half of its SHA-256. All threads share
/// them, without a lock once there is memory for a block.
///
/// To forge a token that is taken for one of them is to find a text with the same 128 bits: 2^108
/// hashes for a million tokens. Halves that two threads store into one place at the same time make
/// a value of no token, which is as hard to meet.
///
/// The cache is set-associative: the hash of a token selects a set and, in a full one, the place to
/// take. With more tokens in use than fit, the rate of hits falls in proportion.
pub(super) struct VerifiedSignatures(Box<[Block]>);

/// Sets that take memory from their first use on.
type Block = OnceLock<Box<[Set; BLOCK_LEN]>>;

type Set = [Place; WAYS];

/// Half a SHA-256; zero if the place is free.
type Place = [AtomicU64; 2];

impl VerifiedSignatures {
    /// Creates an empty cache with a limit in bytes.
    pub(super) fn new(size: usize) -> Self {
        let blocks = size / size_of::<[Set; BLOCK_LEN]>();
        Self(iter::repeat_with(Block::default).take(blocks).collect())
    }

    /// Returns the largest memory, in bytes.
    pub(super) fn size(&self) -> usize {
        self.0.len() * size_of::<[Set; BLOCK_LEN]>()
    }

    /// Returns `true` if the signature of a token is valid, by `check` unless the cache knows it.
    ///
    /// # Errors
    /// Returns the error of `check`.
    pub(super) fn verify<E>(
        &self,
        token: &str,
        check: impl FnOnce() -> Result<bool, E>,
    ) -> Result<bool, E> {
        if self.0.is_empty() {
            return check();
        }
        let hash = half_hash(token);
        let Some(set) = self.set(hash) else { return check() };
        if set.iter().any(|place| load(place) == hash) {
            return Ok(true);
        }
        let is_valid = check()?;
        if is_valid {
            insert(set, hash);
        }
        Ok(is_valid)
    }

    fn set(&self, [hash, _]: [u64; 2]) -> Option<&Set> {
        let blocks = self.0.len() as u64;
        let block = self.0.get(usize::try_from(hash.checked_rem(blocks)?).ok()?)?;
        let sets = block.get_or_init(Box::default);
        sets.get(usize::try_from(hash / blocks % BLOCK_LEN as u64).ok()?)
    }
}

fn half_hash(token: &str) -> [u64; 2] {
    let hash = digest(&SHA256, token.as_bytes());
    let (words, _) = hash.as_ref().as_chunks();
    [words[0], words[1]].map(u64::from_ne_bytes)
}

fn load(place: &Place) -> [u64; 2] {
    place.each_ref().map(|half| half.load(Ordering::Relaxed))
}

/// Stores a hash in a free place or, if there is none, in the one that it selects.
fn insert(set: &Set, hash: [u64; 2]) {
    let free = set.iter().find(|place| load(place) == [0, 0]);
    let [selector, ..] = hash[1].to_ne_bytes();
    let place = free.unwrap_or(&set[usize::from(selector) % WAYS]);
    for (half, value) in place.iter().zip(hash) {
        half.store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    impl VerifiedSignatures {
        /// Returns `true` if the cache knows a token, whose signature is valid.
        fn knows(&self, token: &str) -> bool {
            let mut is_hit = true;
            let check = || {
                is_hit = false;
                Ok::<_, Infallible>(true)
            };
            assert_eq!(self.verify(token, check), Ok(true));
            is_hit
        }
    }

    #[test]
    fn valid_signature_is_checked_once() {
        let cache = VerifiedSignatures::new(1 << 12);

        assert!(!cache.knows("a.b.c"));
        assert!(cache.knows("a.b.c"));
        assert!(!cache.knows("a.b.d"), "another token");
    }

    #[test]
    fn invalid_signature_is_checked_each_time() {
        let cache = VerifiedSignatures::new(1 << 12);

        for _ in 0..2 {
            assert_eq!(cache.verify("a.b.c", || Ok::<_, Infallible>(false)), Ok(false));
            assert_eq!(cache.verify("a.b.c", || Err("malformed")), Err("malformed"));
        }
        assert!(!cache.knows("a.b.c"));
    }

    #[test]
    fn cache_without_memory_knows_nothing() {
        let cache = VerifiedSignatures::new((1 << 12) - 1);

        assert!(!cache.knows("a.b.c") && !cache.knows("a.b.c"));
        assert_eq!(cache.size(), 0);
    }

    #[test]
    fn hits_fall_in_proportion_if_the_tokens_in_use_do_not_fit() {
        const PLACES: usize = 1 << 10;
        for (percent_used, least_hits) in [(50, 95), (100, 75), (200, 45), (400, 20)] {
            let cache = VerifiedSignatures::new(PLACES * size_of::<Place>());
            let in_use = PLACES * percent_used / 100;
            let mut random = fastrand::Rng::with_seed(1);
            let mut use_one = || cache.knows(&random.usize(..in_use).to_string());
            for _ in 0..20 * PLACES {
                use_one();
            }
            let hits = (0..10 * PLACES).filter(|_| use_one()).count() / (PLACES / 10);
            assert!(hits >= least_hits, "{hits} % hits with {percent_used} % of the places in use");
        }
    }
}
