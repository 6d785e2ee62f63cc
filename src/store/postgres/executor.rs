//! Execution of single statements through a pooler.
//!
//! PgBouncer in transaction mode lends a server connection for one transaction. `sqlx` sends a
//! statement with parameters in two steps, each of which would be a separate transaction.

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use sqlx::postgres::{
    PgArguments, PgPool, PgQueryResult, PgRow, PgStatement, PgTransaction, PgTypeInfo,
};
use sqlx::query::Query;
use sqlx::{Either, Error, Execute, Executor, Postgres, SqlSafeStr, SqlStr};

use super::pool::set_timeouts;
use crate::config::PoolMode;

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

    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<PgTransaction<'static>, Error> {
        self.pool
            .begin_with(match self.mode {
                PoolMode::Session => "begin",
                PoolMode::Transaction => concat!("begin; ", set_timeouts!("local")),
            })
            .await
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
        if self.mode == PoolMode::Session {
            return self.pool.fetch_many(query);
        }
        let results = async move {
            let mut transaction = self.begin().await?;
            let results: Vec<_> = transaction.fetch_many(query).try_collect().await?;
            transaction.commit().await?;
            Ok::<_, Error>(stream::iter(results).map(Ok))
        };
        stream::once(results).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        if self.mode == PoolMode::Session {
            return self.pool.fetch_optional(query);
        }
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
