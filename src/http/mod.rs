//! The HTTP API: what each route reads, asks and answers.

mod account;
mod admin;
mod audit;
mod auth;
mod authenticated;
mod body;
mod client;
mod dashboard;
mod docs;
mod error;
mod lifecycle;
mod metrics;
mod oauth;
mod openapi;
mod page;
mod probes;
mod request_id;
mod sessions;
mod traffic;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{self, Data, FormConfig, JsonConfig, PathConfig, QueryConfig, ServiceConfig};
use actix_web::{FromRequest, Handler, HttpResponse, Resource, Responder, Route, guard};
use ipnet::IpNet;
use prometheus::IntCounter;
use serde::Serialize;
use utoipa::ToSchema;

pub use authenticated::Authenticated;
pub use error::{ApiError, NoToken};
pub use lifecycle::{Lifecycle, OpenConnection};
pub use openapi::openapi;
pub use request_id::RootSpan;
pub use watch::watch;

use traffic::Traffic;

use crate::actors::{Mailbox, SessionActor, UserActor};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::revocation::Replica;
use crate::store::Store;
use crate::tokens::{Memo, Tokens};

/// The largest body that is read, in bytes: credentials need no more.
const BODY_LIMIT: usize = 16 * 1024;

/// What the handlers share. Each worker has a copy: of a single one every request would change the count
/// of references, which two cores cannot do at once.
#[derive(Clone)]
pub struct Api {
    /// Accounts.
    pub users: Mailbox<UserActor>,
    /// Revocations.
    pub sessions: Mailbox<SessionActor>,
    /// Issues and checks tokens.
    pub tokens: Arc<Tokens>,
    /// What checking looks up.
    pub replica: Arc<Replica>,
    /// Shown in the metrics; whatever else concerns it is asked of an actor.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// That of them which counts good tokens. To look it up by its label takes a lock.
    pub clear_checks: IntCounter,
    /// Longest wait for the body of a request.
    pub body_timeout: Duration,
    /// Whose word is taken for where a request comes from.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether the service is about to end.
    pub lifecycle: Arc<Lifecycle>,
}

/// A reply with nothing but a text for a person.
#[derive(Serialize, ToSchema)]
struct Message {
    /// For a person.
    msg: &'static str,
}

/// Every route there is.
pub fn routes(config: &mut ServiceConfig) {
    config
        // First, since they are tried in turn and this is the one that is called most.
        .service(at("/protected/dashboard", "GET, HEAD", [get(dashboard::dashboard)]))
        .service(at("/", "GET, HEAD", [get(probes::root)]))
        .service(at("/auth/register", "POST", [post(auth::register)]))
        .service(at("/auth/login", "POST", [post(auth::login)]))
        .service(at("/auth/refresh", "POST", [post(sessions::refresh)]))
        .service(at("/auth/logout", "POST", [post(auth::logout)]))
        .service(at("/auth/logout-all", "POST", [post(sessions::logout_all)]))
        .service(at(
            "/auth/me",
            "GET, HEAD, DELETE",
            [get(account::me), delete(account::delete_me)],
        ))
        .service(at("/auth/password", "PUT", [put(account::change_password)]))
        .service(at("/auth/sessions", "GET, HEAD", [get(sessions::list)]))
        .service(at("/auth/sessions/{id}", "DELETE", [delete(sessions::end)]))
        .service(at("/admin/users", "GET, HEAD, POST", [get(admin::list), post(admin::create)]))
        .service(at(
            "/admin/users/{id}",
            "GET, HEAD, DELETE",
            [get(admin::read), delete(admin::delete)],
        ))
        .service(at("/admin/users/{id}/disable", "POST", [post(admin::disable)]))
        .service(at("/admin/users/{id}/enable", "POST", [post(admin::enable)]))
        .service(at("/admin/users/{id}/roles", "PUT", [put(admin::set_roles)]))
        .service(at("/admin/users/{id}/password", "PUT", [put(admin::set_password)]))
        .service(at(
            "/admin/users/{id}/sessions",
            "GET, HEAD, DELETE",
            [get(admin::list_sessions), delete(admin::end_sessions)],
        ))
        .service(at("/admin/users/{id}/sessions/{session}", "DELETE", [delete(admin::end_session)]))
        .service(at("/admin/audit", "GET, HEAD", [get(audit::read)]))
        .service(at("/oauth/introspect", "POST", [post(oauth::introspect)]))
        .service(at("/oauth/revoke", "POST", [post(oauth::revoke)]))
        .service(at("/health/live", "GET, HEAD", [get(probes::live)]))
        .service(at("/health/ready", "GET, HEAD", [get(probes::ready)]))
        .service(at("/metrics", "GET, HEAD", [get(metrics::metrics)]))
        .service(at("/openapi.json", "GET, HEAD", [get(openapi::document)]))
        .service(at("/docs", "GET, HEAD", [get(docs::page)]))
        .service(at("/docs/{file}", "GET, HEAD", [get(docs::file)]))
        .app_data(Memo::default())
        .app_data(Data::new(openapi::Written::default()))
        .configure(refusals);
}

/// Makes whatever is not a route, or not what its route reads, a refusal like all others.
fn refusals(config: &mut ServiceConfig) {
    config
        .default_service(refuse(|| ApiError::NotFound))
        .app_data(Traffic::unmatched())
        .app_data(PathConfig::default().error_handler(|_, _| ApiError::NotFound.into()))
        .app_data(
            QueryConfig::default()
                .error_handler(|error, _| ApiError::InvalidQuery(error.to_string()).into()),
        )
        .app_data(
            JsonConfig::default()
                .limit(BODY_LIMIT)
                .error_handler(|error, _| ApiError::from_json_payload(&error, BODY_LIMIT).into()),
        )
        .app_data(
            FormConfig::default()
                .limit(BODY_LIMIT)
                .error_handler(|error, _| ApiError::from_form(&error, BODY_LIMIT).into()),
        );
}

/// Puts routes at a path, which refuses the methods that none of them is for.
fn at<const N: usize>(path: &'static str, allowed: &'static str, routes: [Route; N]) -> Resource {
    let refused = refuse(move || ApiError::MethodNotAllowed(allowed));
    let resource = web::resource(path).app_data(Traffic::of(path));
    routes.into_iter().fold(resource, Resource::route).default_service(refused)
}

fn get<F, Args>(handler: F) -> Route
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::route().guard(guard::Any(guard::Get()).or(guard::Head())).to(handler)
}

fn post<F, Args>(handler: F) -> Route
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::post().to(handler)
}

fn put<F, Args>(handler: F) -> Route
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::put().to(handler)
}

fn delete<F, Args>(handler: F) -> Route
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::delete().to(handler)
}

fn refuse(error: impl Fn() -> ApiError + Copy + 'static) -> Route {
    web::to(move || async move { Err::<HttpResponse, _>(error()) })
}
