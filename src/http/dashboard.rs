//! `/protected/dashboard`: an example of a protected resource.

use actix_web::Responder;
use serde::Serialize;
use utoipa::ToSchema;

use super::authenticated::Authenticated;
use super::error::ApiError;
use super::json::Json;
use super::refused::{BadToken, NeedsDashboardRead, Refused};
use crate::domain::Permission;

/// The dashboard.
#[derive(Serialize, ToSchema)]
struct Dashboard {
    #[schema(example = "Welcome testuser, this is your dashboard")]
    message: String,
}

/// Read the dashboard
#[utoipa::path(
    get, path = "/protected/dashboard", tag = "protected",
    security(("access_token" = ["dashboard:read"])),
    responses(
        (status = 200, description = "The dashboard", body = Dashboard),
        Refused<(BadToken, NeedsDashboardRead)>,
    ),
)]
pub(super) async fn dashboard(bearer: Authenticated) -> Result<impl Responder, ApiError> {
    bearer.require_permission(&Permission::DASHBOARD_READ)?;
    let message = format!("Welcome {}, this is your dashboard", bearer.claims.subject.name());
    Ok(Json(Dashboard { message }))
}
