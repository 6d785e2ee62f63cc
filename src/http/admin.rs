//! `/admin/users`: what administrators do with the accounts of others.

use actix_web::http::header::LOCATION;
use actix_web::web::{Data, Json, Path, Query};
use actix_web::{HttpResponse, Responder};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::account::{Account, require};
use super::auth::RawCredentials;
use super::body::Body;
use super::openapi::{
    BadJson, BadPassword, BadQuery, BadRoles, BadToken, BadUsername, LastAdmin, MissingCredentials,
    MissingPassword, MissingRoles, NeedsUsersRead, NeedsUsersWrite, NotFound, Overloaded, Refused,
    UserExists,
};
use super::page::limit;
use super::sessions::SessionList;
use super::{Api, ApiError, Authenticated};
use crate::actors::{
    ChangeUser, EndSession, FindUser, HashPassword, ListSessions, ListUsers, Register, SessionError,
};
use crate::clock::timestamp;
use crate::domain::{
    Client, Initiator, Label, Password, Permission, Role, Roles, SessionId, User, UserEdit, UserId,
    Username,
};
use crate::store::UserPage;

/// The query of a list of accounts, as it came.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RawUserPage {
    /// What the usernames begin with, in whatever case.
    #[param(max_length = 150, example = "test")]
    prefix: Option<String>,
    /// The username after which they come.
    #[param(max_length = 150, example = "alice")]
    after: Option<String>,
    /// How many they are at most.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

/// The body of a new account, as it came.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewAccount)]
pub(super) struct RawUser {
    #[schema(value_type = Username)]
    username: Option<String>,
    #[schema(value_type = Password)]
    password: Option<String>,
    /// `user` where nothing is said.
    #[schema(value_type = Option<Roles>, inline)]
    roles: Option<Vec<String>>,
}

/// The body of a change of roles, as it came.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewRoles)]
pub(super) struct RawRoles {
    #[schema(value_type = Roles, inline)]
    roles: Option<Vec<String>>,
}

/// The body of a change of password, as it came.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewPassword)]
pub(super) struct RawPassword {
    #[schema(value_type = Password)]
    password: Option<String>,
}

/// An account as administrators see it.
#[derive(Serialize, ToSchema)]
struct ManagedAccount {
    #[serde(flatten)]
    account: Account,
    /// Since when nobody can log in to it, if that is so.
    #[schema(required, format = "date-time", example = "2026-05-01T10:30:00Z")]
    disabled_at: Option<String>,
}

/// A page of accounts. The next one begins after the last of them.
#[derive(Serialize, ToSchema)]
#[schema(as = Accounts)]
struct UserList {
    users: Vec<ManagedAccount>,
    /// What `after` has to be for the next page, if there may be one.
    #[schema(required, example = "testuser")]
    next: Option<String>,
}

/// Lists accounts in the order of their usernames, a page at a time.
#[utoipa::path(
    get, path = "/admin/users", operation_id = "list_users", tag = "administration",
    security(("bearer" = ["users:read"])),
    params(RawUserPage),
    responses(
        (status = 200, description = "A page of them", body = UserList),
        Refused<(BadToken, NeedsUsersRead, BadQuery, BadUsername)>,
    ),
)]
pub(super) async fn list(
    api: Data<Api>,
    bearer: Authenticated,
    Query(query): Query<RawUserPage>,
) -> Result<impl Responder, ApiError> {
    bearer.require(Permission::UsersRead)?;
    let page = UserPage::try_from(query)?;

    let limit = page.limit;
    let users = api.users.ask(ListUsers { page }).await?;

    Ok(Json(UserList::of(users, limit)))
}

/// Adds an account.
#[utoipa::path(
    post, path = "/admin/users", operation_id = "create_user", tag = "administration",
    security(("bearer" = ["users:write"])),
    request_body = RawUser,
    responses(
        (
            status = 201, description = "The account is there", body = ManagedAccount,
            headers(("Location" = String)),
            links(
                ("read" = (operation_id = "read_user", parameters(("id" = "$response.body#/id")))),
                ("delete" = (operation_id = "delete_user", parameters(("id" = "$response.body#/id")))),
            ),
        ),
        Refused<(
            BadToken, NeedsUsersWrite, BadJson, MissingCredentials, BadUsername, BadPassword, BadRoles,
            UserExists, Overloaded,
        )>,
    ),
)]
pub(super) async fn create(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    Body(body): Body<RawUser>,
) -> Result<impl Responder, ApiError> {
    bearer.require(Permission::UsersWrite)?;
    let register = body.parse(bearer.from(client))?;

    let user = api.users.ask(register).await?;

    tracing::info!(user.id = %bearer.0.user_id, subject.id = %user.id, "account created");
    let location = format!("/admin/users/{}", user.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(ManagedAccount::of(user)))
}

