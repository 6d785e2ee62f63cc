//! The dialect of SQLite: one file, one serving process.

mod audit;
mod backup;
mod client_rows;
mod clients;
mod copy;
mod database;
mod feed;
mod inspection;
mod key_rows;
mod keys;
mod requesters;
mod revocations;
mod roles;
mod sessions;
mod throttle;
mod users;

pub(super) use backup::back_up;
pub(super) use copy::{SqliteSource, SqliteTarget};
pub(super) use database::SqliteStore;
