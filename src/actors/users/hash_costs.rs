//! Reads the costs of the hashes in the database, and measures new ones.

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::UserActor;
use crate::actors::ActorError;
use crate::actors::deadline::with_deadline;
use crate::telemetry::ErrorChain;

impl UserActor {
    /// Reads and measures, then waits for one interval and starts again.
    pub(super) fn follow_hash_costs(&mut self, context: &mut Context<Self>) {
        let update = self.clone().update_hash_costs().into_actor(self);
        context.spawn(update.map(|(), actor, context| {
            context.run_later(actor.hash_costs_interval, Self::follow_hash_costs);
        }));
    }

    async fn update_hash_costs(self) {
        if let Err(error) = self.read_hash_costs().await {
            let error = ErrorChain(&error);
            tracing::warn!(%error, "failed to read the costs of the password hashes");
        }
    }

    async fn read_hash_costs(&self) -> Result<(), ActorError> {
        let costs = with_deadline(self.timeout, self.store.hash_costs()).await?;
        self.hash_times.borrow_mut().set_present(costs);
        let unmeasured = self.hash_times.borrow().unmeasured();
        // One after the other, so that logins wait for no more than one of them.
        for cost in unmeasured {
            let time = self.hashing.measure(cost).await?;
            self.hash_times.borrow_mut().observe(Some(cost), time);
        }
        Ok(())
    }
}
