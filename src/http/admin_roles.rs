//! `/admin/roles`: administration of the roles.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, HttpResponseBuilder, Responder};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::authenticated::Authenticated;
use super::body::JsonBody;
use super::error::ApiError;
use super::json::{Json, reply_json};
use super::page::NoQuery;
use super::refused::{
    BadJson, BadPermissions, BadRoleName, BadToken, BuiltInRole, LacksPermissions,
    MissingPermissions, NeedsRolesRead, NeedsRolesWrite, NoParameters, NotFound, Refused,
    RoleInUse,
};
use super::state::Api;
use super::views::RoleView;
use crate::actors::{ChangeRole, FindRole, ListRoles};
use crate::domain::{
    AuditAction, Permission, Permissions, RequestOrigin, RoleChange, RoleEdit, RoleName,
};
use crate::store::{ChangedRole, ListedRoles};

/// New permissions.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewPermissions, example = json!({ "permissions": ["dashboard:read"] }))]
pub(super) struct RawPermissions {
    #[schema(value_type = Permissions, inline)]
    permissions: Option<Vec<String>>,
}

/// Roles, ordered by name.
#[derive(Serialize, ToSchema)]
#[schema(as = Roles)]
struct RoleListView {
    roles: Vec<RoleView>,
    /// Names in the database that do not parse.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    broken: Vec<String>,
}

/// List the roles
#[utoipa::path(
    get, path = "/admin/roles", operation_id = "list_roles", tag = "administration",
    security(("access_token" = ["roles:read"])),
    responses(
        (status = 200, description = "The roles", body = RoleListView),
        Refused<(BadToken, NoParameters, NeedsRolesRead)>,
    ),
)]
pub(super) async fn list(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::ROLES_READ)?;
    bearer.require_open_session(&api).await?;

    let list = api.roles.ask(ListRoles).await?;

    Ok(Json(RoleListView::from(list)))
}

/// Read a role
#[utoipa::path(
    get, path = "/admin/roles/{name}", operation_id = "read_role", tag = "administration",
    security(("access_token" = ["roles:read"])),
    params(("name" = inline(RoleName), Path, description = "Name of the role")),
    responses(
        (status = 200, description = "The role", body = RoleView),
        Refused<(BadToken, NoParameters, NeedsRolesRead, NotFound)>,
    ),
)]
pub(super) async fn read(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    name: Path<String>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::ROLES_READ)?;
    bearer.require_open_session(&api).await?;
    let name = RoleName::parse(&name).map_err(|_| ApiError::NotFound)?;

    let role = api.roles.ask(FindRole { name }).await?;

    Ok(Json(RoleView::from(&role)))
}

/// Set the permissions of a role
///
/// Creates the role if there is none. A built-in role keeps its first permissions. If a permission
/// is taken away, the sessions of the members end soon after the reply; `ending_sessions` is the
/// number of those that are left.
#[utoipa::path(
    put, path = "/admin/roles/{name}", operation_id = "set_role", tag = "administration",
    security(("access_token" = ["roles:write"])),
    params(("name" = inline(RoleName), Path, description = "Name of the role")),
    request_body = RawPermissions,
    responses(
        (status = 200, description = "The changed role", body = RoleView),
        (status = 201, description = "The new role", body = RoleView),
        Refused<(
            BadToken, NoParameters, NeedsRolesWrite, BadRoleName, BadJson, MissingPermissions,
            BadPermissions, LacksPermissions,
        )>,
    ),
)]
pub(super) async fn set(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    name: Path<String>,
    body: JsonBody<RawPermissions>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::ROLES_WRITE)?;
    let name = RoleName::parse(&name)?;
    let permissions = body.read().await?.permissions.ok_or(ApiError::MissingPermissions)?;
    let edit = RoleEdit::Set(Permissions::parse(permissions)?);

    let changed = change(&api, &bearer, origin, name, edit).await?;

    let status = match changed.action {
        Some(AuditAction::RoleCreated) => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    Ok(reply_json(&mut HttpResponseBuilder::new(status), &RoleView::from(&changed.role)))
}

/// Delete a role
///
/// Refused while an account has it.
#[utoipa::path(
    delete, path = "/admin/roles/{name}", operation_id = "delete_role", tag = "administration",
    security(("access_token" = ["roles:write"])),
    params(("name" = inline(RoleName), Path, description = "Name of the role")),
    responses(
        (status = 204, description = "The role was deleted"),
        Refused<(BadToken, NoParameters, NeedsRolesWrite, NotFound, BuiltInRole, RoleInUse)>,
    ),
)]
pub(super) async fn delete(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    name: Path<String>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::ROLES_WRITE)?;
    let name = RoleName::parse(&name).map_err(|_| ApiError::NotFound)?;

    change(&api, &bearer, origin, name, RoleEdit::Delete).await?;

    Ok(HttpResponse::NoContent().finish())
}

async fn change(
    api: &Api,
    bearer: &Authenticated,
    origin: RequestOrigin,
    name: RoleName,
    edit: RoleEdit,
) -> Result<ChangedRole, ApiError> {
    let requester = bearer.requester(origin);
    let change = RoleChange { name, edit, requester };
    let changed = api.roles.ask(ChangeRole { change }).await?;

    if let Some(action) = changed.action {
        let ChangedRole { role, .. } = &changed;
        let (requester, action) = (&bearer.claims.subject, action.into_str());
        tracing::info!(requester.id = %requester, role = %role.name, action, "role changed");
    }
    Ok(changed)
}

impl From<ListedRoles> for RoleListView {
    fn from(list: ListedRoles) -> Self {
        Self { roles: list.roles.iter().map(RoleView::from).collect(), broken: list.broken }
    }
}
