//! The HTTP API: the route table, one file of handlers per resource, and the OpenAPI document.
//!
//! A `Raw…` type is a request body or query before its validation, a `…View` the JSON of a reply.
//! Their doc comments, and those of the handlers, are the descriptions in the OpenAPI document.

mod account;
mod admin;
mod audit;
mod auth;
mod authenticated;
mod body;
mod credentials;
mod dashboard;
mod docs;
mod error;
mod lifecycle;
mod metrics;
mod oauth;
mod observe;
mod openapi;
mod origin;
mod page;
mod probes;
mod refused;
mod request_id;
mod route_metrics;
mod routes;
mod sessions;
mod state;
mod views;

pub use lifecycle::{Lifecycle, OpenConnection};
pub use observe::observe_requests;
pub use openapi::openapi;
pub use request_id::RootSpan;
pub use routes::routes;
pub use state::Api;
pub use views::{AccountView, ManagedAccountView, SessionView};
