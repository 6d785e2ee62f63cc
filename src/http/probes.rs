//! Is it there, is it alive, is it ready: for people, for orchestrators, for load balancers.

use actix_web::Responder;
use actix_web::web::{Data, Json};

use super::{Api, ApiError, Message};
use crate::actors::{Ping, Unanswered};

/// `GET /`
pub(super) async fn root() -> impl Responder {
    Json(Message { msg: "API is working" })
}

/// `GET /health/live`: whether a restart would help. It would once an actor has died.
pub(super) async fn live(api: Data<Api>) -> Result<impl Responder, ApiError> {
    if !(api.users.is_open() && api.sessions.is_open()) {
        return Err(ApiError::Internal(Unanswered::Stopped.into()));
    }
    Ok(Json(Message { msg: "Alive" }))
}

/// `GET /health/ready`: whether requests will be answered. Says what is missing when they will not.
pub(super) async fn ready(api: Data<Api>) -> Result<impl Responder, ApiError> {
    if api.lifecycle.is_draining() {
        return Err(ApiError::ShuttingDown);
    }
    api.users.ask(Ping).await.map_err(|error| ApiError::DatabaseUnreachable(error.into()))?;
    if !api.replica.is_fresh() {
        let age = api.replica.staleness().unwrap_or_default();
        return Err(ApiError::RevocationsStale(format!("last heard of them {age:?} ago").into()));
    }
    Ok(Json(Message { msg: "Ready" }))
}
