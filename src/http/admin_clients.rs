//! `/admin/clients`: administration of the clients.

use actix_web::http::header::LOCATION;
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, Responder};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::authenticated::Authenticated;
use super::body::JsonBody;
use super::error::ApiError;
use super::json::{Json, reply_json};
use super::page::NoQuery;
use super::refused::{
    BadClient, BadJson, BadToken, ClientExists, MissingPermissions, NeedsClientsRead,
    NeedsClientsWrite, NoParameters, NotFound, Refused, TooManySecrets,
};
use super::state::Api;
use super::views::{ClientView, NewClientView};
use crate::actors::{ChangeClient, ListClients};
use crate::clients::generate_secret;
use crate::domain::{
    Audience, Client, ClientEdit, ClientId, ClientName, ClientRights, Permission, Permissions,
    RequestOrigin, SecretId,
};

/// New client.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(
    as = NewClient,
    example = json!({ "name": "orders", "permissions": ["tokens:introspect"] })
)]
pub(super) struct RawClient {
    #[schema(value_type = ClientName)]
    name: Option<String>,
    // Of the client and of its tokens; none by default.
    #[schema(value_type = Option<Permissions>, inline)]
    permissions: Option<Vec<String>>,
    /// Audience of its tokens; the default one if absent.
    #[schema(example = json!(["orders"]))]
    audience: Option<Vec<String>>,
    /// Audience of the tokens that it may introspect; all tokens if absent.
    #[schema(example = json!(["orders"]))]
    resource: Option<Vec<String>>,
    /// Expiry of the client; never if absent.
    #[schema(format = "date-time", example = "2027-05-01T09:30:00Z")]
    expires_at: Option<String>,
}

/// Rights of a client.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ClientRights, example = json!({ "permissions": ["tokens:introspect"] }))]
pub(super) struct RawClientRights {
    // Of the client and of its tokens.
    #[schema(value_type = Permissions, inline)]
    permissions: Option<Vec<String>>,
    /// Audience of its tokens; the default one if absent.
    #[schema(example = json!(["orders"]))]
    audience: Option<Vec<String>>,
    /// Audience of the tokens that it may introspect; all tokens if absent.
    #[schema(example = json!(["orders"]))]
    resource: Option<Vec<String>>,
    /// Expiry of the client; never if absent.
    #[schema(format = "date-time", example = "2027-05-01T09:30:00Z")]
    expires_at: Option<String>,
}

/// Clients, in the order of their names.
#[derive(Serialize, ToSchema)]
#[schema(as = Clients)]
struct ClientListView {
    clients: Vec<ClientView>,
    /// Names of rows in the database that do not parse.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    broken: Vec<String>,
}

/// List clients
#[utoipa::path(
    get, path = "/admin/clients", operation_id = "list_clients", tag = "administration",
    security(("access_token" = ["clients:read"])),
    responses(
        (status = 200, description = "The clients", body = ClientListView),
        Refused<(BadToken, NoParameters, NeedsClientsRead)>,
    ),
)]
pub(super) async fn list(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::CLIENTS_READ)?;
    bearer.require_open_session(&api).await?;

    let set = api.clients.ask(ListClients).await?;

    let view = |client| ClientView::new(client, api.tokens.issuer());
    Ok(Json(ClientListView { clients: set.clients.iter().map(view).collect(), broken: set.broken }))
}

/// Create a client
///
/// The reply contains the secret, which is not shown again.
#[utoipa::path(
    post, path = "/admin/clients", operation_id = "create_client", tag = "administration",
    security(("access_token" = ["clients:write"])),
    request_body = RawClient,
    responses(
        (
            status = 201, description = "The new client", body = NewClientView,
            headers(("Location" = String)),
            links(
                ("read" = (
                    operation_id = "read_client",
                    parameters(("id" = "$response.body#/client_id")),
                )),
            ),
        ),
        Refused<(BadToken, NoParameters, NeedsClientsWrite, BadJson, BadClient, ClientExists)>,
    ),
)]
pub(super) async fn create(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    body: JsonBody<RawClient>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::CLIENTS_WRITE)?;
    let RawClient { name, permissions, audience, resource, expires_at } = body.read().await?;
    let name = ClientName::parse(name.as_deref().unwrap_or_default())?;
    let permissions = permissions.or_else(|| Some(Vec::new()));
    let rights = RawClientRights { permissions, audience, resource, expires_at }.parse(&api)?;
    let (secret, new_secret) = generate_secret().map_err(|_| ApiError::no_random_bytes())?;

    let client_id = ClientId::random();
    let edit = ClientEdit::Create(name, rights, new_secret);
    let client = change(&api, &bearer, origin, client_id, edit).await?;

    let location = format!("/admin/clients/{client_id}");
    let view = NewClientView::new(&client, api.tokens.issuer(), secret);
    Ok(reply_json(HttpResponse::Created().insert_header((LOCATION, location)), &view))
}

