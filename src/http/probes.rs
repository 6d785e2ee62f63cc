//! Is it there, is it alive, is it ready: for people, for orchestrators, for load balancers.

use actix_web::Responder;
use actix_web::web::{Data, Json};

use super::openapi::{Internal, NotReady, Refused};
use super::{Api, ApiError, Message};
use crate::actors::{Ping, Unanswered};

const WORKING: Message = Message { msg: "API is working" };
const ALIVE: Message = Message { msg: "Alive" };
const READY: Message = Message { msg: "Ready" };

/// Says that the service is there.
#[utoipa::path(
    get, path = "/", tag = "operations",
    responses((status = 200, description = "It is", body = Message, example = json!(WORKING))),
)]
pub(super) async fn root() -> impl Responder {
    Json(WORKING)
}

/// Tells whether the service is alive.
///
/// When it is not, a restart would help.
#[utoipa::path(
    get, path = "/health/live", tag = "operations",
    responses(
        (status = 200, description = "It is", body = Message, example = json!(ALIVE)),
        Refused<(Internal,)>,
    ),
)]
pub(super) async fn live(api: Data<Api>) -> Result<impl Responder, ApiError> {
    if !(api.users.is_open() && api.sessions.is_open()) {
        return Err(ApiError::Internal(Unanswered::Stopped.into()));
    }
    Ok(Json(ALIVE))
}

/// Tells whether requests will be answered, or what is missing when they will not.
#[utoipa::path(
    get, path = "/health/ready", tag = "operations",
    responses(
        (status = 200, description = "They will", body = Message, example = json!(READY)),
        Refused<(NotReady,)>,
    ),
)]
pub(super) async fn ready(api: Data<Api>) -> Result<impl Responder, ApiError> {
    if api.lifecycle.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    api.users.ask(Ping).await.map_err(|error| ApiError::DatabaseUnreachable(error.into()))?;
    if !api.replica.is_fresh() {
        let age = api.replica.staleness().unwrap_or_default();
        return Err(ApiError::RevocationsStale(format!("last heard of them {age:?} ago").into()));
    }
    Ok(Json(READY))
}
