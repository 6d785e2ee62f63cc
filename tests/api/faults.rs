//! Requests while the database is unreachable, stalled, locked, full or refuses.

use std::fs::{self, File};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use portcullis::config::{Config, DatabaseSettings, PoolMode};
use portcullis::domain::UserId;
use portcullis::store::{self, SchemaPolicy};
use reqwest::Method;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{
    PgBouncer, Proxy, ProxyMode, Reply, TestApp, TestDatabase, decode_claims, eventually,
    on_both_databases, print_skipped,
};

/// Time after which a caller gives up in a test.
const SHORT: Duration = Duration::from_millis(300);

on_both_databases![stale_instance_falls_back_to_database];

fn shorten_timeouts(config: &mut Config) {
    config.http.request_timeout = Duration::from_secs(1);
    config.database.acquire_timeout = Duration::from_millis(500);
}

#[track_caller]
fn assert_unavailable(reply: &Reply) {
    reply.assert_error(503, "unavailable", "Service temporarily unavailable, try again later");
    assert_eq!(reply.header("retry-after"), Some("1"));
}

/// Tests an outage of the database, and the recovery from it.
async fn test_outage(mode: ProxyMode) {
    let test = async |database| {
        let proxy = Proxy::start(&database).await;
        let app = TestApp::start_with(&proxy.database, shorten_timeouts).await;
        let token = app.register_and_log_in("alice").await;

        proxy.set_mode(mode);
        assert_unavailable(&app.log_in("alice", "correct horse").await);
        assert_unavailable(&app.register("bob", "correct horse").await);
        assert_unavailable(&app.log_out(&token).await);
        assert_eq!(app.dashboard(&token).await.status, 200, "checking a token needs no database");
        assert_eq!(app.get("/health/live").await.status, 200);
        let not_ready = app.get("/health/ready").await;
        not_ready.assert_error(503, "database_unreachable", "The database cannot be used");

        proxy.set_mode(ProxyMode::Forward);
        eventually("the service is ready again", async || {
            app.get("/health/ready").await.status == 200
        })
        .await;
        eventually("a login succeeds", async || {
            app.log_in("alice", "correct horse").await.status == 200
        })
        .await;
        app.log_out(&token).await.assert(200, &json!({ "msg": "Successfully logged out" }));
        assert_eq!(app.dashboard(&token).await.status, 401);
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn disconnected_database_recovers_without_restart() {
    test_outage(ProxyMode::Cut).await;
}

#[actix_web::test]
async fn stalled_database_recovers_without_restart() {
    test_outage(ProxyMode::Stall).await;
}

#[actix_web::test]
async fn probes_of_one_second_share_an_answer() {
    let test = async |database| {
        let proxy = Proxy::start(&database).await;
        let app = TestApp::start(&proxy.database).await;
        let is_ready = async || app.get("/health/ready").await.status == 200;

        // On a busy machine, more than a second may pass between the two probes.
        eventually("an answer outlives the database", async || {
            proxy.set_mode(ProxyMode::Forward);
            eventually("the service is ready", is_ready).await;
            app.clock.advance(Duration::from_secs(1));
            let was_ready = is_ready().await;
            proxy.set_mode(ProxyMode::Cut);
            was_ready && is_ready().await
        })
        .await;

        app.clock.advance(Duration::from_secs(1));
        assert!(!is_ready().await);
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn terminated_connections_recover_on_retry() {
    let test = async |database: TestDatabase| {
        let app = TestApp::start(&database).await;
        let token = app.register_and_log_in("alice").await;

        let terminate = "select pg_terminate_backend(pid) from pg_stat_activity
                         where datname = current_database() and pid <> pg_backend_pid()";
        database.execute(terminate).await;

        eventually("a login succeeds", async || {
            app.log_in("alice", "correct horse").await.status == 200
        })
        .await;
        assert_eq!(app.log_out(&token).await.status, 200);
    };
    TestDatabase::postgres().await.run(test).await;
}

async fn stale_instance_falls_back_to_database(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        config.revocations.poll_interval = Duration::from_hours(1);
    })
    .await;
    let valid = app.register_and_log_in("alice").await;
    app.get("/health/ready").await.assert(200, &json!({ "msg": "Ready" }));
    // The last read for an hour: on Postgres once the listener is connected, on SQLite at startup.
    let is_embedded = matches!(database, TestDatabase::Sqlite(_));
    let cause = if is_embedded { "poll" } else { "hint" };
    let reads = format!(r#"portcullis_revocation_feed_reads_total{{cause="{cause}"}}"#);
    eventually("the feed is read", async || app.metric(&reads).await == 1).await;

    app.clock.advance(Duration::from_secs(6));

    let msg = "The known revocations are too old";
    app.get("/health/ready").await.assert_error(503, "revocations_stale", msg);
    let checks = join_all((0..50).map(|_| app.dashboard(&valid))).await;
    assert!(checks.iter().all(|reply| reply.status == 200), "{checks:?}");
    let fallback_checks = r#"portcullis_revocation_checks_total{result="fallback_clear"}"#;
    assert_eq!(app.metric(fallback_checks).await, 50);
}

#[actix_web::test]
async fn locked_sqlite_file_recovers_without_restart() {
    let database = TestDatabase::sqlite();
    let app = TestApp::start_with(&database, shorten_timeouts).await;
    let token = app.register_and_log_in("alice").await;
    let mut other_connection = open_sqlite_connection(&database).await;

    other_connection.execute("begin immediate").await.unwrap();
    assert_unavailable(&app.register("bob", "correct horse").await);
    assert_unavailable(&app.log_out(&token).await);
    assert_eq!(app.dashboard(&token).await.status, 200);
    other_connection.execute("rollback").await.unwrap();

    eventually("a registration succeeds", async || {
        app.register("bob", "correct horse").await.status == 201
    })
    .await;
    assert_eq!(app.log_out(&token).await.status, 200);
    other_connection.close().await.unwrap();
}

async fn open_sqlite_connection(database: &TestDatabase) -> SqliteConnection {
    let options: SqliteConnectOptions = database.url().parse().unwrap();
    options.connect().await.unwrap()
}

#[actix_web::test]
async fn logout_holds_when_commit_is_late() {
    let test = async |database: TestDatabase| {
        let app = TestApp::start_with(&database, shorten_timeouts).await;
        let token = app.register_and_log_in("alice").await;
        let id = decode_claims(&token)["sid"].as_str().unwrap().to_owned();
        let mut other_connection = database.connect().await;
        let insert = "insert into revocations (id, expires_at) values";
        let insert_same_id = format!("begin; {insert} ('{id}', now())");
        other_connection.execute(AssertSqlSafe(insert_same_id)).await.unwrap();

        assert_unavailable(&app.log_out(&token).await);
        assert_eq!(app.dashboard(&token).await.status, 200);
        other_connection.execute("rollback").await.unwrap();

        eventually("the token is refused", async || app.dashboard(&token).await.status == 401)
            .await;
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn silently_dead_connections_cost_at_most_one_request() {
    let test = async |database: TestDatabase| {
        let proxy = Proxy::start(&database).await;
        let app = TestApp::start(&proxy.database).await;
        let token = app.register_and_log_in("alice").await;
        fill_pool(&database, &app, &token).await;

        proxy.silence_connections();
        let mut failures = 0;
        for _ in 0..8 {
            let login = app.log_in("alice", "correct horse").await;
            failures += u32::from(login.status != 200);
        }

        assert!(failures <= 1, "{failures} requests failed");
        app.get("/health/ready").await.assert(200, &json!({ "msg": "Ready" }));
    };
    TestDatabase::postgres().await.run(test).await;
}

/// Makes the application open every connection of its pool.
async fn fill_pool(database: &TestDatabase, app: &TestApp, token: &str) {
    let mut other_connection = database.connect().await;
    other_connection.execute("begin; lock table users").await.unwrap();
    let reads = join_all((0..8).map(|_| app.send_with_token(Method::GET, "/auth/me", token)));
    let unlock = async {
        eventually("every connection is in use", async || {
            app.metric(r#"portcullis_database_connections{state="in_use"}"#).await == 4
        })
        .await;
        other_connection.execute("rollback").await.unwrap();
    };
    let (reads, ()) = tokio::join!(reads, unlock);
    assert!(reads.iter().all(|reply| reply.status == 200), "{reads:?}");
}

/// Runs requests while the database refuses an application with a role of its own: `refuse` and
/// `accept` are statements on the server. They can name the database and the role as `{database}`
/// and `{role}`.
async fn test_refusal(refuse: &str, accept: &str) {
    let test = async |database: TestDatabase| {
        let server = database.with_name("postgres");
        let (role, own_database) = database.with_new_role().await;
        let TestDatabase::Postgres { name, .. } = &database else { panic!("not Postgres") };
        let fill_in = |text: &str| text.replace("{database}", name).replace("{role}", &role);
        server.execute(fill_in("alter database {database} owner to {role}")).await;
        let app = TestApp::start(&own_database).await;
        let token = app.register_and_log_in("alice").await;

        for statement in refuse.split(';').chain([TERMINATE]) {
            server.execute(fill_in(statement)).await;
        }
        eventually("the database refuses", async || {
            app.log_in("alice", "correct horse").await.status != 200
        })
        .await;
        assert_unavailable(&app.log_in("alice", "correct horse").await);
        assert_unavailable(&app.log_out(&token).await);
        assert_eq!(app.get("/health/ready").await.status, 503);

        server.execute(fill_in(accept)).await;
        eventually("a login succeeds", async || {
            app.log_in("alice", "correct horse").await.status == 200
        })
        .await;
        assert_eq!(app.log_out(&token).await.status, 200);
    };
    TestDatabase::postgres().await.run(test).await;
}

const TERMINATE: &str = "select pg_terminate_backend(pid) from pg_stat_activity
                         where datname like '{database}%' and usename = '{role}'";

#[actix_web::test]
async fn refused_role_is_a_passing_failure() {
    test_refusal("alter role {role} nologin", "alter role {role} login").await;
}

#[actix_web::test]
async fn missing_database_is_a_passing_failure() {
    let refuse = "alter database {database} allow_connections false;
                  select pg_terminate_backend(pid) from pg_stat_activity
                  where datname = '{database}';
                  alter database {database} rename to {database}_away;
                  alter database {database}_away allow_connections true";
    test_refusal(refuse, "alter database {database}_away rename to {database}").await;
}

#[actix_web::test]
async fn database_without_connections_is_a_passing_failure() {
    let accept = "alter database {database} allow_connections true";
    test_refusal("alter database {database} allow_connections false", accept).await;
}

#[actix_web::test]
async fn read_only_database_is_a_passing_failure() {
    let refuse = "alter database {database} set default_transaction_read_only = on";
    test_refusal(refuse, "alter database {database} reset default_transaction_read_only").await;
}

#[actix_web::test]
async fn lock_timeout_is_a_passing_failure() {
    let test = async |database: TestDatabase| {
        let (role, own_database) = database.with_new_role().await;
        database.execute(format!("alter schema public owner to {role}")).await;
        database.execute(format!("alter role {role} set lock_timeout = '100ms'")).await;
        let app = TestApp::start(&own_database).await;
        let token = app.register_and_log_in("alice").await;
        let mut other_connection = database.connect().await;

        let lock = "begin; select from users for update; select from sessions for update";
        other_connection.execute(lock).await.unwrap();
        assert_unavailable(&app.log_in("alice", "correct horse").await);
        assert_unavailable(&app.log_out(&token).await);
        other_connection.execute("rollback").await.unwrap();

        assert_eq!(app.log_in("alice", "correct horse").await.status, 200);
        assert_eq!(app.log_out(&token).await.status, 200);
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn abandoned_begin_leaves_no_open_transaction() {
    let test = async |database: TestDatabase| {
        let pooler = PgBouncer::start(&database).await;
        let settings = DatabaseSettings {
            database: pooler.database.config_in(PoolMode::Transaction),
            max_connections: 4,
            acquire_timeout: Duration::from_secs(30),
        };
        let store = store::open(&settings, SchemaPolicy::Migrate, &|_| {}).await.unwrap();
        // Both connections of the pooler are in use.
        let options: PgConnectOptions = pooler.database.url().parse().unwrap();
        let options = options.extra_float_digits(None);
        let mut others = [options.connect().await.unwrap(), options.connect().await.unwrap()];
        for other in &mut others {
            other.execute("begin").await.unwrap();
        }

        // Two connections: one of them waits for its first transaction, not for a check.
        let find = || store.find_user(UserId::random());
        let abandoned = [find(), find(), find()].map(|find| timeout(SHORT, find));
        assert!(join_all(abandoned).await.iter().all(Result::is_err));
        for other in &mut others {
            other.execute("rollback").await.unwrap();
        }

        // Without the timeout of the server, which would end the transactions in the end.
        eventually("the pool has its connections back", async || store.pool_status().in_use == 0)
            .await;
        let count = "select count(*) from pg_stat_activity
                     where datname = current_database() and state like 'idle in transaction%'";
        let open_transactions = database.connect().await.fetch_one(count).await.unwrap();
        assert_eq!(open_transactions.get::<i64, _>(0), 0);
        find().await.unwrap();
    };
    TestDatabase::postgres().await.run(test).await;
}

/// A folder in memory that is full after a megabyte; `None` if this user may not mount it.
struct SmallDisk(Arc<TempDir>);

impl SmallDisk {
    async fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=1m", "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(folder.path()).output().await;
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(Arc::new(folder)));
        }
        print_skipped("only root may mount a small disk");
        None
    }

    fn fill(&self) {
        let mut file = File::create(self.0.path().join("filler")).unwrap();
        while file.write(&[1; 4096]).is_ok_and(|count| count > 0) {}
    }

    fn make_room(&self) {
        fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmount =
            std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(unmount.is_ok_and(|status| status.success()));
    }
}

#[actix_web::test]
async fn full_disk_recovers_without_restart() {
    let Some(disk) = SmallDisk::mount().await else { return };
    let database = TestDatabase::Sqlite(Arc::clone(&disk.0));
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;

    disk.fill();
    for _ in 0..8 {
        assert_unavailable(&app.log_in("alice", "correct horse").await);
        assert_unavailable(&app.log_out(&token).await);
        assert_eq!(app.get("/health/ready").await.status, 503);
    }
    assert_eq!(app.dashboard(&token).await.status, 200);
    disk.make_room();

    eventually("it is ready", async || app.get("/health/ready").await.status == 200).await;
    for _ in 0..8 {
        assert_eq!(app.log_in("alice", "correct horse").await.status, 200);
    }
    assert_eq!(app.log_out(&token).await.status, 200);
    assert_eq!(app.dashboard(&token).await.status, 401);
}
