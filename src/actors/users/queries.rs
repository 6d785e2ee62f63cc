//! Reads: accounts, the audit log, and the state of the database.

use std::sync::Arc;
use std::time::Duration;

use actix::{Handler, Message};
use tokio::time::timeout;

use super::UserActor;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::{AccountError, User, UserId};
use crate::store::{AuditQuery, ListedAuditRecord, ListedUser, StoreError, UserQuery};

/// Finds an account. Replies with it, or with [`AccountError::NotFound`].
#[derive(Message)]
#[rtype(result = "Result<User, ActorError>")]
pub struct FindUser {
    pub user_id: UserId,
}

impl Handler<FindUser> for UserActor {
    type Result = CancelOnDrop<Result<User, ActorError>>;

    fn handle(&mut self, message: FindUser, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        CancelOnDrop::new(async move {
            let user = store.find_user(message.user_id).await?;
            Ok(user.ok_or(AccountError::NotFound)?)
        })
    }
}

/// Lists accounts. Replies with one page.
#[derive(Message)]
#[rtype(result = "Result<Vec<ListedUser>, ActorError>")]
pub struct ListUsers {
    pub query: UserQuery,
}

impl Handler<ListUsers> for UserActor {
    type Result = CancelOnDrop<Result<Vec<ListedUser>, ActorError>>;

    fn handle(&mut self, message: ListUsers, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        CancelOnDrop::new(async move { Ok(store.list_users(&message.query).await?) })
    }
}

/// Reads the audit log. Replies with one page.
#[derive(Message)]
#[rtype(result = "Result<Vec<ListedAuditRecord>, ActorError>")]
pub struct ListAuditRecords {
    pub query: AuditQuery,
}

impl Handler<ListAuditRecords> for UserActor {
    type Result = CancelOnDrop<Result<Vec<ListedAuditRecord>, ActorError>>;

    fn handle(&mut self, message: ListAuditRecords, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        CancelOnDrop::new(async move { Ok(store.list_audit_records(&message.query).await?) })
    }
}

/// Time after which a database does not answer.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Checks that the database can be written in two seconds. Replies once it has been, or with the
/// reason.
#[derive(Message)]
#[rtype(result = "Result<(), ActorError>")]
pub struct Ping;

impl Handler<Ping> for UserActor {
    type Result = CancelOnDrop<Result<(), ActorError>>;

    fn handle(&mut self, _: Ping, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        CancelOnDrop::new(async move {
            timeout(PING_TIMEOUT, store.ping())
                .await
                .unwrap_or(Err(StoreError::Timeout(PING_TIMEOUT)))?;
            Ok(())
        })
    }
}
