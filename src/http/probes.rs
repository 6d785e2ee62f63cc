//! `/`, `/health/live` and `/health/ready`: probes for orchestrators and load balancers.

use actix_web::Responder;
use actix_web::web::Data;

use super::error::ApiError;
use super::json::Json;
use super::refused::{Internal, NotReady, Refused};
use super::state::Api;
use super::views::Message;
use crate::actors::AskError;

const WORKING: Message = Message { msg: "API is working" };
const ALIVE: Message = Message { msg: "Alive" };
const READY: Message = Message { msg: "Ready" };

/// Check that the API responds
#[utoipa::path(
    get, path = "/", tag = "operations",
    responses(
        (status = 200, description = "The API responds", body = Message, example = json!(WORKING)),
    ),
)]
pub(super) async fn root() -> impl Responder {
    Json(WORKING)
}

/// Check that the instance is alive
///
/// Fails if only a restart can repair the instance.
#[utoipa::path(
    get, path = "/health/live", tag = "operations",
    responses(
        (
            status = 200, description = "The instance is alive", body = Message,
            example = json!(ALIVE),
        ),
        Refused<(Internal,)>,
    ),
)]
pub(super) async fn live(api: Data<Api>) -> Result<impl Responder, ApiError> {
    let are_running = api.users.is_running()
        && api.sessions.is_running()
        && api.roles.is_running()
        && api.keys.is_running();
    if !are_running {
        return Err(ApiError::Internal(AskError::Stopped.into()));
    }
    Ok(Json(ALIVE))
}

/// Check that the instance is ready
///
/// Names the reason if the instance cannot serve requests.
#[utoipa::path(
    get, path = "/health/ready", tag = "operations",
    responses(
        (
            status = 200, description = "The instance is ready for requests", body = Message,
            example = json!(READY),
        ),
        Refused<(NotReady,)>,
    ),
)]
pub(super) async fn ready(api: Data<Api>) -> Result<impl Responder, ApiError> {
    if api.connections.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    let database = api.readiness.check().await;
    database.map_err(|error| ApiError::DatabaseUnreachable(error.into()))?;
    api.require_fresh()?;
    Ok(Json(READY))
}
