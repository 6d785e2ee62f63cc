//! Lists and changes the clients.

use std::sync::Arc;

use actix::{Handler, Message, ResponseFuture};

use super::ClientActor;
use crate::actors::deadline::with_deadline;
use crate::actors::{ActorError, AskError, CancelOnDrop};
use crate::domain::{
    Client, ClientChange, ClientEdit, ClientError, ClientId, ClientSet, Requester,
};

/// Lists the clients in the order of their names.
#[derive(Message)]
#[rtype(result = "Result<ClientSet, ActorError>")]
pub struct ListClients;

/// Changes a client. Replies with it once the change is committed and this instance accepts or
/// refuses its secrets and tokens accordingly.
#[derive(Message)]
#[rtype(result = "Result<Client, ActorError>")]
pub struct ChangeClient {
    pub client_id: ClientId,
    pub edit: ClientEdit,
    pub requester: Requester,
}

impl Handler<ListClients> for ClientActor {
    type Result = CancelOnDrop<Result<ClientSet, ActorError>>;

    fn handle(&mut self, _: ListClients, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        CancelOnDrop::new(async move { Ok(store.read_clients().await?) })
    }
}

impl Handler<ChangeClient> for ClientActor {
    // Not `CancelOnDrop`: a revocation that was sent is carried out, even if the caller leaves.
    type Result = ResponseFuture<Result<Client, ActorError>>;

    fn handle(&mut self, message: ChangeClient, _: &mut Self::Context) -> Self::Result {
        let ChangeClient { client_id, edit, requester } = message;
        let token_lifetime = Some(self.token_lifetime);
        let change = ClientChange { client_id, edit, token_lifetime, requester };
        let store = Arc::clone(&self.store);
        let directory = Arc::clone(&self.directory);
        let replica = Arc::clone(&self.replica);
        let clock = Arc::clone(&self.clock);
        let timeout = self.timeout;
        let changed = actix::spawn(async move {
            let changed = with_deadline(timeout, store.change_client(&change)).await?;
            let Some((changed, set)) = changed else {
                let set = with_deadline(timeout, store.read_clients()).await?;
                let client = set.clients.into_iter().find(|client| client.id == client_id);
                return Ok(client.ok_or(ClientError::NotFound)?);
            };
            let now = clock.now();
            for revocation in &changed.revocations {
                replica.apply(revocation, now);
            }
            directory.apply(&set);
            Ok(changed.client)
        });
        Box::pin(async move { changed.await.unwrap_or(Err(AskError::Stopped.into())) })
    }
}
