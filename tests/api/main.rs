//! Integration tests. Each test starts the real application on a free port and a separate database,
//! and speaks HTTP to it. Most tests run on both Postgres and SQLite.
//!
//! Run them with `make test`, which provides a Postgres server and sets `TEST_DATABASE_URL`.

#![expect(unreachable_pub, reason = "a test binary has no public API")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod support;

mod account;
mod admin;
mod architecture;
mod audit;
mod auth;
mod check;
mod clients;
mod cluster;
mod commands;
mod connections;
mod cors;
mod database;
mod doctor;
mod documents;
mod errors;
mod faults;
mod guessing;
mod hashing;
mod imported_hashes;
mod key_faults;
mod keys;
mod listeners;
mod logs;
mod moving;
mod networks;
mod oauth;
mod observability;
mod openapi;
mod passwords;
mod process;
mod reset;
mod revocations;
mod roles;
mod sessions;
mod store;
mod tokens;
