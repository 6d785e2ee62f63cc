//! Cache of verified tokens, which spares decoding and the signature check for a token seen again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use time::OffsetDateTime;

use super::access::{TokenRefusal, Tokens};
use super::claims::AccessClaims;

/// Maximum number of tokens, about 3 MB per thread.
const CAPACITY: usize = 4096;

/// Claims of verified tokens, by the whole token with its signature. Each thread has its own cache,
/// so that none waits for another.
///
/// The cache never accepts a token that [`Tokens::verify`] would reject: key and expiry are checked again
/// on a hit, and revocation always is, by the caller. Lookups go by a keyed hash, so their time does
/// not tell a forger how much of a guess matches a cached token.
#[derive(Default)]
pub struct VerifiedTokenCache(RefCell<HashMap<Box<str>, Rc<AccessClaims>>>);

impl VerifiedTokenCache {
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
        let mut verified = self.0.borrow_mut();
        if let Some(claims) = verified.get(token) {
            tokens.check_again(claims, now)?;
            return Ok(Rc::clone(claims));
        }
        let claims = Rc::new(tokens.verify(token, now)?);
        if verified.len() == CAPACITY {
            verified.clear();
        }
        verified.insert(token.into(), Rc::clone(&claims));
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::SessionId;
    use crate::tokens::access::tests::{EXPIRY, NOW, alice, tokens};

    #[test]
    fn cached_token_expires() {
        let tokens = tokens();
        let cache = VerifiedTokenCache::default();
        let issued = tokens.issue(&alice(), SessionId::random(), EXPIRY, NOW).unwrap();
        let verify = |now| cache.verify(&tokens, &issued.access_token, now);

        let first = verify(NOW).unwrap();
        let again = verify(NOW).unwrap();
        let late = verify(NOW + issued.expires_in + Duration::from_secs(5)).unwrap_err();

        assert!(Rc::ptr_eq(&first, &again), "the second lookup is a hit");
        assert_eq!(late, TokenRefusal::Expired);
    }

    #[test]
    fn full_cache_starts_anew() {
        let tokens = tokens();
        let cache = VerifiedTokenCache::default();
        let user = alice();
        for _ in 0..=CAPACITY {
            let issued = tokens.issue(&user, SessionId::random(), EXPIRY, NOW).unwrap();
            cache.verify(&tokens, &issued.access_token, NOW).unwrap();
        }

        assert_eq!(cache.0.borrow().len(), 1);
    }
}
