//! Requesters of changes on PostgreSQL: whether they are signed in, and what they can grant.

use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::database::PostgresStore;
use crate::domain::{AccountError, ClientId, Grantable, Permissions, Requester, Roles, UserId};
use crate::store::error::StoreError;
use crate::store::requesters::{grantable, known_roles};
use crate::store::users::WriteError;

/// Selects the permissions in the rows of an account's roles, separated by spaces; null if there are
/// none.
macro_rules! permissions_of_user {
    () => {
        "(select string_agg(permission, ' ') from roles, unnest(roles.permissions) as permission
          where roles.name = any (users.roles))"
    };
}
pub(super) use permissions_of_user;

impl PostgresStore {
    /// Returns `true` if the session of the requester is open, and keeps it open until the commit.
    pub(super) async fn is_signed_in(
        &self,
        connection: &mut PgConnection,
        requester: &Requester,
    ) -> Result<bool, StoreError> {
        let Some(session) = requester.session_id else { return Ok(true) };
        // `for key share` does not delay an exchange of the refresh token.
        let select = match requester.client_id {
            None => "select from sessions where id = $1 for key share",
            Some(_) => "select from client_secrets where session_id = $1 for share",
        };
        let select = self.executor.query(select).bind(session.as_uuid());
        Ok(select.fetch_optional(connection).await?.is_some())
    }

    /// Returns the permissions that the requester can grant.
    pub(super) async fn grantable(
        &self,
        connection: &mut PgConnection,
        requester: &Requester,
    ) -> Result<Grantable, StoreError> {
        let Some(scope) = &requester.permissions else { return Ok(Grantable::All) };
        let select = self.executor.query(concat!(
            "select roles, ",
            permissions_of_user!(),
            " as permissions from users where id = $1
             union all
             select '{}', array_to_string(permissions, ' ') from clients where id = $2"
        ));
        let row = select
            .bind(requester.user_id.map(UserId::as_uuid))
            .bind(requester.client_id.map(ClientId::as_uuid))
            .fetch_optional(connection)
            .await?;
        let Some(row) = row else { return Ok(Grantable::Held(Permissions::default())) };
        let roles: Vec<String> = row.try_get("roles")?;
        let permissions: Option<&str> = row.try_get("permissions")?;
        grantable(scope, roles, permissions.unwrap_or_default())
    }

    /// Returns the permissions of roles, which keep them until the commit.
    ///
    /// Returns [`AccountError::UnknownRoles`] if one of them does not exist.
    pub(super) async fn permissions_of_roles(
        &self,
        connection: &mut PgConnection,
        roles: &Roles,
    ) -> Result<Permissions, WriteError> {
        let select = self.executor.query(
            "select name, array_to_string(permissions, ' ') as permissions
             from roles where name = any ($1) order by name for share",
        );
        let rows = select.bind(roles.names()).fetch_all(&mut *connection).await?;
        if rows.len() < roles.names().len() {
            let select = self.executor.query("select name from roles");
            let rows = select.fetch_all(connection).await?;
            let names = rows.iter().map(|row| row.try_get(0));
            let known = known_roles(&names.collect::<Result<Vec<String>, _>>()?);
            return Err(AccountError::UnknownRoles { known }.into());
        }
        let mut permissions = roles.built_in_permissions();
        for row in rows {
            permissions = permissions.union(&Permissions::from_scope(row.try_get("permissions")?));
        }
        Ok(permissions)
    }
}
