//! Reads of roles.

use std::sync::Arc;

use actix::{Handler, Message};

use super::RoleActor;
use crate::actors::{ActorError, CancelOnDrop};
use crate::domain::{Role, RoleError, RoleName};
use crate::store::ListedRoles;

/// Lists the roles by name.
#[derive(Message)]
#[rtype(result = "Result<ListedRoles, ActorError>")]
pub struct ListRoles;

impl Handler<ListRoles> for RoleActor {
    type Result = CancelOnDrop<Result<ListedRoles, ActorError>>;

    fn handle(&mut self, _: ListRoles, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        CancelOnDrop::new(async move { Ok(store.list_roles().await?) })
    }
}

/// Finds a role. Replies with it, or with [`RoleError::NotFound`].
#[derive(Message)]
#[rtype(result = "Result<Role, ActorError>")]
pub struct FindRole {
    pub name: RoleName,
}

impl Handler<FindRole> for RoleActor {
    type Result = CancelOnDrop<Result<Role, ActorError>>;

    fn handle(&mut self, message: FindRole, _: &mut Self::Context) -> Self::Result {
        let store = Arc::clone(&self.store);
        CancelOnDrop::new(async move {
            let role = store.find_role(&message.name).await?;
            Ok(role.ok_or(RoleError::NotFound)?)
        })
    }
}