/// Shows an account.
#[utoipa::path(
    get, path = "/admin/users/{id}", operation_id = "read_user", tag = "administration",
    security(("bearer" = ["users:read"])),
    params(("id" = inline(UserId), Path)),
    responses(
        (status = 200, description = "The account", body = ManagedAccount),
        Refused<(BadToken, NeedsUsersRead, NotFound)>,
    ),
)]
pub(super) async fn read(
    api: Data<Api>,
    bearer: Authenticated,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    bearer.require(Permission::UsersRead)?;

    let user = api.users.ask(FindUser { id: *id }).await?;

    Ok(Json(ManagedAccount::of(user)))
}

/// Deletes an account with its sessions, and frees its name.
#[utoipa::path(
    delete, path = "/admin/users/{id}", operation_id = "delete_user", tag = "administration",
    security(("bearer" = ["users:write"])),
    params(("id" = inline(UserId), Path)),
    responses(
        (status = 204, description = "Committed"),
        Refused<(BadToken, NeedsUsersWrite, NotFound, LastAdmin)>,
    ),
)]
pub(super) async fn delete(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    change(&api, &bearer, client, *id, UserEdit::Delete).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Lets nobody log in to an account any more, and ends its sessions.
#[utoipa::path(
    post, path = "/admin/users/{id}/disable", operation_id = "disable_user", tag = "administration",
    security(("bearer" = ["users:write"])),
    params(("id" = inline(UserId), Path)),
    responses((status = 200, description = "The account as it is now", body = ManagedAccount), Refused<(BadToken, NeedsUsersWrite, NotFound, LastAdmin)>),
)]
pub(super) async fn disable(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    change(&api, &bearer, client, *id, UserEdit::Disable).await.map(Json)
}

/// Lets the owner of an account log in again.
#[utoipa::path(
    post, path = "/admin/users/{id}/enable", operation_id = "enable_user", tag = "administration",
    security(("bearer" = ["users:write"])),
    params(("id" = inline(UserId), Path)),
    responses((status = 200, description = "The account as it is now", body = ManagedAccount), Refused<(BadToken, NeedsUsersWrite, NotFound)>),
)]
pub(super) async fn enable(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    change(&api, &bearer, client, *id, UserEdit::Enable).await.map(Json)
}

/// Sets the roles of an account, and ends its sessions.
#[utoipa::path(
    put, path = "/admin/users/{id}/roles", operation_id = "set_roles", tag = "administration",
    security(("bearer" = ["users:write"])),
    params(("id" = inline(UserId), Path)), request_body = RawRoles,
    responses(
        (status = 200, description = "The account as it is now", body = ManagedAccount),
        Refused<(BadToken, NeedsUsersWrite, NotFound, BadJson, MissingRoles, BadRoles, LastAdmin)>,
    ),
)]
pub(super) async fn set_roles(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    id: Path<UserId>,
    Body(body): Body<RawRoles>,
) -> Result<impl Responder, ApiError> {
    bearer.require(Permission::UsersWrite)?;
    let roles = parse_roles(&body.roles.ok_or(ApiError::MissingRoles)?)?;

    change(&api, &bearer, client, *id, UserEdit::Roles(roles)).await.map(Json)
}

/// Sets the password of an account, and ends its sessions.
#[utoipa::path(
    put, path = "/admin/users/{id}/password", operation_id = "set_password", tag = "administration",
    security(("bearer" = ["users:write"])),
    params(("id" = inline(UserId), Path)), request_body = RawPassword,
    responses(
        (status = 200, description = "The account as it is now", body = ManagedAccount),
        Refused<(
            BadToken, NeedsUsersWrite, NotFound, BadJson, MissingPassword, BadPassword, Overloaded,
        )>,
    ),
)]
pub(super) async fn set_password(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    id: Path<UserId>,
    Body(body): Body<RawPassword>,
) -> Result<impl Responder, ApiError> {
    bearer.require(Permission::UsersWrite)?;
    let password = Password::parse(&require(body.password)?)?;

    let hash = api.users.ask(HashPassword { password }).await?;
    change(&api, &bearer, client, *id, UserEdit::Password(hash)).await.map(Json)
}

