//! The promise across instances, with real processes, a real Postgres and real trouble: a token whose
//! logout was acknowledged anywhere is accepted nowhere beyond the bound, no valid one is refused for
//! good, and nobody needs a restart. `docs/revocation.md` has the promise and the argument.

use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use sqlx::Executor;

use crate::support::{
    Cluster, PgBouncer, Process, Proxy, Server, TestDatabase, Traffic, eventually,
    for_longer_than_the_bound,
};

/// Logouts whose way to the other instances is timed. `cargo test a_logout_spreads -- --nocapture`
/// prints the figures.
const LOGOUTS: usize = 1_000;

/// Writes down a figure, for `--nocapture`.
#[expect(clippy::print_stderr, reason = "figures are for people; nothing is asserted about them")]
fn note(what: &str, figure: impl std::fmt::Debug) {
    eprintln!("{what}: {figure:?}");
}

/// Terminates backends again and again, as long as the bound and longer.
async fn terminate_again_and_again(database: &TestDatabase, which: &'static str) {
    let mut other = database.connect().await;
    let terminate = async {
        loop {
            other.execute(which).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = terminate => {}
        () = for_longer_than_the_bound() => {}
    }
}

#[actix_web::test]
async fn a_logout_spreads_to_every_instance() {
    let spread = async |database: TestDatabase| {
        let cluster = Cluster::start(&[&database; 3]).await;
        let mut times = Vec::new();
        for _ in 0..LOGOUTS {
            let token = cluster.token();
            assert_eq!(cluster.app(2).dashboard(&token).await.status, 200);
            eventually("a logout", || cluster.log_out(0, token.clone())).await;
            times.push(cluster.time_to_refusal(2).await);
        }
        times.sort();
        let [p50, p99, max] =
            [LOGOUTS / 2, LOGOUTS / 100 * 99, LOGOUTS - 1].map(|rank| times[rank]);
        note(
            "time from the acknowledgement to the first refusal elsewhere (p50, p99, max)",
            [p50, p99, max],
        );
    };
    TestDatabase::postgres().await.lend(spread).await;
}

#[actix_web::test]
async fn the_bound_holds_between_two_processes_on_one_file() {
    let database = TestDatabase::sqlite();
    let cluster = Cluster::start(&[&database; 2]).await;
    let worst = cluster.watch(&[0, 1], for_longer_than_the_bound()).await;
    note("worst acceptance, SQLite, polled every second", worst);
}

#[actix_web::test]
async fn the_bound_holds_when_the_listeners_are_disconnected_again_and_again() {
    let disconnected = async |database: TestDatabase| {
        let cluster = Cluster::start(&[&database; 2]).await;
        let listeners = "select pg_terminate_backend(pid) from pg_stat_activity
                         where datname = current_database() and query ilike 'listen%'";
        let worst = cluster.watch(&[0, 1], terminate_again_and_again(&database, listeners)).await;
        note("worst acceptance, listeners disconnected", worst);
    };
    TestDatabase::postgres().await.lend(disconnected).await;
}

#[actix_web::test]
async fn the_bound_holds_when_every_connection_is_terminated_again_and_again() {
    let terminated = async |database: TestDatabase| {
        let cluster = Cluster::start(&[&database; 2]).await;
        let all = "select pg_terminate_backend(pid) from pg_stat_activity
                   where datname = current_database() and pid <> pg_backend_pid()";
        let worst = cluster.watch(&[0, 1], terminate_again_and_again(&database, all)).await;
        note("worst acceptance, all connections terminated", worst);
    };
    TestDatabase::postgres().await.lend(terminated).await;
}

#[actix_web::test]
async fn the_bound_holds_when_postgres_crashes_and_comes_back() {
    let mut server = Server::start().await;
    let cluster = Cluster::start(&[&server.database; 3]).await;
    let trouble = async {
        server.crash().await;
        for_longer_than_the_bound().await;
        server.start_again().await;
    };
    let worst = cluster.watch(&[0, 1, 2], trouble).await;
    note("worst acceptance, Postgres crashed", worst);
    server.end().await;
}

#[actix_web::test]
async fn the_bound_holds_when_postgres_freezes() {
    let mut server = Server::start().await;
    let cluster = Cluster::start(&[&server.database; 2]).await;
    let trouble = async {
        server.freeze().await;
        for_longer_than_the_bound().await;
        server.thaw().await;
    };
    let worst = cluster.watch(&[0, 1], trouble).await;
    note("worst acceptance, Postgres frozen", worst);
    server.end().await;
}

/// One of two instances loses the database in one way or another.
async fn an_instance_is_cut_off(traffic: Traffic) {
    let cut_off = async |database: TestDatabase| {
        let proxy = Proxy::before(&database).await;
        let cluster = Cluster::start(&[&database, &proxy.database]).await;
        let trouble = async {
            proxy.set(traffic);
            for_longer_than_the_bound().await;
            let stale = cluster.app(1).get("/health/ready").await;
            assert_eq!(stale.status, 503);
            proxy.set(Traffic::Flows);
        };
        let worst = cluster.watch(&[0], trouble).await;
        note("worst acceptance, an instance cut off", worst);
    };
    TestDatabase::postgres().await.lend(cut_off).await;
}

#[actix_web::test]
async fn the_bound_holds_when_an_instance_is_disconnected() {
    an_instance_is_cut_off(Traffic::IsCut).await;
}

#[actix_web::test]
async fn the_bound_holds_when_an_instance_is_cut_off_without_a_word() {
    an_instance_is_cut_off(Traffic::Stalls).await;
}

#[actix_web::test]
async fn the_bound_holds_when_the_connections_of_an_instance_are_reset() {
    an_instance_is_cut_off(Traffic::IsReset).await;
}

#[actix_web::test]
async fn the_bound_holds_for_an_instance_that_was_frozen() {
    let frozen = async |database: TestDatabase| {
        let cluster = Cluster::start(&[&database; 2]).await;
        let trouble = async {
            for _ in 0..2 {
                cluster.instances[1].signal(Signal::STOP);
                for_longer_than_the_bound().await;
                cluster.instances[1].signal(Signal::CONT);
            }
        };
        let worst = cluster.watch(&[0], trouble).await;
        note("worst acceptance, an instance frozen", worst);
    };
    TestDatabase::postgres().await.lend(frozen).await;
}

#[actix_web::test]
async fn an_instance_that_joins_in_a_storm_of_logouts_knows_them_all() {
    let joined = async |database: TestDatabase| {
        let cluster = Cluster::start(&[&database]).await;
        let tokens: Vec<_> = (0..400).map(|_| cluster.token()).collect();
        let storm = join_all(tokens.iter().map(|token| cluster.log_out(0, token.clone())));
        let (logged_out, newcomer) =
            futures_util::future::join(storm, Process::spawn(&mut Cluster::command(&database)))
                .await;
        assert!(logged_out.into_iter().all(|acknowledged| acknowledged));

        for token in &tokens {
            let is_refused = async || newcomer.app.dashboard(token).await.status == 401;
            eventually("a refusal", is_refused).await;
        }
        // What was there before it was ready, it knew from the start.
        let another = Process::spawn(&mut Cluster::command(&database)).await;
        let replies = join_all(tokens.iter().map(|token| another.app.dashboard(token))).await;
        assert!(replies.iter().all(|reply| reply.status == 401));
    };
    TestDatabase::postgres().await.lend(joined).await;
}

#[actix_web::test]
async fn the_bound_holds_while_a_long_transaction_is_open_elsewhere() {
    let long = async |database: TestDatabase| {
        let mut other = database.connect().await;
        other.execute("begin; select pg_current_xact_id()").await.unwrap();
        let cluster = Cluster::start(&[&database; 2]).await;
        let worst = cluster.watch(&[0], for_longer_than_the_bound()).await;
        note("worst acceptance, a long transaction open", worst);
        other.execute("commit").await.unwrap();
    };
    TestDatabase::postgres().await.lend(long).await;
}

#[actix_web::test]
async fn the_bound_holds_when_the_database_is_restored_from_a_dump() {
    let mut server = Server::start().await;
    server.order(r#"psql -qc "create database restored" "$TEST_DATABASE_URL""#).await;
    let database = server.database.beside("restored");
    let cluster = Cluster::start(&[&database; 2]).await;
    let restore = r#"
        of=${TEST_DATABASE_URL%/*}/restored && pg_dump "$of" >"$data/dump" &&
        psql -qc "drop database restored with (force)" "$TEST_DATABASE_URL" &&
        psql -qc "create database restored" "$TEST_DATABASE_URL" && psql -qf "$data/dump" "$of""#;
    let trouble = async {
        // What is logged out after the dump was taken is lost with it: nobody writes meanwhile.
        cluster.log_out_some(0).await;
        server.order(&restore.replace('\n', " ")).await;
        cluster.log_out_some(0).await;
        for_longer_than_the_bound().await;
    };
    cluster.watch(&[], trouble).await;
    assert!(cluster.app(1).metric("portcullis_revocation_feed_loads_total").await > 1);
    server.end().await;
}

#[actix_web::test]
async fn the_bound_holds_when_the_database_is_replaced_by_one_that_counts_from_the_beginning() {
    let (mut server, mut replacement) = (Server::start().await, Server::start().await);
    let proxy = Proxy::before(&server.database).await;
    let cluster = Cluster::start(&[&proxy.database; 2]).await;
    let dump = tempfile::NamedTempFile::new().unwrap();
    let dump = dump.path().display();
    let trouble = async {
        for _ in 0..20 {
            cluster.log_out_some(0).await;
        }
        server.order(&format!(r#"pg_dump "$TEST_DATABASE_URL" >{dump}"#)).await;
        replacement.order(&format!(r#"psql -qf {dump} "$TEST_DATABASE_URL""#)).await;
        proxy.lead_to(&replacement.database);
        cluster.log_out_some(0).await;
        for_longer_than_the_bound().await;
    };
    cluster.watch(&[], trouble).await;
    assert!(cluster.app(1).metric("portcullis_revocation_feed_loads_total").await > 1);
    server.end().await;
    replacement.end().await;
}

#[actix_web::test]
async fn the_bound_holds_when_a_replica_takes_over_and_while_it_has_not_yet() {
    let mut server = Server::start().await;
    let replica = server.replicate().await;
    let proxy = Proxy::before(&server.database).await;
    let cluster = Cluster::start(&[&proxy.database; 2]).await;
    let trouble = async {
        cluster.log_out_some(0).await;
        server.crash().await;
        proxy.lead_to(&replica);
        for_longer_than_the_bound().await;
        for index in [0, 1] {
            // A replica may lag: what it says is no news.
            assert_eq!(cluster.app(index).get("/health/ready").await.status, 503);
        }
        server.order("replica promote").await;
        cluster.log_out_some(0).await;
    };
    let worst = cluster.watch(&[0, 1], trouble).await;
    note("worst acceptance, a replica took over", worst);
    server.end().await;
}

#[actix_web::test]
async fn answers_are_right_with_far_more_revocations_than_there_is_room_for() {
    let crowded = async |database: TestDatabase| {
        let mut processes = Vec::new();
        for _ in 0..2 {
            let mut command = Cluster::command(&database);
            processes.push(Process::spawn(command.env("REVOCATION_CAPACITY", "10")).await);
        }
        let cluster = Cluster::of(processes);
        cluster.watch(&[0, 1], for_longer_than_the_bound()).await;
        for index in 0..2 {
            let app = cluster.app(index);
            assert_eq!(app.metric("portcullis_revocation_replica_complete").await, 0);
            let revoked = r#"portcullis_revocation_checks_total{result="fallback_revoked"}"#;
            assert!(app.metric(revoked).await > 0);
        }
    };
    TestDatabase::postgres().await.lend(crowded).await;
}

#[actix_web::test]
async fn the_bound_holds_behind_a_pooler_that_lends_connections_for_a_transaction() {
    let pooled = async |database: TestDatabase| {
        let pooler = PgBouncer::before(&database).await;
        let mut processes = Vec::new();
        for listen_url in ["", &database.url()] {
            let mut command = Cluster::command(&pooler.database);
            command.env("DATABASE_POOL_MODE", "transaction").env("DATABASE_LISTEN_URL", listen_url);
            processes.push(Process::spawn(&mut command).await);
        }
        let cluster = Cluster::of(processes);
        for (index, name) in ["alice", "bob"].into_iter().enumerate() {
            let app = cluster.app(index);
            join_all((0..8).map(|_| app.register(name, "correct horse"))).await;
            let logins = join_all((0..8).map(|_| app.log_in(name, "correct horse"))).await;
            assert!(logins.iter().all(|reply| reply.status == 200), "{logins:?}");
        }

        let worst = cluster.watch(&[0, 1], for_longer_than_the_bound()).await;

        note("worst acceptance, behind PgBouncer in transaction mode", worst);
        let connected = "portcullis_revocation_listener_connected";
        assert!(!cluster.app(0).get("/metrics").await.text.contains(connected), "it only polls");
        assert_eq!(cluster.app(1).metric(connected).await, 1);
    };
    TestDatabase::postgres().await.lend(pooled).await;
}
