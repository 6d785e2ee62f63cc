//! The dialect of PostgreSQL 13 or later.

mod audit;
mod columns;
mod database;
mod executor;
mod feed;
mod key_rows;
mod keys;
mod listener;
mod pool;
mod revocations;
mod sessions;
mod users;

pub(super) use database::{PostgresStore, describe};