/// Lists the sessions of a user.
#[utoipa::path(
    get, path = "/admin/users/{id}/sessions", operation_id = "list_sessions_of_user", tag = "administration",
    security(("bearer" = ["users:read"])),
    params(("id" = inline(UserId), Path)),
    responses(
        (status = 200, description = "Those that are open", body = SessionList),
        Refused<(BadToken, NeedsUsersRead, NotFound)>,
    ),
)]
pub(super) async fn list_sessions(
    api: Data<Api>,
    bearer: Authenticated,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    bearer.require(Permission::UsersRead)?;

    let User { id: user_id, .. } = api.users.ask(FindUser { id: *id }).await?;
    let sessions = api.sessions.ask(ListSessions { user_id }).await?;

    Ok(Json(SessionList::of(sessions, bearer.0.session_id)))
}

/// Ends every session of a user.
#[utoipa::path(
    delete, path = "/admin/users/{id}/sessions", operation_id = "end_sessions_of_user", tag = "administration",
    security(("bearer" = ["users:write"])),
    params(("id" = inline(UserId), Path)),
    responses(
        (status = 204, description = "Committed"),
        Refused<(BadToken, NeedsUsersWrite, NotFound)>,
    ),
)]
pub(super) async fn end_sessions(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    change(&api, &bearer, client, *id, UserEdit::EndSessions).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Ends one session of a user.
#[utoipa::path(
    delete, path = "/admin/users/{id}/sessions/{session}", operation_id = "end_session_of_user", tag = "administration",
    security(("bearer" = ["users:write"])),
    params(("id" = inline(UserId), Path), ("session" = inline(SessionId), Path)),
    responses(
        (status = 204, description = "Committed"),
        Refused<(BadToken, NeedsUsersWrite, NotFound)>,
    ),
)]
pub(super) async fn end_session(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    path: Path<(UserId, SessionId)>,
) -> Result<impl Responder, ApiError> {
    bearer.require(Permission::UsersWrite)?;
    let (owner, session) = path.into_inner();

    let by = bearer.from(client);
    api.sessions.ask(EndSession { session, owner: Some(owner), by }).await?;

    tracing::info!(user.id = %bearer.0.user_id, session.id = %session, "session ended");
    Ok(HttpResponse::NoContent().finish())
}

/// Changes an account, whatever it has become since the administrator saw it.
async fn change(
    api: &Api,
    bearer: &Authenticated,
    client: Client,
    user_id: UserId,
    edit: UserEdit,
) -> Result<ManagedAccount, ApiError> {
    bearer.require(Permission::UsersWrite)?;

    let (action, by) = (edit.action(), bearer.from(client));
    let change = ChangeUser { user_id, version: None, edit, but: None, by };
    let user = api.sessions.ask(change).await.map_err(|error| match error {
        SessionError::UserChanged => ApiError::NotFound,
        error => error.into(),
    })?;

    let action = action.as_str();
    tracing::info!(user.id = %bearer.0.user_id, subject.id = %user_id, action, "account changed");
    Ok(ManagedAccount::of(user))
}

impl RawUser {
    fn parse(self, by: Initiator) -> Result<Register, ApiError> {
        let Self { username, password, roles } = self;
        let (username, password) = RawCredentials { username, password }.require()?;
        let roles = match roles {
            Some(names) => parse_roles(&names)?,
            None => Roles::from_iter([Role::User]),
        };
        let (username, password) = (Username::parse(&username)?, Password::parse(&password)?);
        Ok(Register { username, password, roles, by })
    }
}

fn parse_roles(names: &[String]) -> Result<Roles, ApiError> {
    Ok(Roles::parse(names.iter().map(String::as_str))?)
}

impl TryFrom<RawUserPage> for UserPage {
    type Error = ApiError;

    fn try_from(raw: RawUserPage) -> Result<Self, ApiError> {
        let name = |raw: Option<String>| {
            raw.filter(|raw| !raw.is_empty()).map(|raw| Username::parse(&raw)).transpose()
        };
        Ok(Self { prefix: name(raw.prefix)?, after: name(raw.after)?, limit: limit(raw.limit)? })
    }
}

impl UserList {
    fn of(users: Vec<User>, limit: u32) -> Self {
        let is_full = users.len() >= limit as usize;
        let last = users.last().filter(|_| is_full);
        let next = last.map(|user| user.username.as_str().to_owned());
        Self { users: users.into_iter().map(ManagedAccount::of).collect(), next }
    }
}

impl ManagedAccount {
    fn of(user: User) -> Self {
        Self { disabled_at: user.disabled_at.map(timestamp), account: Account::of(user) }
    }
}
