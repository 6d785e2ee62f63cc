//! [`ClientWriter`]: changes the clients in the database and in memory.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::deadline::with_deadline;
use crate::actors::{ActorError, SharedState};
use crate::clock::Clock;
use crate::domain::{Client, ClientChange, ClientEdit, ClientError, ClientId, Requester};
use crate::store::Store;

/// Changes the clients. Every change of this instance goes through it.
#[derive(Clone)]
pub(super) struct ClientWriter {
    pub(super) store: Arc<dyn Store>,
    pub(super) state: SharedState,
    /// Life of an access token.
    pub(super) token_lifetime: Duration,
    /// Maximum duration of a query.
    pub(super) timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
}

impl ClientWriter {
    /// Carries out a change. Once it is committed, this instance accepts or refuses the secrets and
    /// tokens of the client accordingly.
    pub(super) async fn change(
        &self,
        client_id: ClientId,
        edit: ClientEdit,
        requester: Requester,
    ) -> Result<Client, ActorError> {
        let token_lifetime = Some(self.token_lifetime);
        let change = ClientChange { client_id, edit, token_lifetime, requester };
        let changed = with_deadline(self.timeout, self.store.change_client(&change)).await?;
        let Some((changed, set)) = changed else { return self.find(client_id).await };
        self.state.replica.apply_own(&changed.revocations, self.clock.now());
        self.state.clients.apply(&set);
        Ok(changed.client)
    }

    async fn find(&self, id: ClientId) -> Result<Client, ActorError> {
        let set = with_deadline(self.timeout, self.store.read_clients()).await?;
        let client = set.clients.into_iter().find(|client| client.id == id);
        Ok(client.ok_or(ClientError::NotFound)?)
    }
}
