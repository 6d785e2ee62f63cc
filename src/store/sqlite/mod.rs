//! The dialect of SQLite: one file, one serving process.

mod audit;
mod database;
mod feed;
mod revocations;
mod sessions;
mod users;

pub(super) use database::SqliteStore;
