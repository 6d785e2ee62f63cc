//! Portcullis: an authentication service for REST clients.
//!
//! The crate from the outside in; a module uses those below it and none above.
//!
//! | module | what it is for |
//! |---|---|
//! | [`startup`] | wiring: what is made in which order, and in which order it ends |
//! | [`commands`] | the command line for administrators, past the service |
//! | [`http`] | what each route reads, asks and answers |
//! | [`actors`] | who owns what changes: accounts, revocations, the hashing threads |
//! | [`store`] | what is remembered; all SQL |
//! | [`hashing`] | PBKDF2 |
//! | [`tokens`] | issuing and checking JSON Web Tokens |
//! | [`revocation`] | the replica: every live revocation, in memory |
//! | [`domain`] | the words of the service as types |
//!
//! Beside them stand leaves: [`config`], [`clock`], [`metrics`], [`telemetry`], [`signals`] and
//! [`healthcheck`]. `docs/architecture.md` has the reasons.

pub mod actors;
pub mod clock;
pub mod commands;
pub mod config;
pub mod domain;
pub mod hashing;
pub mod healthcheck;
pub mod http;
pub mod metrics;
pub mod revocation;
pub mod signals;
pub mod startup;
pub mod store;
pub mod telemetry;
pub mod tokens;
