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
//! | 4 | [`actors`] | accounts, sessions, roles, clients, signing keys, the follower, the hash queue |
//! | 5 | [`keys`] | the keys of the service in the database |
//! | 6 | [`store`] | the database; all SQL |
//! | 6 | [`hashing`] | PBKDF2, and verification of the hashes of other systems |
//! | 6 | [`tokens`] | issuing and verification of JSON Web Tokens |
//! | 6 | [`revocation`] | the replica: all live revocations, in memory |
//! | 6 | [`clients`] | the clients in memory, and their secrets |
//! | 7 | [`telemetry`] | logging |
//! | 7 | [`metrics`] | Prometheus metrics |
//! | 7 | [`clock`] | wall clock and monotonic clock |
//! | 7 | [`signals`] | SIGTERM, SIGINT and SIGHUP |
//! | 7 | [`descriptors`] | limit on open file descriptors |
//! | 7 | [`healthcheck`] | the client of `/health/ready` |
//! | 8 | [`config`] | command line and settings |
//! | 9 | [`domain`] | types that are valid by construction |
//!
//! `tests/api/architecture.rs` tests the layers; `docs/architecture.md` explains them.

pub mod actors;
pub mod clients;
pub mod clock;
pub mod commands;
pub mod config;
pub mod descriptors;
pub mod domain;
pub mod hashing;
pub mod healthcheck;
pub mod http;
pub mod keys;
pub mod metrics;
pub mod revocation;
pub mod signals;
pub mod startup;
pub mod store;
pub mod telemetry;
pub mod tokens;
