//! Portcullis: an authentication service for REST APIs.
//!
//! The modules form layers, listed from the top. A module uses only modules of lower layers.
//!
//! | layer | module | contents |
//! |---|---|---|
//! | 1 | `main` | the program |
//! | 2 | [`startup`] | construction and shutdown of the service |
//! | 2 | [`commands`] | the command line for administrators |
//! | 3 | [`http`] | the HTTP API |
//! | 4 | [`actors`] | accounts, sessions, the revocation follower, the hash queue |
//! | 5 | [`store`] | the database; all SQL |
//! | 5 | [`hashing`] | PBKDF2 |
//! | 5 | [`tokens`] | issuing and verification of JSON Web Tokens |
//! | 5 | [`revocation`] | the replica: all live revocations, in memory |
//! | 6 | [`telemetry`] | logging |
//! | 6 | [`metrics`] | Prometheus metrics |
//! | 6 | [`clock`] | wall clock and monotonic clock |
//! | 6 | [`signals`] | SIGTERM, SIGINT and SIGHUP |
//! | 6 | [`descriptors`] | limit on open file descriptors |
//! | 6 | [`healthcheck`] | the client of `/health/ready` |
//! | 7 | [`config`] | command line and settings |
//! | 8 | [`domain`] | types that are valid by construction |
//!
//! `tests/api/architecture.rs` tests the layers; `docs/architecture.md` explains them.

pub mod actors;
pub mod clock;
pub mod commands;
pub mod config;
pub mod descriptors;
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