/// Read a client
#[utoipa::path(
    get, path = "/admin/clients/{id}", operation_id = "read_client", tag = "administration",
    security(("access_token" = ["clients:read"])),
    params(("id" = inline(ClientId), Path, description = "Id of the client")),
    responses(
        (status = 200, description = "The client", body = ClientView),
        Refused<(BadToken, NoParameters, NeedsClientsRead, NotFound)>,
    ),
)]
pub(super) async fn read(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    id: Path<ClientId>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::CLIENTS_READ)?;
    bearer.require_open_session(&api).await?;

    let set = api.clients.ask(ListClients).await?;
    let client = set.clients.iter().find(|client| client.id == *id).ok_or(ApiError::NotFound)?;

    Ok(Json(ClientView::new(client, api.tokens.issuer())))
}

/// Set the rights of a client
///
/// If they are narrower in any way, its tokens end.
#[utoipa::path(
    put, path = "/admin/clients/{id}", operation_id = "change_client", tag = "administration",
    security(("access_token" = ["clients:write"])),
    params(("id" = inline(ClientId), Path, description = "Id of the client")),
    request_body = RawClientRights,
    responses(
        (status = 200, description = "The changed client", body = ClientView),
        Refused<(
            BadToken, NoParameters, NeedsClientsWrite, BadJson, MissingPermissions, BadClient, NotFound,
        )>,
    ),
)]
pub(super) async fn set_rights(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<ClientId>,
    body: JsonBody<RawClientRights>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::CLIENTS_WRITE)?;
    let rights = body.read().await?.parse(&api)?;

    let client = change(&api, &bearer, origin, *id, ClientEdit::SetRights(rights)).await?;
    Ok(Json(ClientView::new(&client, api.tokens.issuer())))
}

/// Delete a client
///
/// Its secrets are refused, and its tokens end.
#[utoipa::path(
    delete, path = "/admin/clients/{id}", operation_id = "delete_client", tag = "administration",
    security(("access_token" = ["clients:write"])),
    params(("id" = inline(ClientId), Path, description = "Id of the client")),
    responses(
        (status = 204, description = "The client was deleted"),
        Refused<(BadToken, NoParameters, NeedsClientsWrite, NotFound)>,
    ),
)]
pub(super) async fn delete(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<ClientId>,
) -> Result<impl Responder, ApiError> {
    change(&api, &bearer, origin, *id, ClientEdit::Delete).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Disable a client
///
/// Its secrets are refused, and its tokens end.
#[utoipa::path(
    post, path = "/admin/clients/{id}/disable", operation_id = "disable_client",
    tag = "administration", security(("access_token" = ["clients:write"])),
    params(("id" = inline(ClientId), Path, description = "Id of the client")),
    responses(
        (status = 200, description = "The changed client", body = ClientView),
        Refused<(BadToken, NoParameters, NeedsClientsWrite, NotFound)>,
    ),
)]
pub(super) async fn disable(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<ClientId>,
) -> Result<impl Responder, ApiError> {
    let client = change(&api, &bearer, origin, *id, ClientEdit::Disable).await?;
    Ok(Json(ClientView::new(&client, api.tokens.issuer())))
}

/// Enable a client
#[utoipa::path(
    post, path = "/admin/clients/{id}/enable", operation_id = "enable_client",
    tag = "administration", security(("access_token" = ["clients:write"])),
    params(("id" = inline(ClientId), Path, description = "Id of the client")),
    responses(
        (status = 200, description = "The changed client", body = ClientView),
        Refused<(BadToken, NoParameters, NeedsClientsWrite, NotFound)>,
    ),
)]
pub(super) async fn enable(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<ClientId>,
) -> Result<impl Responder, ApiError> {
    let client = change(&api, &bearer, origin, *id, ClientEdit::Enable).await?;
    Ok(Json(ClientView::new(&client, api.tokens.issuer())))
}

