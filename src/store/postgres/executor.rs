//! Execution of single statements through a pooler.
//!
//! PgBouncer in transaction mode lends a server connection for one transaction. `sqlx` sends a
//! statement with parameters in two steps, each of which would be a separate transaction.

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use sqlx::postgres::{PgArguments, PgPool, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::query::Query;
use sqlx::{Connection, Either, Error, Execute, Executor, Postgres, SqlSafeStr, SqlStr};

use super::pool::{Lease, set_timeouts};
use crate::config::PoolMode;

/// Expression in a statement whose commit does not wait for the disk. A crash of the server can undo
/// such commits of the last second.
pub(super) const ASYNCHRONOUS_COMMIT: &str = "set_config('synchronous_commit', 'off', true)";

/// Executor of single statements. In transaction mode it wraps each one in a transaction.
#[derive(Clone, Debug)]
pub(super) struct PoolExecutor {
    pub(super) pool: PgPool,
    pub(super) mode: PoolMode,
}

impl PoolExecutor {
    /// Creates a query. Its prepared statement is cached only in session mode: in transaction mode
    /// the next query may reach a server connection that does not have it.
    pub(super) fn query<'q>(&self, sql: impl SqlSafeStr) -> Query<'q, Postgres, PgArguments> {
        sqlx::query(sql).persistent(self.mode == PoolMode::Session)
    }

    /// Returns the statement that begins a transaction.
    pub(super) fn begin_statement(&self) -> &'static str {
        match self.mode {
            PoolMode::Session => "begin",
            PoolMode::Transaction => concat!("begin; ", set_timeouts!("local")),
        }
    }

    /// Returns a connection of the pool.
    pub(super) async fn lease(&self) -> Result<Lease, Error> {
        Lease::new(&self.pool).await
    }
}

impl<'c> Executor<'c> for &'c PoolExecutor {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let results = async move {
            let mut lease = self.lease().await?;
            let connection = lease.connection()?;
            let results: Vec<_> = match self.mode {
                PoolMode::Session => connection.fetch_many(query).try_collect().await?,
                PoolMode::Transaction => {
                    let mut transaction = connection.begin_with(self.begin_statement()).await?;
                    let results = transaction.fetch_many(query).try_collect().await?;
                    transaction.commit().await?;
                    results
                }
            };
            lease.give_back();
            Ok::<_, Error>(stream::iter(results).map(Ok))
        };
        stream::once(results).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        self.fetch_all(query).map_ok(|rows| rows.into_iter().next()).boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        self.pool.prepare_with(sql, parameters)
    }
}
