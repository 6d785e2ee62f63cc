//! The two ends of a copy of the database: their traits, which each dialect implements in its
//! `copy.rs`.

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::error::{OpenFailure, StoreError};
use super::tables::{Row, Table};

/// Stream of the rows of a table.
pub(super) type Rows<'a> = BoxStream<'a, Result<Row, StoreError>>;

/// Database that is copied: one state of it, which nothing changes meanwhile.
#[async_trait]
pub(super) trait CopySource: Send {
    /// Counts the rows of a table.
    async fn count(&mut self, table: &Table) -> Result<u64, StoreError>;

    /// Reads the rows of a table in the order of its key.
    async fn rows(&mut self, table: &Table) -> Result<Rows<'_>, StoreError>;

    /// Ends the copy.
    async fn close(self: Box<Self>) -> Result<(), StoreError>;
}

/// Database that is written: one transaction, which no other program sees before its end.
#[async_trait]
pub(super) trait CopyTarget: Send {
    /// Counts the rows of a table.
    async fn count(&mut self, table: &Table) -> Result<u64, StoreError>;

    /// Deletes the rows of a table.
    async fn clear(&mut self, table: &Table) -> Result<(), StoreError>;

    /// Inserts rows.
    async fn insert(&mut self, table: &Table, rows: Rows<'_>) -> Result<(), InsertError>;

    /// Commits what was inserted.
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

/// Failure to prepare one end of a copy.
#[derive(Debug)]
pub(super) enum EndFailure {
    /// The database cannot be opened.
    Open(OpenFailure),
    /// Another program uses the database.
    InUse,
}

impl<E: Into<OpenFailure>> From<E> for EndFailure {
    fn from(error: E) -> Self {
        Self::Open(error.into())
    }
}

/// Failure to copy the rows of a table.
#[derive(Debug)]
pub(super) enum InsertError {
    /// A row cannot be read.
    Source(StoreError),
    /// A row cannot be written.
    Target(StoreError),
}

impl From<sqlx::Error> for InsertError {
    fn from(error: sqlx::Error) -> Self {
        Self::Target(error.into())
    }
}
