//! The HTTP API: the route table, one file of handlers per resource, and the OpenAPI document.
//!
//! A `Raw…` type is a request body or query before its validation, a `…View` the JSON of a reply.
//! Their doc comments, and those of the handlers, are the descriptions in the OpenAPI document.

mod account;
mod admin;
mod admin_clients;
mod admin_details;
mod admin_keys;
mod admin_roles;
mod admin_sessions;
mod audit;
mod auth;
mod authenticated;
mod body;
mod caller;
mod check;
mod compression;
mod connection;
mod connections;
mod cors;
mod credentials;
mod dashboard;
mod docs;
mod error;
mod failures;
mod introspect;
mod json;
mod metrics;
mod oauth_error;
mod observe;
mod openapi;
mod origin;
mod page;
mod pieces;
mod probes;
mod readiness;
mod refused;
mod request_id;
mod reset;
mod revocations;
mod revoke;
mod route_metrics;
mod routes;
mod server;
mod sessions;
mod state;
mod token;
mod trace_context;
mod views;
mod well_known;

pub use audit::AuditRecordView;
pub use connections::Connections;
pub use failures::FailureLog;
pub use openapi::openapi;
pub use readiness::Readiness;
pub use revocations::{CompleteReads, FeedLimits};
pub use server::{BoundServer, ListenError, RunningServer};
pub use state::Api;
pub use views::{
    AccountView, ClientView, KeyView, ManagedAccountView, NewClientView, ResetCodeView, RoleView,
    SessionView,
};
