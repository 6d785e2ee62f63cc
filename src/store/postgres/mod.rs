//! The dialect of PostgreSQL 13 or later.

mod audit;
mod client_rows;
mod clients;
mod columns;
mod copy;
mod copy_format;
mod database;
mod executor;
mod feed;
mod inspection;
mod key_rows;
mod keys;
mod listener;
mod pool;
mod requesters;
mod revocations;
mod roles;
mod sessions;
mod throttle;
mod users;

pub(super) use copy::{PostgresSource, PostgresTarget};
pub(super) use database::{PostgresStore, describe};
