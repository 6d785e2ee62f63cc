//! `/admin/users`: administration of all accounts.

use actix_web::http::header::LOCATION;
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, Responder};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::authenticated::Authenticated;
use super::body::JsonBody;
use super::credentials::{RawCredentials, parse_new_password};
use super::error::ApiError;
use super::json::{Json, reply_json};
use super::page::{NoQuery, invalid_after, next_after, parse_limit};
use super::refused::{
    BadExternalId, BadJson, BadMetadata, BadPassword, BadQuery, BadRoles, BadToken, BadUsername,
    ExternalIdTaken, LacksPermissions, LastAdmin, MissingCredentials, MissingPassword,
    MissingRoles, NeedsUsersRead, NeedsUsersWrite, NoParameters, NotFound, Overloaded, Refused,
    UserExists,
};
use super::state::Api;
use super::views::ManagedAccountView;
use crate::actors::{ChangeUser, FindUser, ListUsers, Register, SetPassword, Unthrottle};
use crate::domain::{
    AuditAction, ExternalId, Metadata, NewPassword, Password, PasswordPolicy, Permission,
    RequestOrigin, RoleName, Roles, UserEdit, UserId, Username,
};
use crate::store::{ListedUser, UserQuery};

/// Query of a list of accounts.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUserQuery {
    /// Prefix of the usernames, case-insensitive.
    #[param(max_length = 150)]
    prefix: Option<String>,
    /// The username, case-insensitive.
    #[param(max_length = 150)]
    username: Option<String>,
    /// Id of the account in another system.
    #[param(max_length = 255)]
    external_id: Option<String>,
    /// Role that the accounts have.
    #[param(inline, value_type = Option<RoleName>)]
    role: Option<String>,
    /// `true` lists disabled accounts, `false` enabled ones.
    disabled: Option<bool>,
    /// `next` of the previous page.
    #[param(pattern = r"^[^\u0000]*$")]
    after: Option<String>,
    /// Maximum number of accounts.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// New account.
#[derive(Deserialize, ToSchema)]
#[schema(
    as = NewAccount,
    example = json!({ "username": "alice", "password": "testpass", "roles": ["user"] })
)]
pub(super) struct RawUser {
    #[schema(value_type = Username)]
    username: Option<String>,
    #[schema(value_type = NewPassword)]
    password: Option<String>,
    /// Roles; `["user"]` by default.
    #[schema(value_type = Option<Roles>, inline)]
    roles: Option<Vec<String>>,
    #[schema(value_type = Option<ExternalId>, inline)]
    external_id: Option<String>,
    #[schema(value_type = Option<Metadata>, inline)]
    metadata: Option<Value>,
}

/// New account, parsed.
struct NewUser {
    username: Username,
    password: Password,
    roles: Roles,
    external_id: Option<ExternalId>,
    metadata: Metadata,
}

/// New roles.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewRoles)]
pub(super) struct RawRoles {
    #[schema(value_type = Roles, inline)]
    roles: Option<Vec<String>>,
}

/// New password.
#[derive(Deserialize, ToSchema)]
#[schema(as = AccountPassword)]
pub(super) struct RawPassword {
    #[schema(value_type = NewPassword)]
    password: Option<String>,
}

/// Page of accounts, ordered by username.
#[derive(Serialize, ToSchema)]
#[schema(as = Accounts)]
struct AccountListView {
    users: Vec<ManagedAccountView>,
    /// `after` of the next page, which may be empty; `null` on the last page.
    #[schema(required, example = "testuser")]
    next: Option<String>,
}

/// List accounts
///
/// Ordered by username, a page at a time.
#[utoipa::path(
    get, path = "/admin/users", operation_id = "list_users", tag = "administration",
    security(("access_token" = ["users:read"])),
    params(RawUserQuery),
    responses(
        (status = 200, description = "A page of accounts", body = AccountListView),
        Refused<(BadToken, NeedsUsersRead, BadQuery, BadUsername, BadExternalId)>,
    ),
)]
pub(super) async fn list(
    api: Data<Api>,
    bearer: Authenticated,
    Query(query): Query<RawUserQuery>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::USERS_READ)?;
    bearer.require_open_session(&api).await?;
    let query = UserQuery::try_from(query)?;

    let limit = query.limit;
    let users = api.users.ask(ListUsers { query }).await?;

    Ok(Json(AccountListView::new(&users, limit)))
}

