//! Cache of verified tokens, which spares decoding and the signature check for a token seen again.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::iter;
use std::rc::Rc;

use fastrand::Rng;
use time::OffsetDateTime;

use super::access::{TokenRefusal, Tokens};
use super::claims::AccessClaims;

/// Memory of one set in bytes: about 24 tokens. A longer token is not cached.
const SET_SIZE: usize = 32 * 1024;

/// A full set admits one in this many tokens.
const ADMISSION_RATE: u8 = 16;

/// Claims of verified tokens, by the whole token with its signature. Each thread has its own cache,
/// so that none waits for another.
///
/// The cache never accepts a token that [`Tokens::verify`] would reject: the key and the times are
/// checked again on a hit, and revocation always is, by the caller. Lookups go by a keyed hash of
/// the signature, so their time does not help to guess one.
///
/// The cache is set-associative: the hash of a signature selects one set, and each set has a limit
/// of its own. A full set admits few of the tokens that it misses, and replaces random ones. With
/// more tokens in use than fit, those that are cached therefore stay for a while, and the rate of
/// hits falls in proportion. To replace the least recently used token would miss every time if
/// slightly too many tokens are used in turn.
pub struct VerifiedTokenCache {
    hasher: RandomState,
    sets: Box<[RefCell<Set>]>,
}

impl VerifiedTokenCache {
    /// Creates a cache with a limit in bytes. One smaller than a set caches nothing.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let sets = iter::repeat_with(RefCell::default).take(size / SET_SIZE);
        Self { hasher: RandomState::new(), sets: sets.collect() }
    }

    /// Verifies a token.
    ///
    /// # Errors
    /// Returns the same errors as [`Tokens::verify`].
    pub fn verify(
        &self,
        tokens: &Tokens,
        token: &str,
        now: OffsetDateTime,
    ) -> Result<Rc<AccessClaims>, TokenRefusal> {
        let hash = self.hash(token);
        let Some(set) = self.set(hash) else { return tokens.verify(token, now).map(Rc::new) };
        let mut set = set.borrow_mut();
        if let Some(claims) = set.find(hash, token) {
            tokens.check_again(claims, now)?;
            return Ok(Rc::clone(claims));
        }
        let claims = Rc::new(tokens.verify(token, now)?);
        set.insert(hash, token, &claims, |claims| tokens.check_again(claims, now).is_ok());
        Ok(claims)
    }

    /// Hashes the signature, which differs for each token, and is much shorter. A hit compares the
    /// whole token.
    fn hash(&self, token: &str) -> u64 {
        let signature = token.rsplit_once('.').map_or(token, |(_, signature)| signature);
        self.hasher.hash_one(signature)
    }

    fn set(&self, hash: u64) -> Option<&RefCell<Set>> {
        let index = hash.checked_rem(self.sets.len() as u64)?;
        self.sets.get(usize::try_from(index).ok()?)
    }
}

/// Verified tokens that take at most [`SET_SIZE`] bytes.
#[derive(Default)]
struct Set {
    entries: Vec<Entry>,
    random: Rng,
}

impl Set {
    fn find(&self, hash: u64, token: &str) -> Option<&Rc<AccessClaims>> {
        let is_wanted = |entry: &&Entry| entry.hash == hash && *entry.token == *token;
        self.entries.iter().find(is_wanted).map(|entry| &entry.claims)
    }

    /// Adds a token. A full set admits it by chance only, in place of tokens that are no longer
    /// valid and, if these are too few, of random ones.
    fn insert(
        &mut self,
        hash: u64,
        token: &str,
        claims: &Rc<AccessClaims>,
        is_valid: impl Fn(&AccessClaims) -> bool,
    ) {
        let size = entry_size(token, claims);
        let Some(room) = SET_SIZE.checked_sub(size) else { return };
        if self.size() > room {
            if self.random.u8(..ADMISSION_RATE) != 0 {
                return;
            }
            self.entries.retain(|entry| is_valid(&entry.claims));
            while self.size() > room {
                let victim = self.random.usize(..self.entries.len());
                self.entries.swap_remove(victim);
            }
        }
        self.entries.push(Entry { hash, size, token: token.into(), claims: Rc::clone(claims) });
    }

    fn size(&self) -> usize {
        self.entries.iter().map(|entry| entry.size).sum()
    }
}

/// A verified token.
struct Entry {
    hash: u64,
    /// Memory in bytes.
    size: usize,
    token: Box<str>,
    claims: Rc<AccessClaims>,
}

