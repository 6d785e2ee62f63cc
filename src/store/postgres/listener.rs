//! Being told by `NOTIFY` that there is something to read.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::timeout;

use crate::store::StoreError;
use crate::store::feed::{Listener, within};

/// The channel that the trigger on the table notifies.
const CHANNEL: &str = "portcullis_revocations";

/// How long nothing is heard before the connection is tried: one that was cut without a word would
/// be waited on for ever.
const SILENCE: Duration = Duration::from_secs(10);

pub(super) struct PostgresListener {
    options: PgConnectOptions,
    ears: Option<PgListener>,
}

impl PostgresListener {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, ears: None }
    }
}

#[async_trait]
impl Listener for PostgresListener {
    async fn connect(&mut self, patience: Duration) -> Result<(), StoreError> {
        // It takes its connection from a pool, so it gets one with nothing else in it.
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(self.options.clone());
        let mut ears = within(patience, PgListener::connect_with(&pool)).await?;
        ears.eager_reconnect(false);
        within(patience, ears.listen(CHANNEL)).await?;
        self.ears = Some(ears);
        Ok(())
    }

    async fn hear(&mut self, patience: Duration) -> Result<(), StoreError> {
        // Put back when all went well.
        let mut ears = self.ears.take().ok_or(sqlx::Error::PoolClosed)?;
        loop {
            match timeout(SILENCE, ears.try_recv()).await {
                Ok(Ok(Some(_))) => break,
                Ok(Ok(None)) => return Err(sqlx::Error::PoolClosed.into()),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {
                    within(patience, ears.execute("select 1")).await?;
                }
            }
        }
        self.ears = Some(ears);
        Ok(())
    }
}
