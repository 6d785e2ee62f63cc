//! `/admin/users/{id}/external-id` and `/admin/users/{id}/metadata`: details of an account for the
//! APIs behind the service.

use actix_web::Responder;
use actix_web::web::{Data, Path, Query};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::admin::change;
use super::authenticated::Authenticated;
use super::body::JsonBody;
use super::error::ApiError;
use super::json::Json;
use super::page::NoQuery;
use super::refused::{
    BadExternalId, BadJson, BadMetadata, BadToken, ExternalIdTaken, LacksPermissions,
    NeedsUsersWrite, NoParameters, NotFound, Refused,
};
use super::state::Api;
use super::views::ManagedAccountView;
use crate::domain::{ExternalId, Metadata, Permission, RequestOrigin, UserEdit, UserId};

/// New external id; `null` removes it.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewExternalId)]
pub(super) struct RawExternalId {
    // Required: a misspelt field would remove the id.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(value_type = Option<ExternalId>, inline, required)]
    external_id: Option<String>,
}

/// New metadata.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewMetadata)]
pub(super) struct RawMetadata {
    #[schema(value_type = Metadata, inline)]
    metadata: Value,
}

/// Set the external id of an account
///
/// The id of the account in another system, unique among all accounts. No session ends.
#[utoipa::path(
    put, path = "/admin/users/{id}/external-id", operation_id = "set_external_id",
    tag = "administration", security(("access_token" = ["users:write"])),
    params(("id" = inline(UserId), Path, description = "Id of the account")),
    request_body = RawExternalId,
    responses(
        (status = 200, description = "The changed account", body = ManagedAccountView),
        Refused<(
            BadToken, NoParameters, NeedsUsersWrite, LacksPermissions, NotFound, BadJson,
            BadExternalId, ExternalIdTaken,
        )>,
    ),
)]
pub(super) async fn set_external_id(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<UserId>,
    body: JsonBody<RawExternalId>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::USERS_WRITE)?;
    let raw = body.read().await?.external_id;
    let external_id = raw.as_deref().map(ExternalId::parse).transpose()?;

    change(&api, &bearer, origin, *id, UserEdit::ExternalId(external_id)).await.map(Json)
}

/// Set the metadata of an account
///
/// Replaces the whole object. No session ends. The owner of the account can read it.
#[utoipa::path(
    put, path = "/admin/users/{id}/metadata", operation_id = "set_metadata",
    tag = "administration", security(("access_token" = ["users:write"])),
    params(("id" = inline(UserId), Path, description = "Id of the account")),
    request_body = RawMetadata,
    responses(
        (status = 200, description = "The changed account", body = ManagedAccountView),
        Refused<(
            BadToken, NoParameters, NeedsUsersWrite, LacksPermissions, NotFound, BadJson,
            BadMetadata,
        )>,
    ),
)]
pub(super) async fn set_metadata(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    id: Path<UserId>,
    body: JsonBody<RawMetadata>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::USERS_WRITE)?;
    let metadata = Metadata::try_from(body.read().await?.metadata)?;

    change(&api, &bearer, origin, *id, UserEdit::Metadata(metadata)).await.map(Json)
}