/// Add a secret to a client
///
/// A client has at most two, so that it can be given a new one before the old one is removed. The
/// reply contains the secret, which is not shown again.
#[utoipa::path(
    post, path = "/admin/clients/{id}/secrets", operation_id = "add_client_secret",
    tag = "administration", security(("access_token" = ["clients:write"])),
    params(("id" = inline(ClientId), Path, description = "Id of the client")),
    responses(
        (status = 201, description = "The changed client", body = NewClientView),
        Refused<(BadToken, NoParameters, NeedsClientsWrite, NotFound, TooManySecrets)>,
    ),
)]
pub(super) async fn add_secret(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<ClientId>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::CLIENTS_WRITE)?;
    let (secret, new_secret) = generate_secret().map_err(|_| ApiError::no_random_bytes())?;

    let client = change(&api, &bearer, origin, *id, ClientEdit::AddSecret(new_secret)).await?;
    Ok(reply_json(
        &mut HttpResponse::Created(),
        &NewClientView::new(&client, api.tokens.issuer(), secret),
    ))
}

/// Remove a secret of a client
///
/// The tokens that were issued for it end.
#[utoipa::path(
    delete, path = "/admin/clients/{id}/secrets/{secret}", operation_id = "remove_client_secret",
    tag = "administration", security(("access_token" = ["clients:write"])),
    params(
        ("id" = inline(ClientId), Path, description = "Id of the client"),
        ("secret" = inline(SecretId), Path, description = "Id of the secret"),
    ),
    responses(
        (status = 200, description = "The changed client", body = ClientView),
        Refused<(BadToken, NoParameters, NeedsClientsWrite, NotFound)>,
    ),
)]
pub(super) async fn remove_secret(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    ids: Path<(ClientId, SecretId)>,
) -> Result<impl Responder, ApiError> {
    let (client_id, secret_id) = *ids;
    let edit = ClientEdit::RemoveSecret(secret_id);
    let client = change(&api, &bearer, origin, client_id, edit).await?;
    Ok(Json(ClientView::new(&client, api.tokens.issuer())))
}

/// Changes a client, if the bearer is allowed to.
async fn change(
    api: &Api,
    bearer: &Authenticated,
    origin: RequestOrigin,
    client_id: ClientId,
    edit: ClientEdit,
) -> Result<Client, ApiError> {
    bearer.require_permission(&Permission::CLIENTS_WRITE)?;

    let action = edit.action().into_str();
    let requester = bearer.requester(origin);
    let client = api.clients.ask(ChangeClient { client_id, edit, requester }).await?;

    tracing::info!(
        requester.id = %bearer.claims.subject,
        client.id = %client_id,
        action,
        "client changed"
    );
    Ok(client)
}

impl RawClientRights {
    fn parse(self, api: &Api) -> Result<ClientRights, ApiError> {
        let parse_audience = |names: Option<Vec<String>>| -> Result<Option<Audience>, ApiError> {
            names.map(|names| Ok(api.tokens.parse_audience(&names)?)).transpose()
        };
        Ok(ClientRights {
            permissions: Permissions::parse(self.permissions.ok_or(ApiError::MissingPermissions)?)?,
            audience: parse_audience(self.audience)?,
            resource: parse_audience(self.resource)?,
            expires_at: self.expires_at.as_deref().map(parse_time).transpose()?,
        })
    }
}

fn parse_time(text: &str) -> Result<OffsetDateTime, ApiError> {
    let invalid = || ApiError::InvalidBody("expires_at must be a time (RFC 3339)".to_owned());
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| invalid())?;
    // Whole seconds, as in tokens; and a time that both databases can store.
    let is_storable = (0..=9_999).contains(&time.to_offset(time::UtcOffset::UTC).year());
    if is_storable {
        Ok(time.replace_nanosecond(0).map_err(|_| invalid())?)
    } else {
        Err(invalid())
    }
}
