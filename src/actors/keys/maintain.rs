//! Keeps the signing keys going: lets the active one sign for longer, rotates it when it is time,
//! and deletes those whose tokens have expired.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::actors::ActorError;
use crate::actors::deadline::with_deadline;
use crate::clock::Clock;
use crate::domain::{KeyError, KeySet, KeyState};
use crate::keys::Keys;
use crate::telemetry::ErrorChain;
use crate::tokens::Tokens;

/// Time before the end of the permission to sign at which it is extended.
const EXTENSION_MARGIN: Duration = Duration::from_mins(10);

/// Delay after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Maintenance of one interval.
#[derive(Clone)]
pub(super) struct Maintenance {
    pub(super) keys: Keys,
    pub(super) tokens: Arc<Tokens>,
    pub(super) rotation_interval: Option<Duration>,
    /// Time from the publication of a key until it may sign.
    pub(super) publication: Duration,
    pub(super) token_lifetime: Duration,
    /// Maximum duration of one step.
    pub(super) timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
}

impl Maintenance {
    /// Runs once. A failure is logged; the next run tries again.
    pub(super) async fn run(self) {
        match self.maintain().await {
            // Another instance has just rotated.
            Ok(()) | Err(ActorError::Key(KeyError::TooEarly(_))) => {}
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "failed to maintain the signing keys");
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }

    async fn maintain(&self) -> Result<(), ActorError> {
        let now = self.clock.now();
        self.extend(now).await?;
        if let Some(interval) =
            self.rotation_interval.filter(|interval| self.is_due(*interval, now))
        {
            self.apply(self.keys.rotate_if_due(interval, now)).await?;
        }
        if self.tokens.ring().has_expired_key(now) {
            self.apply(self.keys.delete_expired(now)).await?;
        }
        Ok(())
    }

    /// Lets the active key sign for longer, before it is too late for a token of a whole lifetime.
    async fn extend(&self, now: OffsetDateTime) -> Result<(), ActorError> {
        let needed = now + self.token_lifetime + EXTENSION_MARGIN;
        let ring = Arc::clone(&self.tokens.ring());
        let Some(active) = ring.active().filter(|active| active.signs_until < needed) else {
            return Ok(());
        };
        let extended = with_deadline(self.timeout, self.keys.extend(active.id, now)).await?;
        // Otherwise another instance has just rotated, and the follower will read of it.
        if let Some(signs_until) = extended {
            ring.extend(active.id, signs_until);
        }
        Ok(())
    }

    /// Returns `true` if the active key has signed for long enough, and the pending one has been
    /// published for long enough.
    fn is_due(&self, interval: Duration, now: OffsetDateTime) -> bool {
        let ring = self.tokens.ring();
        let is_active_due = ring.active().is_none_or(|active| {
            active.activated_at.is_none_or(|activated_at| activated_at + interval <= now)
        });
        is_active_due && ring.pending_since().is_some_and(|since| since + self.publication <= now)
    }

    async fn apply<E>(
        &self,
        change: impl Future<Output = Result<Option<KeySet>, E>>,
    ) -> Result<(), ActorError>
    where
        ActorError: From<E>,
    {
        if let Some(keys) = with_deadline(self.timeout, change).await? {
            self.tokens.apply(&keys);
            if let Some(key) = keys.keys.iter().find(|key| key.state == KeyState::Active) {
                tracing::info!(key.id = %key.id, "the signing keys have changed");
            }
        }
        Ok(())
    }
}
