//! Maintains the signing keys: provides those that are missing, lets the active one sign for longer,
//! rotates it when it is time, and deletes those that verify no token any more.

use std::time::Duration;

use strum::IntoStaticStr;
use tokio::time::sleep;

use super::writer::KeyWriter;
use crate::actors::ActorError;
use crate::domain::{KeyEdit, KeyError, Requester};
use crate::telemetry::ErrorChain;

/// Delay after a failure.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Change that the keys need.
#[derive(Clone, Copy, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
enum Change {
    Provide,
    Extend,
    Rotate(Duration),
    Delete,
}

/// Maintenance of one interval.
#[derive(Clone)]
pub(super) struct Maintenance {
    pub(super) writer: KeyWriter,
    pub(super) rotation_interval: Option<Duration>,
}

impl Maintenance {
    /// Runs once. A failure is logged; the next run tries again.
    pub(super) async fn run(self) {
        let mut has_failed = false;
        for change in self.due_changes() {
            let action = <&str>::from(change);
            match self.change(change).await {
                // Another instance may have been faster.
                Ok(()) | Err(ActorError::Key(KeyError::TooEarly(_))) => {}
                Err(error) => {
                    let error = ErrorChain(&error);
                    tracing::warn!(%error, action, "failed to maintain the signing keys");
                    has_failed = true;
                }
            }
        }
        if has_failed {
            sleep(RETRY_DELAY).await;
        }
    }

    /// Returns the changes that the keys in memory need. The database decides again.
    fn due_changes(&self) -> Vec<Change> {
        let KeyWriter { keys, tokens, clock, .. } = &self.writer;
        let ring = tokens.ring();
        let (set, periods) = (ring.stored(), &keys.periods);
        let now = clock.now();
        let earliest_now = now.min(keys.host.now());
        let is_rotation_due = |interval| set.is_rotation_due(interval, earliest_now);
        let due = [
            (!set.is_provided(periods)).then_some(Change::Provide),
            set.needs_extension(periods, now).then_some(Change::Extend),
            self.rotation_interval
                .filter(|interval| is_rotation_due(*interval))
                .map(Change::Rotate),
            set.has_expired_key(earliest_now).then_some(Change::Delete),
        ];
        due.into_iter().flatten().collect()
    }

    async fn change(&self, change: Change) -> Result<(), ActorError> {
        let keys = &self.writer.keys;
        let edit = match change {
            Change::Provide => KeyEdit::Provide(keys.new_keys()?),
            Change::Extend => KeyEdit::Extend,
            Change::Rotate(interval) => KeyEdit::RotateIfDue(interval, keys.new_key()?),
            Change::Delete => KeyEdit::DeleteExpired,
        };
        if self.writer.apply(keys.change(edit, Requester::SERVICE)).await?.is_some() {
            tracing::info!(action = <&str>::from(change), "signing keys changed");
        }
        Ok(())
    }
}
