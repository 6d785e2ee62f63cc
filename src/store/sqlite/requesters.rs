//! Requesters of changes on SQLite: whether they are signed in, and what they can grant.

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use crate::domain::{AccountError, ClientId, Grantable, Permissions, Requester, Roles, UserId};
use crate::store::error::StoreError;
use crate::store::requesters::{grantable, known_roles};
use crate::store::users::WriteError;

/// Selects the permissions in the rows of an account's roles, separated by spaces; null if there are
/// none.
macro_rules! permissions_of_user {
    () => {
        "(select group_concat(permissions, ' ') from roles
          where instr(' ' || users.roles || ' ', ' ' || roles.name || ' ') > 0)"
    };
}
pub(super) use permissions_of_user;

/// Returns `true` if the session of the requester is open.
pub(super) async fn is_signed_in(
    connection: &mut SqliteConnection,
    requester: &Requester,
) -> Result<bool, StoreError> {
    let Some(session) = requester.session_id else { return Ok(true) };
    let select = match requester.client_id {
        None => "select 1 from sessions where id = ?1",
        Some(_) => "select 1 from client_secrets where session_id = ?1",
    };
    let select = sqlx::query(select).bind(session.as_uuid());
    Ok(select.fetch_optional(connection).await?.is_some())
}

/// Returns the permissions that the requester can grant.
pub(super) async fn find_grantable(
    connection: &mut SqliteConnection,
    requester: &Requester,
) -> Result<Grantable, StoreError> {
    let Some(scope) = &requester.permissions else { return Ok(Grantable::All) };
    let select = sqlx::query(concat!(
        "select roles, ",
        permissions_of_user!(),
        " as permissions from users where id = ?1
         union all
         select '', permissions from clients where id = ?2"
    ));
    let row = select
        .bind(requester.user_id.map(UserId::as_uuid))
        .bind(requester.client_id.map(ClientId::as_uuid))
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(Grantable::Held(Permissions::default())) };
    let roles: &str = row.try_get("roles")?;
    let roles = roles.split_whitespace().map(str::to_owned).collect();
    let permissions: Option<&str> = row.try_get("permissions")?;
    grantable(scope, roles, permissions.unwrap_or_default())
}

/// Returns the permissions of roles.
///
/// Returns [`AccountError::UnknownRoles`] if one of them does not exist.
pub(super) async fn permissions_of_roles(
    connection: &mut SqliteConnection,
    roles: &Roles,
) -> Result<Permissions, WriteError> {
    let select = sqlx::query("select name, permissions from roles");
    let mut known = Vec::new();
    let mut permissions = roles.built_in_permissions();
    for row in select.fetch_all(connection).await? {
        let name: String = row.try_get("name")?;
        if roles.names().contains(&name.as_str()) {
            permissions = permissions.union(&Permissions::from_scope(row.try_get("permissions")?));
        }
        known.push(name);
    }
    if roles.names().iter().all(|name| known.iter().any(|known| known == name)) {
        return Ok(permissions);
    }
    Err(AccountError::UnknownRoles { known: known_roles(&known) }.into())
}
