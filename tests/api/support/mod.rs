//! Helpers shared by the tests.

mod app;
mod clock;
mod cluster;
mod command_line;
mod database;
mod document;
mod pgbouncer;
mod postgres_server;
mod process;
mod proxy;

pub use app::{
    Reply, TestApp, credentials, decode_claims, eventually, forge, free_port, send, try_send,
};
pub use clock::{ManualClock, elapsed_since};
pub use cluster::{Cluster, wait_past_the_bound};
pub use command_line::{Outcome, Terminal, run_command};
pub use database::TestDatabase;
pub use document::{assert_documented, document};
pub use pgbouncer::PgBouncer;
pub use postgres_server::PostgresServer;
pub use process::Process;
pub use proxy::{Proxy, ProxyMode};

/// Prints why a test is skipped.
#[expect(clippy::print_stderr, reason = "tests report to a person")]
pub fn print_skipped(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// Runs each listed test on both databases, as `name::on_postgres` and `name::on_sqlite`.
///
/// A test is a function `async fn name(database: TestDatabase)`. The compiler reports a function
/// that is missing from the list as dead code.
macro_rules! on_both_databases {
    ($($(#[$meta:meta])* $name:ident),* $(,)?) => {$(
        $(#[$meta])*
        mod $name {
            use crate::support::TestDatabase;

            #[actix_web::test]
            async fn on_postgres() {
                TestDatabase::postgres().await.run(super::$name).await;
            }

            #[actix_web::test]
            async fn on_sqlite() {
                TestDatabase::sqlite().run(super::$name).await;
            }
        }
    )*};
}

pub(crate) use on_both_databases;
