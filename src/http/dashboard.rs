//! `/protected/dashboard`: what a logged-in user came for.

use actix_web::Responder;
use actix_web::web::Json;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::{BadToken, NeedsDashboardRead, Refused};
use super::{ApiError, Authenticated};
use crate::domain::Permission;

/// The dashboard.
#[derive(Serialize, ToSchema)]
struct Dashboard {
    #[schema(example = "Welcome testuser, this is your dashboard")]
    message: String,
}

/// Welcomes a logged-in user.
#[utoipa::path(
    get, path = "/protected/dashboard", tag = "protected",
    security(("bearer" = ["dashboard:read"])),
    responses(
        (status = 200, description = "The dashboard", body = Dashboard),
        Refused<(BadToken, NeedsDashboardRead)>,
    ),
)]
pub(super) async fn dashboard(bearer: Authenticated) -> Result<impl Responder, ApiError> {
    bearer.require(Permission::DashboardRead)?;
    let message = format!("Welcome {}, this is your dashboard", bearer.0.username);
    Ok(Json(Dashboard { message }))
}
