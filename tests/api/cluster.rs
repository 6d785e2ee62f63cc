//! The revocation guarantee across instances, tested with real processes, a real Postgres and real
//! faults: once a logout is acknowledged, no instance accepts the token for longer than the bound.
//! Valid tokens are accepted again after a fault, and no instance needs a restart.
//! `docs/revocation.md` defines the guarantee and argues for it.

use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use sqlx::Executor;

use crate::support::{
    Cluster, PgBouncer, PostgresServer, Process, Proxy, ProxyMode, TestDatabase, eventually,
    wait_past_the_bound,
};

/// Number of logouts that are timed. To print the figures, run
/// `cargo test logout_reaches_every_instance -- --nocapture`.
const LOGOUTS: usize = 1_000;

/// Prints a figure, which `--nocapture` shows.
#[expect(clippy::print_stderr, reason = "the figures inform people; no test asserts them")]
fn print_figure(description: &str, figure: impl std::fmt::Debug) {
    eprintln!("{description}: {figure:?}");
}

/// Runs a statement that terminates connections every 20 ms, for longer than the bound.
async fn keep_terminating(database: &TestDatabase, terminate_connections: &'static str) {
    let mut connection = database.connect().await;
    let terminate = async {
        loop {
            connection.execute(terminate_connections).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = terminate => {}
        () = wait_past_the_bound() => {}
    }
}

#[actix_web::test]
async fn logout_reaches_every_instance() {
    let test = async |database: TestDatabase| {
        let cluster = Cluster::start(&[&database; 3]).await;
        let mut times_to_refusal = Vec::new();
        for _ in 0..LOGOUTS {
            let token = cluster.issue_token();
            assert_eq!(cluster.app(2).dashboard(&token).await.status, 200);
            eventually("the logout succeeds", || cluster.log_out(0, token.clone())).await;
            times_to_refusal.push(cluster.time_to_refusal(2).await);
        }
        times_to_refusal.sort();
        let percentiles = [LOGOUTS / 2, LOGOUTS / 100 * 99, LOGOUTS - 1];
        print_figure(
            "time from the acknowledgement to the first refusal elsewhere (p50, p99, max)",
            percentiles.map(|rank| times_to_refusal[rank]),
        );
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn bound_holds_for_two_sqlite_processes() {
    let database = TestDatabase::sqlite();
    let cluster = Cluster::start(&[&database; 2]).await;
    let longest = cluster.watch_during(&[0, 1], wait_past_the_bound()).await;
    print_figure("longest acceptance, SQLite, polled every second", longest);
}

#[actix_web::test]
async fn bound_holds_while_listeners_are_disconnected() {
    let test = async |database: TestDatabase| {
        let cluster = Cluster::start(&[&database; 2]).await;
        let listeners = "select pg_terminate_backend(pid) from pg_stat_activity
                         where datname = current_database() and query ilike 'listen%'";
        let longest = cluster.watch_during(&[0, 1], keep_terminating(&database, listeners)).await;
        print_figure("longest acceptance, listeners disconnected", longest);
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn bound_holds_while_connections_are_terminated() {
    let test = async |database: TestDatabase| {
        let cluster = Cluster::start(&[&database; 2]).await;
        let connections = "select pg_terminate_backend(pid) from pg_stat_activity
                   where datname = current_database() and pid <> pg_backend_pid()";
        let longest = cluster.watch_during(&[0, 1], keep_terminating(&database, connections)).await;
        print_figure("longest acceptance, all connections terminated", longest);
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn bound_holds_when_postgres_crashes() {
    let mut server = PostgresServer::start().await;
    let cluster = Cluster::start(&[&server.database; 3]).await;
    let fault = async {
        server.crash().await;
        wait_past_the_bound().await;
        server.start_again().await;
    };
    let longest = cluster.watch_during(&[0, 1, 2], fault).await;
    print_figure("longest acceptance, Postgres crashed", longest);
    server.shut_down().await;
}

#[actix_web::test]
async fn bound_holds_when_postgres_freezes() {
    let mut server = PostgresServer::start().await;
    let cluster = Cluster::start(&[&server.database; 2]).await;
    let fault = async {
        server.freeze().await;
        wait_past_the_bound().await;
        server.thaw().await;
    };
    let longest = cluster.watch_during(&[0, 1], fault).await;
    print_figure("longest acceptance, Postgres frozen", longest);
    server.shut_down().await;
}

/// Tests the bound while a proxy separates one of two instances from the database.
async fn test_bound_with_proxy_mode(mode: ProxyMode) {
    let test = async |database: TestDatabase| {
        let proxy = Proxy::start(&database).await;
        let cluster = Cluster::start(&[&database, &proxy.database]).await;
        let fault = async {
            proxy.set_mode(mode);
            wait_past_the_bound().await;
            let readiness = cluster.app(1).get("/health/ready").await;
            assert_eq!(readiness.status, 503);
            proxy.set_mode(ProxyMode::Forward);
        };
        let longest = cluster.watch_during(&[0], fault).await;
        print_figure("longest acceptance, an instance cut off", longest);
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn bound_holds_when_instance_is_disconnected() {
    test_bound_with_proxy_mode(ProxyMode::Cut).await;
}

#[actix_web::test]
async fn bound_holds_when_instance_connections_stall() {
    test_bound_with_proxy_mode(ProxyMode::Stall).await;
}

#[actix_web::test]
async fn bound_holds_when_instance_connections_reset() {
    test_bound_with_proxy_mode(ProxyMode::Reset).await;
}

#[actix_web::test]
async fn bound_holds_when_instance_freezes() {
    let test = async |database: TestDatabase| {
        let cluster = Cluster::start(&[&database; 2]).await;
        let fault = async {
            for _ in 0..2 {
                cluster.instances[1].send_signal(Signal::STOP);
                wait_past_the_bound().await;
                cluster.instances[1].send_signal(Signal::CONT);
            }
        };
        let longest = cluster.watch_during(&[0], fault).await;
        print_figure("longest acceptance, an instance frozen", longest);
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn joining_instance_learns_concurrent_logouts() {
    let test = async |database: TestDatabase| {
        let cluster = Cluster::start(&[&database]).await;
        let tokens: Vec<_> = (0..400).map(|_| cluster.issue_token()).collect();
        let logouts = join_all(tokens.iter().map(|token| cluster.log_out(0, token.clone())));
        let mut command = Cluster::command(&database);
        let joining = Process::spawn(&mut command);
        let (acknowledgements, joined) = futures_util::future::join(logouts, joining).await;
        assert!(acknowledgements.into_iter().all(|is_acknowledged| is_acknowledged));

        for token in &tokens {
            let is_refused = async || joined.app.dashboard(token).await.status == 401;
            eventually("the new instance refuses a token", is_refused).await;
        }
        // An instance knows all earlier logouts as soon as it is ready.
        let late = Process::spawn(&mut Cluster::command(&database)).await;
        let replies = join_all(tokens.iter().map(|token| late.app.dashboard(token))).await;
        assert!(replies.iter().all(|reply| reply.status == 401));
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn bound_holds_during_long_transaction() {
    let test = async |database: TestDatabase| {
        let mut connection = database.connect().await;
        connection.execute("begin; select pg_current_xact_id()").await.unwrap();
        let cluster = Cluster::start(&[&database; 2]).await;
        let longest = cluster.watch_during(&[0], wait_past_the_bound()).await;
        print_figure("longest acceptance, a long transaction open", longest);
        connection.execute("commit").await.unwrap();
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn bound_holds_when_dump_is_restored() {
    let mut server = PostgresServer::start().await;
    server.run_command(r#"psql -qc "create database restored" "$TEST_DATABASE_URL""#).await;
    let database = server.database.with_name("restored");
    let cluster = Cluster::start(&[&database; 2]).await;
    let restore = r#"
        url=${TEST_DATABASE_URL%/*}/restored && pg_dump "$url" >"$data/dump" &&
        psql -qc "drop database restored with (force)" "$TEST_DATABASE_URL" &&
        psql -qc "create database restored" "$TEST_DATABASE_URL" && psql -qf "$data/dump" "$url""#;
    let fault = async {
        // No logouts meanwhile: a logout between the dump and the restore is lost.
        cluster.log_out_several(0).await;
        server.run_command(&restore.replace('\n', " ")).await;
        cluster.log_out_several(0).await;
        wait_past_the_bound().await;
    };
    cluster.watch_during(&[], fault).await;
    assert!(cluster.app(1).metric("portcullis_revocation_feed_loads_total").await > 1);
    server.shut_down().await;
}

#[actix_web::test]
async fn bound_holds_when_database_is_replaced() {
    let mut server = PostgresServer::start().await;
    // Its transaction IDs start from the beginning.
    let mut replacement = PostgresServer::start().await;
    let proxy = Proxy::start(&server.database).await;
    let cluster = Cluster::start(&[&proxy.database; 2]).await;
    let dump_file = tempfile::NamedTempFile::new().unwrap();
    let dump = dump_file.path().display();
    let fault = async {
        for _ in 0..20 {
            cluster.log_out_several(0).await;
        }
        server.run_command(&format!(r#"pg_dump "$TEST_DATABASE_URL" >{dump}"#)).await;
        replacement.run_command(&format!(r#"psql -qf {dump} "$TEST_DATABASE_URL""#)).await;
        proxy.redirect_to(&replacement.database);
        cluster.log_out_several(0).await;
        wait_past_the_bound().await;
    };
    cluster.watch_during(&[], fault).await;
    assert!(cluster.app(1).metric("portcullis_revocation_feed_loads_total").await > 1);
    server.shut_down().await;
    replacement.shut_down().await;
}

#[actix_web::test]
async fn bound_holds_when_replica_takes_over() {
    let mut server = PostgresServer::start().await;
    let replica = server.add_replica().await;
    let proxy = Proxy::start(&server.database).await;
    let cluster = Cluster::start(&[&proxy.database; 2]).await;
    let fault = async {
        cluster.log_out_several(0).await;
        server.crash().await;
        proxy.redirect_to(&replica);
        wait_past_the_bound().await;
        for index in [0, 1] {
            // A replica may lag, so reading from it does not prove freshness.
            assert_eq!(cluster.app(index).get("/health/ready").await.status, 503);
        }
        server.run_command("replica promote").await;
        cluster.log_out_several(0).await;
    };
    let longest = cluster.watch_during(&[0, 1], fault).await;
    print_figure("longest acceptance, a replica took over", longest);
    server.shut_down().await;
}

#[actix_web::test]
async fn answers_stay_correct_beyond_capacity() {
    let test = async |database: TestDatabase| {
        let mut processes = Vec::new();
        for _ in 0..2 {
            let mut command = Cluster::command(&database);
            processes.push(Process::spawn(command.env("REVOCATION_CAPACITY", "10")).await);
        }
        let cluster = Cluster::new(processes);
        cluster.watch_during(&[0, 1], wait_past_the_bound()).await;
        for index in 0..2 {
            let app = cluster.app(index);
            assert_eq!(app.metric("portcullis_revocation_replica_complete").await, 0);
            let revoked = r#"portcullis_revocation_checks_total{result="fallback_revoked"}"#;
            assert!(app.metric(revoked).await > 0);
        }
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn bound_holds_behind_transaction_pooler() {
    let test = async |database: TestDatabase| {
        let pooler = PgBouncer::start(&database).await;
        let mut processes = Vec::new();
        for listen_url in ["", &database.url()] {
            let mut command = Cluster::command(&pooler.database);
            command.env("DATABASE_POOL_MODE", "transaction").env("DATABASE_LISTEN_URL", listen_url);
            processes.push(Process::spawn(&mut command).await);
        }
        let cluster = Cluster::new(processes);
        for (index, name) in ["alice", "bob"].into_iter().enumerate() {
            let app = cluster.app(index);
            join_all((0..8).map(|_| app.register(name, "correct horse"))).await;
            let logins = join_all((0..8).map(|_| app.log_in(name, "correct horse"))).await;
            assert!(logins.iter().all(|reply| reply.status == 200), "{logins:?}");
        }

        let longest = cluster.watch_during(&[0, 1], wait_past_the_bound()).await;

        print_figure("longest acceptance, behind PgBouncer in transaction mode", longest);
        let connected = "portcullis_revocation_listener_connected";
        assert!(
            !cluster.app(0).get("/metrics").await.text.contains(connected),
            "without a listen URL it only polls"
        );
        assert_eq!(cluster.app(1).metric(connected).await, 1);
    };
    TestDatabase::postgres().await.run(test).await;
}
