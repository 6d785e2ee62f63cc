//! The tests of the service from the outside: the real application on a free port, spoken to over
//! HTTP, each test with a database of its own, on Postgres and on SQLite.
//!
//! `make test` runs them; it provides the Postgres server that `TEST_DATABASE_URL` names.

#![expect(unreachable_pub, reason = "a test binary has no outside")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "so tests fail")]

mod support;

mod account;
mod admin;
mod architecture;
mod audit;
mod auth;
mod cluster;
mod commands;
mod errors;
mod faults;
mod hashing;
mod oauth;
mod observability;
mod openapi;
mod process;
mod sessions;
mod store;
mod tokens;
