//! [`KeyWriter`]: changes the signing keys in the database and in memory.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::ActorError;
use crate::actors::deadline::with_deadline;
use crate::clock::Clock;
use crate::domain::{ChangedKeys, KeyError, KeySet};
use crate::keys::{Keys, KeysError};
use crate::revocation::Replica;
use crate::tokens::Tokens;

/// Changes the signing keys. Every change of this instance goes through it.
#[derive(Clone)]
pub(super) struct KeyWriter {
    pub(super) keys: Keys,
    pub(super) tokens: Arc<Tokens>,
    pub(super) replica: Arc<Replica>,
    /// Maximum duration of a query.
    pub(super) timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
}

impl KeyWriter {
    /// Returns `true` if the stored keys sign, and not a secret.
    pub(super) fn are_used(&self) -> bool {
        self.tokens.ring().is_stored()
    }

    /// Reads the keys.
    pub(super) async fn read(&self) -> Result<KeySet, ActorError> {
        with_deadline(self.timeout, self.keys.read()).await
    }

    /// Carries out a change. Once it is committed, this instance signs with the new keys and refuses
    /// the tokens of revoked ones. Returns `None` if nothing changed.
    pub(super) async fn apply(
        &self,
        change: impl Future<Output = Result<Option<ChangedKeys>, KeysError>>,
    ) -> Result<Option<ChangedKeys>, ActorError> {
        if !self.are_used() {
            return Err(KeyError::NotUsed.into());
        }
        let Some(changed) = with_deadline(self.timeout, change).await? else { return Ok(None) };
        self.replica.apply_own(&changed.revocations, self.clock.now());
        self.tokens.apply(&changed.set);
        Ok(Some(changed))
    }

    /// Carries out a change as [`apply`](Self::apply) does. Returns the keys after it.
    pub(super) async fn apply_and_read(
        &self,
        change: impl Future<Output = Result<Option<ChangedKeys>, KeysError>>,
    ) -> Result<KeySet, ActorError> {
        let changed = self.apply(change).await?;
        with_deadline(self.timeout, self.keys.read_after(changed)).await
    }
}
