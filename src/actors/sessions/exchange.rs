//! Exchanges refresh tokens in the database, in batches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::actors::ActorError;
use crate::actors::batcher::{Batcher, Pending, with_timeout};
use crate::clock::Clock;
use crate::config::TokenSettings;
use crate::domain::{Generation, SessionId};
use crate::store::{Rotation, Rotations, Store};

/// Maximum number of exchanges in one commit, so that it ends within the request timeout.
const BATCH_LIMIT: usize = 20_000;

/// Queue of refresh tokens, each by its session and generation. The result is the state of the session
/// after the exchange, `None` for a session that has ended.
pub(super) type Exchanges = Batcher<(SessionId, Generation), Option<Rotation>>;

/// Starts the task that exchanges. An exchange is given up after `timeout`.
pub(super) fn start(
    store: Arc<dyn Store>,
    tokens: TokenSettings,
    timeout: Duration,
    clock: Arc<dyn Clock>,
) -> Exchanges {
    let exchanger = Exchanger { store, tokens, timeout, clock };
    Batcher::start(BATCH_LIMIT, async move |batch| exchanger.run(batch).await)
}

struct Exchanger {
    store: Arc<dyn Store>,
    tokens: TokenSettings,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl Exchanger {
    async fn run(&self, batch: Vec<Pending<(SessionId, Generation), Option<Rotation>>>) {
        let presented = newest(batch.iter().map(|pending| pending.item));
        let rotations = self.rotate(&presented).await;
        for pending in batch {
            let (session_id, _) = pending.item;
            let result = match &rotations {
                Ok(rotations) => {
                    rotations.get(&session_id).cloned().transpose().map_err(Into::into)
                }
                Err(error) => Err(error.clone()),
            };
            pending.complete(result);
        }
    }

    async fn rotate(
        &self,
        presented: &HashMap<SessionId, Generation>,
    ) -> Result<Rotations, ActorError> {
        let now = self.clock.now();
        let used_since = self.tokens.session_idle_timeout.map(|timeout| now - timeout);
        with_timeout(self.timeout, self.store.rotate_sessions(presented, now, used_since)).await
    }
}

/// Picks the newest token of each session: only this one can rotate it. Older tokens in the batch count
/// as presented after it, regardless of their order of arrival.
fn newest(
    presented: impl Iterator<Item = (SessionId, Generation)>,
) -> HashMap<SessionId, Generation> {
    let mut newest = HashMap::new();
    for (session_id, generation) in presented {
        let known = newest.entry(session_id).or_insert(generation);
        *known = generation.max(*known);
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_token_of_each_session_is_exchanged() {
        let one = SessionId::random();
        let other = SessionId::random();
        let [first, second, third] = [0, 1, 2].map(Generation::from);

        let newest =
            newest([(one, first), (one, third), (other, first), (one, second)].into_iter());

        assert_eq!(newest, HashMap::from([(one, third), (other, first)]));
    }
}
