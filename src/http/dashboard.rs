//! `/protected/dashboard`: what a logged-in user came for.

use actix_web::Responder;
use actix_web::web::Json;
use serde::Serialize;

use super::{ApiError, Authenticated};
use crate::domain::Permission;

/// The dashboard.
#[derive(Serialize)]
struct Dashboard {
    message: String,
}

/// `GET /protected/dashboard`
pub(super) async fn dashboard(bearer: Authenticated) -> Result<impl Responder, ApiError> {
    bearer.require(Permission::DashboardRead)?;
    let message = format!("Welcome {}, this is your dashboard", bearer.0.username);
    Ok(Json(Dashboard { message }))
}
