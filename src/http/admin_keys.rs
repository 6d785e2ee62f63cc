//! `/admin/keys`: administration of the signing keys.

use actix_web::Responder;
use actix_web::web::{Data, Path, Query};
use serde::Serialize;
use utoipa::ToSchema;

use super::authenticated::Authenticated;
use super::error::ApiError;
use super::json::Json;
use super::page::NoQuery;
use super::refused::{
    BadToken, KeyTooNew, KeysNotUsed, NeedsKeysRead, NeedsKeysWrite, NoParameters, NotFound,
    Refused,
};
use super::state::Api;
use super::views::KeyView;
use crate::actors::{ListKeys, RevokeKeys, RotateKeys};
use crate::domain::{KeyId, KeySet, Permission, RequestOrigin};

/// Signing keys, in the order of their publication.
#[derive(Serialize, ToSchema)]
#[schema(as = SigningKeys)]
struct KeyListView {
    keys: Vec<KeyView>,
    /// Ids of rows in the database that do not parse.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    broken: Vec<String>,
}

/// List the signing keys
#[utoipa::path(
    get, path = "/admin/keys", operation_id = "list_keys", tag = "administration",
    security(("access_token" = ["keys:read"])),
    responses(
        (status = 200, description = "The keys", body = KeyListView),
        Refused<(BadToken, NoParameters, NeedsKeysRead)>,
    ),
)]
pub(super) async fn list(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::KEYS_READ)?;
    bearer.require_open_session(&api).await?;

    let keys = api.keys.ask(ListKeys).await?;

    Ok(Json(KeyListView::from(&keys)))
}

/// Rotate the signing keys
///
/// The pending key signs from now on, and a new one is published. No token ends.
#[utoipa::path(
    post, path = "/admin/keys", operation_id = "rotate_keys", tag = "administration",
    security(("access_token" = ["keys:write"])),
    responses(
        (status = 200, description = "The keys", body = KeyListView),
        Refused<(BadToken, NoParameters, NeedsKeysWrite, KeyTooNew, KeysNotUsed)>,
    ),
)]
pub(super) async fn rotate(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::KEYS_WRITE)?;

    let requester = bearer.requester(origin);
    let keys = api.keys.ask(RotateKeys { requester }).await?;

    tracing::info!(requester.id = %bearer.claims.subject, "signing keys rotated");
    Ok(Json(KeyListView::from(&keys)))
}

/// Revoke all signing keys
///
/// Every access token ends at once. Refresh tokens remain valid.
#[utoipa::path(
    delete, path = "/admin/keys", operation_id = "revoke_keys", tag = "administration",
    security(("access_token" = ["keys:write"])),
    responses(
        (status = 200, description = "The new keys", body = KeyListView),
        Refused<(BadToken, NoParameters, NeedsKeysWrite, KeysNotUsed)>,
    ),
)]
pub(super) async fn revoke_all(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::KEYS_WRITE)?;
    revoke_keys(&api, &bearer, origin, None).await
}

/// Revoke a signing key
///
/// Every access token that it signed ends at once. Refresh tokens remain valid.
#[utoipa::path(
    delete, path = "/admin/keys/{kid}", operation_id = "revoke_key", tag = "administration",
    security(("access_token" = ["keys:write"])),
    params(("kid" = inline(KeyId), Path, description = "Id of the key")),
    responses(
        (status = 200, description = "The remaining keys", body = KeyListView),
        Refused<(BadToken, NoParameters, NeedsKeysWrite, KeysNotUsed, NotFound)>,
    ),
)]
pub(super) async fn revoke(
    api: Data<Api>,
    bearer: Authenticated,
    _: Query<NoQuery>,
    origin: RequestOrigin,
    kid: Path<String>,
) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::KEYS_WRITE)?;
    let kid = kid.parse().map_err(|_| ApiError::NotFound)?;
    revoke_keys(&api, &bearer, origin, Some(kid)).await
}

async fn revoke_keys(
    api: &Api,
    bearer: &Authenticated,
    origin: RequestOrigin,
    id: Option<KeyId>,
) -> Result<Json<KeyListView>, ApiError> {
    let requester = bearer.requester(origin);
    let keys = api.keys.ask(RevokeKeys { id, requester }).await?;

    let id = id.map_or_else(|| "all".to_owned(), |id| id.to_string());
    tracing::warn!(requester.id = %bearer.claims.subject, key.id = id, "signing keys revoked");
    Ok(Json(KeyListView::from(&keys)))
}

impl From<&KeySet> for KeyListView {
    fn from(set: &KeySet) -> Self {
        Self { keys: set.keys.iter().map(KeyView::from).collect(), broken: set.broken.clone() }
    }
}
