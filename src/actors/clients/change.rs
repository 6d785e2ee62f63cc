//! Lists and changes the clients.

use std::sync::Arc;

use actix::{Handler, Message, ResponseFuture};

use super::ClientActor;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::{Client, ClientEdit, ClientId, ClientSet, Requester};

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
        let store = Arc::clone(&self.writer.store);
        CancelOnDrop::new(async move { Ok(store.read_clients().await?) })
    }
}

impl Handler<ChangeClient> for ClientActor {
    // Not `CancelOnDrop`: a revocation that was sent is carried out, even if the caller leaves.
    type Result = ResponseFuture<Result<Client, ActorError>>;

    fn handle(&mut self, message: ChangeClient, _: &mut Self::Context) -> Self::Result {
        let ChangeClient { client_id, edit, requester } = message;
        let writer = self.writer.clone();
        Box::pin(async move { writer.change(client_id, edit, requester).await })
    }
}
