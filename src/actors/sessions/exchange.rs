//! Exchanges refresh tokens in the database, in batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::actors::ActorError;
use crate::actors::batcher::{Batcher, Pending};
use crate::actors::deadline::with_deadline;
use crate::clock::Clock;
use crate::config::TokenSettings;
use crate::domain::{SessionId, TokenUse};
use crate::store::{LockedSessions, PresentedToken, Rotation, Rotations, Store};

/// Maximum number of exchanges in one commit: a second of work, so that it ends in time.
const BATCH_LIMIT: usize = 20_000;

/// Queue of refresh tokens, each with its session. The result is `None` for a session
/// that has ended.
pub(super) type Exchanges = Batcher<(SessionId, PresentedToken), Option<Exchanged>>;

type PendingToken = Pending<(SessionId, PresentedToken), Option<Exchanged>>;

/// Result of an exchange.
pub(super) struct Exchanged {
    /// State of the session after the exchange.
    pub(super) rotation: Rotation,
    /// Time of the exchange.
    pub(super) at: OffsetDateTime,
    /// Expiry of the next access token.
    pub(super) token_expires_at: OffsetDateTime,
}

/// Starts the tasks that exchange. An exchange is given up after `timeout`.
///
/// Returns two queues. The first one takes all tokens, and never waits for the locks of a session:
/// it passes the tokens of locked sessions on to the second one, which does.
pub(super) fn start(
    store: Arc<dyn Store>,
    tokens: TokenSettings,
    timeout: Duration,
    clock: Arc<dyn Clock>,
) -> (Exchanges, Arc<Exchanges>) {
    let concurrent = store.concurrent_batches();
    let skipping = Exchanger { store, tokens, timeout, clock };
    let waiter = skipping.clone();
    // One batch at a time: it holds a connection for as long as it waits for a lock.
    let waiting = Arc::new(Batcher::start(BATCH_LIMIT, 1, async move |batch| {
        waiter.run(batch, LockedSessions::Wait).await;
    }));
    let passed_on = Arc::clone(&waiting);
    let exchanges = Batcher::start(BATCH_LIMIT, concurrent, async move |batch| {
        for pending in skipping.run(batch, LockedSessions::Skip).await {
            passed_on.pass_on(pending);
        }
    });
    (exchanges, waiting)
}

#[derive(Clone)]
struct Exchanger {
    store: Arc<dyn Store>,
    tokens: TokenSettings,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl Exchanger {
    /// Exchanges a batch. Returns the items of sessions that were skipped.
    async fn run(&self, batch: Vec<PendingToken>, locked: LockedSessions) -> Vec<PendingToken> {
        let presented = newest(batch.iter().map(|pending| &pending.item));
        let now = self.clock.now();
        let rotations = self.rotate(&presented, now, locked).await;
        let mut skipped = Vec::new();
        for pending in batch {
            let (session_id, PresentedToken { generation, .. }) = pending.item;
            let rotation = match &rotations {
                Ok(rotations) if rotations.locked.contains(&session_id) => {
                    skipped.push(pending);
                    continue;
                }
                Ok(rotations) => rotations.rotated.get(&session_id).cloned().transpose(),
                Err(error) => {
                    pending.complete(Err(error.clone()));
                    continue;
                }
            };
            let newest = presented.get(&session_id);
            let is_newest = newest.is_some_and(|newest| newest.generation == generation);
            let exchanged = rotation
                .map(|rotation| rotation.map(|rotation| self.exchanged(rotation, is_newest, now)));
            pending.complete(exchanged.map_err(Into::into));
        }
        skipped
    }

    async fn rotate(
        &self,
        presented: &HashMap<SessionId, PresentedToken>,
        now: OffsetDateTime,
        locked: LockedSessions,
    ) -> Result<Rotations, ActorError> {
        let tokens_expire_at = now + self.tokens.lifetime;
        let used_since = self.tokens.used_since(now);
        let rotate =
            self.store.rotate_sessions(presented, now, used_since, tokens_expire_at, locked);
        with_deadline(self.timeout, rotate).await
    }

    /// Returns the result for one of the callers that presented a token of the session.
    fn exchanged(&self, rotation: Rotation, is_newest: bool, now: OffsetDateTime) -> Exchanged {
        let token_use = if is_newest { rotation.token_use } else { TokenUse::Replay };
        let token_expires_at = rotation.expires_at.min(now + self.tokens.lifetime);
        let rotation = Rotation { token_use, ..rotation };
        Exchanged { rotation, at: now, token_expires_at }
    }
}

/// Picks the newest token of each session: only this one can rotate it. Older tokens in the batch
/// count as presented after it, regardless of their order of arrival.
fn newest<'a>(
    presented: impl Iterator<Item = &'a (SessionId, PresentedToken)>,
) -> HashMap<SessionId, PresentedToken> {
    let mut newest: HashMap<SessionId, PresentedToken> = HashMap::new();
    for (session_id, token) in presented {
        let known = newest.get(session_id);
        if known.is_none_or(|known| known.generation < token.generation) {
            newest.insert(*session_id, token.clone());
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::domain::{RequestOrigin, UserAgent};

    #[test]
    fn newest_token_of_each_session_is_exchanged() {
        let one = SessionId::random();
        let other = SessionId::random();
        let origin =
            RequestOrigin { address: Ipv4Addr::LOCALHOST.into(), user_agent: UserAgent::default() };
        let token = |generation: u64| PresentedToken {
            generation: generation.into(),
            origin: origin.clone(),
        };
        let presented = [(one, token(0)), (one, token(2)), (other, token(0)), (one, token(1))];

        let newest = newest(presented.iter());

        assert_eq!(newest, HashMap::from([(one, token(2)), (other, token(0))]));
    }
}
