//! `/admin/users`: what administrators do with the accounts of others.

use actix_web::http::header::LOCATION;
use actix_web::web::{Data, Json, Path, Query};
use actix_web::{HttpResponse, Responder};
use serde::{Deserialize, Serialize};

use super::account::{Account, require};
use super::auth::RawCredentials;
use super::body::Body;
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
#[derive(Deserialize)]
pub(super) struct RawUserPage {
    prefix: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

/// The body of a new account, as it came.
#[derive(Deserialize)]
pub(super) struct RawUser {
    username: Option<String>,
    password: Option<String>,
    roles: Option<Vec<String>>,
}

/// The body of a change of roles, as it came.
#[derive(Deserialize)]
pub(super) struct RawRoles {
    roles: Option<Vec<String>>,
}

/// The body of a change of password, as it came.
#[derive(Deserialize)]
pub(super) struct RawPassword {
    password: Option<String>,
}

/// An account as administrators see it.
#[derive(Serialize)]
struct ManagedAccount {
    #[serde(flatten)]
    account: Account,
    disabled_at: Option<String>,
}

/// A page of accounts. The next one begins after the last of them.
#[derive(Serialize)]
struct UserList {
    users: Vec<ManagedAccount>,
    next: Option<String>,
}

/// `GET /admin/users`
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

/// `POST /admin/users`
pub(super) async fn create(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    Body(body): Body<RawUser>,
) -> Result<impl Responder, ApiError> {
    bearer.require(Permission::UsersWrite)?;
    let register = body.parse(bearer.from(client))?;

    let user = api.users.ask(register).await?;

    let location = format!("/admin/users/{}", user.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(ManagedAccount::of(user)))
}

/// `GET /admin/users/{id}`
pub(super) async fn read(
    api: Data<Api>,
    bearer: Authenticated,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    bearer.require(Permission::UsersRead)?;

    let user = api.users.ask(FindUser { id: *id }).await?;

    Ok(Json(ManagedAccount::of(user)))
}

/// `DELETE /admin/users/{id}`
pub(super) async fn delete(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    change(&api, &bearer, client, *id, UserEdit::Delete).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /admin/users/{id}/disable`
pub(super) async fn disable(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    change(&api, &bearer, client, *id, UserEdit::Disable).await.map(Json)
}

/// `POST /admin/users/{id}/enable`
pub(super) async fn enable(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    change(&api, &bearer, client, *id, UserEdit::Enable).await.map(Json)
}

/// `PUT /admin/users/{id}/roles`
pub(super) async fn set_roles(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    id: Path<UserId>,
    Body(body): Body<RawRoles>,
) -> Result<impl Responder, ApiError> {
    let roles = parse_roles(&body.roles.ok_or(ApiError::MissingRoles)?)?;

    change(&api, &bearer, client, *id, UserEdit::Roles(roles)).await.map(Json)
}

/// `PUT /admin/users/{id}/password`
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

/// `GET /admin/users/{id}/sessions`
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

/// `DELETE /admin/users/{id}/sessions`
pub(super) async fn end_sessions(
    api: Data<Api>,
    bearer: Authenticated,
    client: Client,
    id: Path<UserId>,
) -> Result<impl Responder, ApiError> {
    change(&api, &bearer, client, *id, UserEdit::EndSessions).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `DELETE /admin/users/{id}/sessions/{session}`
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