/// Returns the memory that an entry takes, in bytes.
fn entry_size(token: &str, claims: &AccessClaims) -> usize {
    /// A vector can be half empty.
    const ENTRY: usize = 2 * size_of::<Entry>();
    /// The claims themselves and the two counts of their `Rc`.
    const CLAIMS: usize = size_of::<AccessClaims>() + 2 * size_of::<usize>();
    let permissions = claims.permissions.names();
    let roles = claims.roles.names();
    let audience = claims.audience.iter().map(String::as_str);
    let names = permissions.into_iter().chain(roles).chain(audience);
    let names: usize = names.map(|name| name.len() + size_of::<String>()).sum();
    let requested = token.len() + claims.subject.name().len() + names + CLAIMS;
    // The allocator rounds each request up, by a quarter at most.
    ENTRY + requested + requested / 4
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::SessionId;
    use crate::tokens::access::tests::{EXPIRY, NOW, alice, tokens};

    /// Limit of a cache for about 380 tokens.
    const SIZE: usize = 16 * SET_SIZE;

    fn issue(tokens: &Tokens, count: usize, expires_at: OffsetDateTime) -> Vec<String> {
        let user = alice();
        let issue = || tokens.issue(&user, SessionId::random(), None, expires_at, NOW).unwrap();
        iter::repeat_with(|| issue().access_token).take(count).collect()
    }

    fn claims() -> Rc<AccessClaims> {
        let tokens = tokens();
        let [token] = issue(&tokens, 1, EXPIRY).try_into().unwrap();
        Rc::new(tokens.verify(&token, NOW).unwrap())
    }

    impl VerifiedTokenCache {
        fn contains(&self, token: &str) -> bool {
            let hash = self.hash(token);
            self.set(hash).is_some_and(|set| set.borrow().find(hash, token).is_some())
        }

        /// Verifies tokens in turn, and returns the number of hits.
        fn verify_all(&self, tokens: &Tokens, all: &[String], now: OffsetDateTime) -> usize {
            let verify = |token: &String| {
                let is_hit = self.contains(token);
                self.verify(tokens, token, now).unwrap();
                is_hit
            };
            all.iter().filter(|token| verify(token)).count()
        }

        fn len(&self) -> usize {
            self.sets.iter().map(|set| set.borrow().entries.len()).sum()
        }
    }

    #[test]
    fn cached_token_expires() {
        let tokens = tokens();
        let cache = VerifiedTokenCache::new(SIZE);
        let issued = tokens.issue(&alice(), SessionId::random(), None, EXPIRY, NOW).unwrap();
        let verify = |now| cache.verify(&tokens, &issued.access_token, now);

        let first = verify(NOW).unwrap();
        let again = verify(NOW).unwrap();
        let late = verify(NOW + issued.expires_in + Duration::from_secs(5)).unwrap_err();
        let early = verify(NOW - Duration::from_secs(6)).unwrap_err();

        assert!(Rc::ptr_eq(&first, &again), "the second lookup is a hit");
        assert_eq!(late, TokenRefusal::Expired);
        assert_eq!(early, TokenRefusal::NotYetValid);
    }

    #[test]
    fn signature_of_another_token_is_refused() {
        let tokens = tokens();
        let cache = VerifiedTokenCache::new(SIZE);
        let all = issue(&tokens, 2, EXPIRY);
        cache.verify_all(&tokens, &all, NOW);
        let (claims, _) = all[0].rsplit_once('.').unwrap();
        let (_, signature) = all[1].rsplit_once('.').unwrap();
        let forged = format!("{claims}.{signature}");

        assert_eq!(cache.verify(&tokens, &forged, NOW).unwrap_err(), TokenRefusal::BadSignature);
    }

    #[test]
    fn refused_token_is_not_cached() {
        let tokens = tokens();
        let cache = VerifiedTokenCache::new(SIZE);
        let [token] = issue(&tokens, 1, EXPIRY).try_into().unwrap();
        let late = EXPIRY + Duration::from_secs(5);

        assert_eq!(cache.verify(&tokens, &token, late).unwrap_err(), TokenRefusal::Expired);
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn cache_smaller_than_a_set_only_verifies() {
        let tokens = tokens();
        let cache = VerifiedTokenCache::new(SET_SIZE - 1);
        let all = issue(&tokens, 1, EXPIRY);

        assert_eq!(cache.verify_all(&tokens, &all, NOW), 0);
        assert_eq!(cache.verify_all(&tokens, &all, NOW), 0);
    }

    #[test]
    fn tokens_of_any_length_stay_within_the_limit() {
        let claims = claims();
        let mut random = Rng::with_seed(1);
        let mut set = Set::default();
        let mut largest = 0;
        for hash in 0..10_000 {
            let token = "x".repeat(random.usize(..2 * SET_SIZE));
            set.insert(hash, &token, &claims, |_| true);
            largest = largest.max(set.size());
        }

        assert!((SET_SIZE * 9 / 10..=SET_SIZE).contains(&largest), "{largest} bytes");
    }

    #[test]
    fn hits_fall_in_proportion_if_tokens_in_turn_do_not_fit() {
        let tokens = tokens();
        let all = issue(&tokens, 1_200, EXPIRY);
        let full = VerifiedTokenCache::new(SIZE);
        full.verify_all(&tokens, &all, NOW);
        let capacity = full.len();

        for (percent_used, least_hits) in [(70, 95), (100, 80), (150, 50), (300, 20)] {
            let cache = VerifiedTokenCache::new(SIZE);
            let used = &all[..capacity * percent_used / 100];
            for _ in 0..20 {
                cache.verify_all(&tokens, used, NOW);
            }
            let hits = cache.verify_all(&tokens, used, NOW) * 100 / used.len();
            assert!(hits >= least_hits, "{hits} % hits at {percent_used} % of the capacity");
        }
    }

    #[test]
    fn full_cache_admits_a_token_that_is_used_often() {
        let tokens = tokens();
        let cache = VerifiedTokenCache::new(SIZE);
        cache.verify_all(&tokens, &issue(&tokens, 1_000, EXPIRY), NOW);
        let [token] = issue(&tokens, 1, EXPIRY).try_into().unwrap();

        let mut uses = 0..1_000;
        assert!(uses.any(|_| {
            cache.verify(&tokens, &token, NOW).unwrap();
            cache.contains(&token)
        }));
    }

    #[test]
    fn expired_tokens_leave_before_valid_ones() {
        let claims = claims();
        let mut set = Set::default();
        for hash in 0..1_000 {
            set.insert(hash, "expired", &claims, |_| true);
        }
        assert!(set.entries.len() > 10);

        for hash in 0..1_000 {
            set.insert(hash, "valid", &claims, |_| false);
            if set.entries.iter().any(|entry| *entry.token == *"valid") {
                break;
            }
        }

        assert_eq!(set.entries.len(), 1);
    }
}