/// Create an account
#[utoipa::path(
    post, path = "/admin/users", operation_id = "create_user", tag = "administration",
    security(("access_token" = ["users:write"])),
    request_body = RawUser,
    responses(
        (
            status = 201, description = "The new account", body = ManagedAccountView,
            headers(("Location" = String)),
            links(
                ("read" = (
                    operation_id = "read_user", parameters(("id" = "$response.body#/id")),
                )),
                ("delete" = (
                    operation_id = "delete_user", parameters(("id" = "$response.body#/id")),
                )),
            ),
        ),
        Refused<(
            BadToken, NoParameters, NeedsUsersWrite, BadJson, MissingCredentials, BadUsername,
            BadPassword, BadRoles, BadExternalId, BadMetadata, LacksPermissions, UserExists,
            ExternalIdTaken, Overloaded,
        )>,
    ),
)]
pub(super) async fn create(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    body: JsonBody<RawUser>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::USERS_WRITE)?;
    let new = body.read().await?.parse(&api.passwords)?;

    let requester = bearer.requester(origin);
    let NewUser { username, password, roles, external_id, metadata } = new;
    let register = Register { username, password, roles, external_id, metadata, requester };
    let user = api.users.ask(register).await?;

    tracing::info!(requester.id = %bearer.claims.subject, subject.id = %user.id, "account created");
    let location = format!("/admin/users/{}", user.id);
    let mut reply = HttpResponse::Created();
    reply.insert_header((LOCATION, location));
    Ok(reply_json(&mut reply, &ManagedAccountView::from(&user)))
}

/// Read an account
#[utoipa::path(
    get, path = "/admin/users/{id}", operation_id = "read_user", tag = "administration",
    security(("access_token" = ["users:read"])),
    params(("id" = inline(UserId), Path, description = "Id of the account")),
    responses(
        (status = 200, description = "The account", body = ManagedAccountView),
        Refused<(BadToken, NoParameters, NeedsUsersRead, NotFound)>,
    ),
)]
pub(super) async fn read(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::USERS_READ)?;
    bearer.require_open_session(&api).await?;

    let user = api.users.ask(FindUser { user_id: *id }).await?;

    Ok(Json(ManagedAccountView::from(&user)))
}

/// Delete an account
///
/// Ends its sessions and frees its username.
#[utoipa::path(
    delete, path = "/admin/users/{id}", operation_id = "delete_user", tag = "administration",
    security(("access_token" = ["users:write"])),
    params(("id" = inline(UserId), Path, description = "Id of the account")),
    responses(
        (status = 204, description = "The account was deleted"),
        Refused<(BadToken, NoParameters, NeedsUsersWrite, NotFound, LastAdmin)>,
    ),
)]
pub(super) async fn delete(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    change(&api, &bearer, origin, *id, UserEdit::Delete).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Disable an account
///
/// Refuses further logins and ends its sessions.
#[utoipa::path(
    post, path = "/admin/users/{id}/disable", operation_id = "disable_user",
    tag = "administration", security(("access_token" = ["users:write"])),
    params(("id" = inline(UserId), Path, description = "Id of the account")),
    responses(
        (status = 200, description = "The changed account", body = ManagedAccountView),
        Refused<(BadToken, NoParameters, NeedsUsersWrite, NotFound, LastAdmin)>,
    ),
)]
pub(super) async fn disable(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    change(&api, &bearer, origin, *id, UserEdit::Disable).await.map(Json)
}

/// Enable an account
///
/// Allows logins again.
#[utoipa::path(
    post, path = "/admin/users/{id}/enable", operation_id = "enable_user",
    tag = "administration", security(("access_token" = ["users:write"])),
    params(("id" = inline(UserId), Path, description = "Id of the account")),
    responses(
        (status = 200, description = "The changed account", body = ManagedAccountView),
        Refused<(BadToken, NoParameters, NeedsUsersWrite, LacksPermissions, NotFound)>,
    ),
)]
pub(super) async fn enable(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    change(&api, &bearer, origin, *id, UserEdit::Enable).await.map(Json)
}

/// Set the roles of an account
///
/// Ends its sessions.
#[utoipa::path(
    put, path = "/admin/users/{id}/roles", operation_id = "set_roles", tag = "administration",
    security(("access_token" = ["users:write"])),
    params(("id" = inline(UserId), Path, description = "Id of the account")),
    request_body = RawRoles,
    responses(
        (status = 200, description = "The changed account", body = ManagedAccountView),
        Refused<(
            BadToken, NoParameters, NeedsUsersWrite, LacksPermissions, NotFound, BadJson,
            MissingRoles, BadRoles, LastAdmin,
        )>,
    ),
)]
pub(super) async fn set_roles(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<UserId>,
    body: JsonBody<RawRoles>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::USERS_WRITE)?;
    let roles = body.read().await?.roles.ok_or(ApiError::MissingRoles)?;
    let roles = Roles::parse(roles)?;

    change(&api, &bearer, origin, *id, UserEdit::Roles(roles)).await.map(Json)
}

