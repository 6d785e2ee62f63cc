//! [`Admission`]: the rate of the tokens of clients, and the expiries that the database knows.

use std::collections::HashMap;
use std::time::Duration;

use time::OffsetDateTime;

use crate::actors::ActorError;
use crate::actors::limiter::{Limiter, Rate, UNLIMITED};
use crate::domain::{ClientId, SessionId};

/// Rate of the tokens of one client, on each instance. A fleet that starts gets its tokens at once.
const RATE: Rate = Rate { burst: 1_000, interval: Duration::from_millis(100) };

/// Decides about the tokens that clients request.
pub(super) struct Admission {
    limiter: Limiter<ClientId>,
    /// Latest expiry that the database knows, for the secrets of which this instance raised it.
    raised: HashMap<SessionId, OffsetDateTime>,
}

impl Admission {
    /// Creates the state. `now` is the current uptime.
    pub(super) fn new(now: Duration) -> Self {
        Self { limiter: Limiter::new(RATE, UNLIMITED, now), raised: HashMap::new() }
    }

    /// Takes a token from the rate of a client. `now` is the current uptime.
    ///
    /// # Errors
    /// Returns [`ActorError::TooManyTokens`].
    pub(super) fn admit(&mut self, client: ClientId, now: Duration) -> Result<(), ActorError> {
        let is_admitted = self.limiter.admit(client, now).is_some();
        is_admitted.then_some(()).ok_or(ActorError::TooManyTokens { retry_after: RATE.interval })
    }

    /// Returns `true` if the database knows that tokens for a secret may live until the time.
    pub(super) fn is_known(&self, secret: SessionId, expires_at: OffsetDateTime) -> bool {
        self.raised.get(&secret).is_some_and(|known| *known >= expires_at)
    }

    /// Remembers an expiry that the database knows at the time `now`.
    pub(super) fn remember(
        &mut self,
        secret: SessionId,
        expires_at: OffsetDateTime,
        now: OffsetDateTime,
    ) {
        self.raised.retain(|_, expiry| *expiry > now);
        self.raised.insert(secret, expires_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_a_client_are_limited_in_rate() {
        let mut admission = Admission::new(Duration::ZERO);
        let [one, other] = [ClientId::random(), ClientId::random()];
        let mut admitted = |client, now, count| {
            (0..count).filter(|_| admission.admit(client, now).is_ok()).count()
        };

        assert_eq!(admitted(one, Duration::ZERO, 2_000), 1_000);
        assert_eq!(admitted(other, Duration::ZERO, 1), 1, "each client has its own rate");
        assert_eq!(admitted(one, Duration::from_secs(1), 100), 10);
    }

    #[test]
    fn expiry_is_raised_in_steps() {
        let mut admission = Admission::new(Duration::ZERO);
        let secret = SessionId::random();
        let now = OffsetDateTime::UNIX_EPOCH;
        let minutes = |count| now + Duration::from_mins(count);

        assert!(!admission.is_known(secret, minutes(60)));
        admission.remember(secret, minutes(120), now);
        assert!(admission.is_known(secret, minutes(120)));
        assert!(!admission.is_known(secret, minutes(121)));
        admission.remember(SessionId::random(), minutes(200), minutes(120));
        assert!(!admission.is_known(secret, minutes(60)), "it has expired");
    }
}
