//! The tokens that a thread has checked before, so that it does not decode and verify them again with each
//! request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use time::OffsetDateTime;

use super::{AccessClaims, TokenRefusal, Tokens};

/// Most tokens kept, whole as they are: some three megabytes a thread.
const LIMIT: usize = 4096;

/// Remembers what good tokens say. Each thread has its own, so that none waits for another.
///
/// A token is known again only whole, signature and all, and whatever can change is asked anew: the times
/// here, the revocations by whoever checks. So no token is good because of this that would not be without it.
/// The keyed hash by which tokens are looked up keeps a forger from learning by the time that it takes
/// how far a guess agrees with one.
#[derive(Default)]
pub struct Memo(RefCell<HashMap<Box<str>, Rc<AccessClaims>>>);

impl Memo {
    /// Checks a token as [`Tokens::verify`] does.
    ///
    /// # Errors
    /// Those of [`Tokens::verify`].
    pub fn verify(
        &self,
        tokens: &Tokens,
        token: &str,
        now: OffsetDateTime,
    ) -> Result<Rc<AccessClaims>, TokenRefusal> {
        let mut known = self.0.borrow_mut();
        if let Some(claims) = known.get(token) {
            tokens.check_times(claims, now)?;
            return Ok(Rc::clone(claims));
        }
        let claims = Rc::new(tokens.verify(token, now)?);
        if known.len() == LIMIT {
            known.clear();
        }
        known.insert(token.into(), Rc::clone(&claims));
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::SessionId;
    use crate::tokens::tests::{FAR, NOW, alice, tokens};

    #[test]
    fn a_token_that_is_known_expires_all_the_same() {
        let (tokens, memo) = (tokens(), Memo::default());
        let issued = tokens.issue(&alice(), SessionId::random(), FAR, NOW).unwrap();
        let verify = |now| memo.verify(&tokens, &issued.access_token, now);

        let (first, again) = (verify(NOW).unwrap(), verify(NOW).unwrap());
        let late = verify(NOW + issued.expires_in + Duration::from_secs(5)).unwrap_err();

        assert!(Rc::ptr_eq(&first, &again), "the second time it was known");
        assert_eq!(late, TokenRefusal::Expired);
    }

    #[test]
    fn no_more_tokens_are_known_than_the_limit() {
        let (tokens, memo, user) = (tokens(), Memo::default(), alice());
        for _ in 0..=LIMIT {
            let issued = tokens.issue(&user, SessionId::random(), FAR, NOW).unwrap();
            memo.verify(&tokens, &issued.access_token, NOW).unwrap();
        }

        assert_eq!(memo.0.borrow().len(), 1);
    }
}
