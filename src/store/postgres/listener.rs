//! Notifications of new revocations by `LISTEN` and `NOTIFY`.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use crate::store::error::StoreError;
use crate::store::feed::{Listener, with_timeout};

/// Channel of the trigger on the table `revocations`.
const CHANNEL: &str = "portcullis_revocations";

/// Interval between checks of a connection without notifications. A connection that was cut
/// silently would otherwise be awaited forever.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct PostgresListener {
    options: PgConnectOptions,
    listener: Option<PgListener>,
}

impl PostgresListener {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, listener: None }
    }
}

#[async_trait]
impl Listener for PostgresListener {
    async fn connect(&mut self, timeout: Duration) -> Result<(), StoreError> {
        // `PgListener` takes its connection from a pool; this pool contains nothing else.
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(self.options.clone());
        let mut listener = with_timeout(timeout, PgListener::connect_with(&pool)).await?;
        listener.eager_reconnect(false);
        with_timeout(timeout, listener.listen(CHANNEL)).await?;
        self.listener = Some(listener);
        Ok(())
    }

    async fn wait_for_notification(&mut self, timeout: Duration) -> Result<(), StoreError> {
        // The listener is put back only after success.
        let mut listener = self.listener.take().ok_or(sqlx::Error::PoolClosed)?;
        loop {
            match tokio::time::timeout(CHECK_INTERVAL, listener.try_recv()).await {
                Ok(Ok(Some(_))) => break,
                Ok(Ok(None)) => return Err(sqlx::Error::PoolClosed.into()),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    with_timeout(timeout, listener.execute("select 1")).await?;
                }
            }
        }
        self.listener = Some(listener);
        Ok(())
    }
}
