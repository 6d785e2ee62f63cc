//! The HTTP API: what each route reads, asks and answers.

mod auth;
mod authenticated;
mod body;
mod client;
mod dashboard;
mod error;
mod lifecycle;
mod metrics;
mod probes;
mod request_id;
mod sessions;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{self, JsonConfig, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder, Route, guard};
use serde::Serialize;

pub use authenticated::Authenticated;
pub use error::{ApiError, NoToken};
pub use lifecycle::{Lifecycle, OpenConnection};
pub use request_id::RootSpan;
pub use watch::watch;

use crate::actors::{Mailbox, SessionActor, UserActor};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::Store;
use crate::tokens::Tokens;

/// The largest body that is read, in bytes: credentials need no more.
const BODY_LIMIT: usize = 16 * 1024;

/// What the handlers share.
pub struct Api {
    /// Accounts.
    pub users: Mailbox<UserActor>,
    /// Revocations.
    pub sessions: Mailbox<SessionActor>,
    /// Issues and checks tokens.
    pub tokens: Tokens,
    /// What checking looks up.
    pub replica: Arc<Replica>,
    /// Shown in the metrics; whatever else concerns it is asked of an actor.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Longest wait for the body of a request.
    pub body_timeout: Duration,
    /// Whether the service is about to end.
    pub lifecycle: Arc<Lifecycle>,
}

/// A reply with nothing but a text for a person.
#[derive(Serialize)]
struct Message {
    msg: &'static str,
}

/// Every route there is.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(get("/", probes::root))
        .service(post("/auth/register", auth::register))
        .service(post("/auth/login", auth::login))
        .service(post("/auth/refresh", sessions::refresh))
        .service(post("/auth/logout", auth::logout))
        .service(post("/auth/logout-all", sessions::logout_all))
        .service(get("/auth/sessions", sessions::list))
        .service(delete("/auth/sessions/{id}", sessions::end))
        .service(get("/protected/dashboard", dashboard::dashboard))
        .service(get("/health/live", probes::live))
        .service(get("/health/ready", probes::ready))
        .service(get("/metrics", metrics::metrics))
        .default_service(refuse(|| ApiError::NotFound))
        .app_data(
            JsonConfig::default()
                .limit(BODY_LIMIT)
                .error_handler(|error, _| ApiError::from_json_payload(&error, BODY_LIMIT).into()),
        );
}

fn get<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    let method = guard::Any(guard::Get()).or(guard::Head());
    resource(path, web::route().guard(method).to(handler), "GET, HEAD")
}

fn post<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    resource(path, web::post().to(handler), "POST")
}

fn delete<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    resource(path, web::delete().to(handler), "DELETE")
}

fn resource(path: &str, route: Route, allowed: &'static str) -> Resource {
    let refused = refuse(move || ApiError::MethodNotAllowed(allowed));
    web::resource(path).route(route).default_service(refused)
}

fn refuse(error: impl Fn() -> ApiError + Copy + 'static) -> Route {
    web::to(move || async move { Err::<HttpResponse, _>(error()) })
}