/// Set the password of an account
///
/// Ends its sessions.
#[utoipa::path(
    put, path = "/admin/users/{id}/password", operation_id = "set_password",
    tag = "administration", security(("access_token" = ["users:write"])),
    params(("id" = inline(UserId), Path, description = "Id of the account")),
    request_body = RawPassword,
    responses(
        (status = 200, description = "The changed account", body = ManagedAccountView),
        Refused<(
            BadToken, NoParameters, NeedsUsersWrite, LacksPermissions, NotFound, BadJson,
            MissingPassword, BadPassword, Overloaded,
        )>,
    ),
)]
pub(super) async fn set_password(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<UserId>,
    body: JsonBody<RawPassword>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::USERS_WRITE)?;
    let password = parse_new_password(body.read().await?.password, &api.passwords)?;

    let requester = bearer.requester(origin);
    let user = api.users.ask(SetPassword { user_id: *id, password, requester }).await?;

    log_change(&bearer, *id, AuditAction::PasswordChanged);
    Ok(Json(ManagedAccountView::from(&user)))
}

/// Clear the failed logins of a user
///
/// Lets the user log in at once after too many failed attempts.
#[utoipa::path(
    delete, path = "/admin/users/{id}/throttle", operation_id = "unthrottle_user",
    tag = "administration", security(("access_token" = ["users:write"])),
    params(("id" = inline(UserId), Path, description = "Id of the account")),
    responses(
        (status = 204, description = "The failed logins were cleared"),
        Refused<(BadToken, NoParameters, NeedsUsersWrite, NotFound)>,
    ),
)]
pub(super) async fn unthrottle(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::USERS_WRITE)?;

    let requester = bearer.requester(origin);
    api.users.ask(Unthrottle { user_id: *id, requester }).await?;

    log_change(&bearer, *id, AuditAction::UserUnthrottled);
    Ok(HttpResponse::NoContent().finish())
}

/// Edits an account, if the bearer is allowed to.
pub(super) async fn change(
    api: &Api,
    bearer: &Authenticated,
    origin: RequestOrigin,
    user_id: UserId,
    edit: UserEdit,
) -> Result<ManagedAccountView, ApiError> {
    bearer.require_permission(&Permission::USERS_WRITE)?;

    let action = edit.action();
    let requester = bearer.requester(origin);
    let user = api.users.ask(ChangeUser { user_id, edit, requester }).await?;

    log_change(bearer, user_id, action);
    Ok(ManagedAccountView::from(&user))
}

fn log_change(bearer: &Authenticated, subject: UserId, action: AuditAction) {
    let requester = &bearer.claims.subject;
    let action = action.into_str();
    tracing::info!(requester.id = %requester, subject.id = %subject, action, "account changed");
}

impl RawUser {
    fn parse(self, policy: &PasswordPolicy) -> Result<NewUser, ApiError> {
        let credentials = RawCredentials { username: self.username, password: self.password };
        let (username, password) = credentials.parse(policy)?;
        let roles = match self.roles {
            Some(names) => Roles::parse(names)?,
            None => Roles::from_iter([RoleName::USER]),
        };
        let external_id = self.external_id.as_deref().map(ExternalId::parse).transpose()?;
        let metadata = self.metadata.map(Metadata::try_from).transpose()?.unwrap_or_default();
        Ok(NewUser { username, password, roles, external_id, metadata })
    }
}

impl TryFrom<RawUserQuery> for UserQuery {
    type Error = ApiError;

    fn try_from(raw: RawUserQuery) -> Result<Self, ApiError> {
        Ok(Self {
            prefix: parse_username(raw.prefix)?,
            username: parse_username(raw.username)?,
            external_id: raw.external_id.as_deref().map(ExternalId::parse).transpose()?,
            role: raw.role.as_deref().map(parse_role).transpose()?,
            is_disabled: raw.disabled,
            after: raw.after.map(parse_position).transpose()?,
            limit: parse_limit(raw.limit)?,
        })
    }
}

/// Parses the username of a query; an empty one is like none.
fn parse_username(raw: Option<String>) -> Result<Option<Username>, ApiError> {
    match raw {
        Some(raw) if !raw.is_empty() => Ok(Some(Username::parse_existing(&raw)?)),
        _ => Ok(None),
    }
}

fn parse_role(name: &str) -> Result<RoleName, ApiError> {
    RoleName::parse(name).map_err(|error| ApiError::InvalidQuery(error.to_string()))
}

/// Parses a position in the list: any text that the database can compare with a username key.
fn parse_position(raw: String) -> Result<String, ApiError> {
    if raw.contains('\0') {
        return Err(invalid_after());
    }
    Ok(raw)
}

impl AccountListView {
    fn new(users: &[ListedUser], limit: u32) -> Self {
        Self {
            users: users.iter().map(ManagedAccountView::from).collect(),
            next: next_after(users, limit, |user| user.key.clone()),
        }
    }
}
