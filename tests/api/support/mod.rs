//! What the tests share.

mod app;
mod clock;
mod cluster;
mod database;
mod document;
mod pgbouncer;
mod process;
mod proxy;
mod server;

pub use app::{Reply, TestApp, claims, credentials, eventually, free_port, send, signed, try_send};
pub use clock::{ManualClock, since};
pub use cluster::{Cluster, for_longer_than_the_bound};
pub use database::TestDatabase;
pub use document::{assert_documented, document};
pub use pgbouncer::PgBouncer;
pub use process::Process;
pub use proxy::{Proxy, Traffic};
pub use server::Server;

/// Runs each test on both databases, as `name::on_postgres` and `name::on_sqlite`.
macro_rules! on_both_databases {
    ($($(#[$meta:meta])* async fn $name:ident($database:ident: TestDatabase) $body:block)*) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn body($database: TestDatabase) $body

            #[actix_web::test]
            async fn on_postgres() {
                TestDatabase::postgres().await.lend(body).await;
            }

            #[actix_web::test]
            async fn on_sqlite() {
                TestDatabase::sqlite().lend(body).await;
            }
        }
    )*};
}

pub(crate) use on_both_databases;
