//! The program as operators meet it: starting, failing to start, being stopped, being killed.

use std::process::Output;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use rustix::process::Signal;

use crate::support::{Process, TestApp, TestDatabase, eventually, on_both_databases, try_send};

/// Runs the program to its end.
async fn output(command: &mut tokio::process::Command) -> (Output, String) {
    let output = command.stderr(std::process::Stdio::piped()).output().await.expect("it runs");
    let said = String::from_utf8(output.stderr.clone()).expect("text");
    (output, said)
}

on_both_databases! {
    async fn no_acknowledged_logout_is_lost_when_the_process_is_killed(database: TestDatabase) {
        let mut process = Process::start(&database).await;
        let app = process.app.clone();
        app.register("alice", "correct horse").await;
        let tokens = join_all((0..48).map(|_| app.another_token_of("alice"))).await;

        let mut storm: FuturesUnordered<_> = tokens
            .iter()
            .map(async |token| {
                let logout = app.request(reqwest::Method::POST, "/auth/logout").bearer_auth(token);
                try_send(logout).await.is_ok_and(|reply| reply.status == 200).then_some(token)
            })
            .collect();
        let mut acknowledged = Vec::new();
        while let Some(outcome) = storm.next().await {
            acknowledged.extend(outcome);
            if acknowledged.len() == 16 {
                process.signal(Signal::KILL);
            }
        }
        process.exit().await;

        assert!(acknowledged.len() >= 16, "{}", acknowledged.len());
        let restarted = Process::start(&database).await;
        for token in acknowledged {
            let refused = restarted.app.dashboard(token).await;
            refused.assert_error(401, "token_revoked", "Token has been revoked");
        }
    }

    async fn sigterm_under_load_loses_no_request_and_exits_with_0(database: TestDatabase) {
        let mut command = Process::command(&database);
        let mut process = Process::spawn(command.env("HASH_THREADS", "1")).await;
        let app = process.app.clone();
        let token = app.token_of("alice").await;
        let logins = join_all((0..24).map(|_| app.log_in("alice", "correct horse")));
        let checks = join_all((0..4).map(|_| async {
            // A client that keeps its connection until it is told to go elsewhere.
            let client = TestApp::at(app.address);
            loop {
                let reply = client.dashboard(&token).await;
                assert_eq!(reply.status, 200);
                if reply.header("connection") == Some("close") {
                    break;
                }
            }
        }));
        let stop = async {
            eventually("logins in the queue", async || {
                app.metric("portcullis_hash_queue_depth").await >= 4
            }).await;
            process.signal(Signal::TERM);
        };

        let (logins, _, ()) = tokio::join!(logins, checks, stop);

        assert!(logins.iter().all(|reply| reply.status == 200), "{logins:?}");
        assert_eq!(process.exit().await.code(), Some(0));
    }

    async fn several_processes_may_start_at_once_on_an_empty_database(database: TestDatabase) {
        let processes = join_all((0..3).map(|_| Process::start(&database))).await;

        processes[0].app.register("alice", "correct horse").await;
        for process in &processes {
            assert_eq!(process.app.log_in("alice", "correct horse").await.status, 200);
        }
    }

    async fn the_health_check_follows_the_instance(database: TestDatabase) {
        let mut process = Process::start(&database).await;
        let check = async |port: u16| {
            let mut command = Process::command(&database);
            output(command.arg("healthcheck").env("PORT", port.to_string())).await
        };
        let port = process.app.address.port();

        let (ready, said) = check(port).await;
        assert!(ready.status.success(), "{said}");

        process.signal(Signal::INT);
        assert_eq!(process.exit().await.code(), Some(0));
        let (gone, said) = check(port).await;
        assert_eq!(gone.status.code(), Some(1));
        assert!(said.starts_with("portcullis: cannot reach 127.0.0.1:"), "{said}");
    }
}

#[actix_web::test]
async fn a_second_signal_ends_it_at_once() {
    let database = TestDatabase::sqlite();
    // A login that would take minutes.
    let mut command = Process::command(&database);
    let mut process = Process::spawn(command.env("PBKDF2_ITERATIONS", "1000000000")).await;
    let app = process.app.clone();
    let login = actix_web::rt::spawn(async move {
        let body = crate::support::credentials("alice", "correct horse");
        try_send(app.request(reqwest::Method::POST, "/auth/login").json(&body)).await
    });
    let app = process.app.clone();
    eventually("a login at work", async || app.metric("portcullis_hash_queue_depth").await == 1)
        .await;

    process.signal(Signal::TERM);
    eventually("the shutdown", async || process.log().contains("shutting down")).await;
    process.signal(Signal::TERM);

    assert_eq!(process.exit().await.code(), Some(130));
    assert!(login.await.unwrap().is_err());
}

#[actix_web::test]
async fn a_port_that_is_taken_is_one_clear_line_and_a_failure() {
    let database = TestDatabase::sqlite();
    let process = Process::start(&database).await;
    let port = process.app.address.port();

    let mut command = Process::command(&database);
    let (failed, said) = output(command.env("PORT", port.to_string())).await;

    assert_eq!(failed.status.code(), Some(1));
    let line = format!(
        "portcullis: cannot listen on 127.0.0.1:{port} (HOST and PORT choose another address): "
    );
    assert!(said.starts_with(&line) && said.lines().count() == 1, "{said}");
}

#[actix_web::test]
async fn a_database_out_of_reach_is_one_clear_line_and_a_failure() {
    let database = TestDatabase::sqlite();
    let mut command = Process::command(&database);
    let url = "postgres://portcullis:hunter2@127.0.0.1:1/portcullis";
    let (failed, said) = output(command.env("DATABASE_URL", url)).await;

    assert_eq!(failed.status.code(), Some(1));
    let line = "portcullis: cannot open the database `portcullis` at 127.0.0.1:1: ";
    assert!(said.starts_with(line) && said.lines().count() == 1, "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[actix_web::test]
async fn bad_settings_are_all_reported_at_once() {
    let database = TestDatabase::sqlite();
    let mut command = Process::command(&database);
    command.env("PORT", "http").env("JWT_SECRET_KEY", "secret").env("HASH_THREADS", "many");
    let (failed, said) = output(&mut command).await;

    assert_eq!(failed.status.code(), Some(1));
    for variable in ["PORT must be", "JWT_SECRET_KEY is 6 bytes long", "HASH_THREADS must be"] {
        assert!(said.contains(variable), "{said}");
    }
}

#[actix_web::test]
async fn secrets_may_come_from_files() {
    let database = TestDatabase::sqlite();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let url = file("url", format!("{}\n", database.url()));
    let key = file("key", format!("{}\n", "k".repeat(32)));
    let mut command = Process::command(&database);
    command.env_remove("DATABASE_URL").env("DATABASE_URL_FILE", url);
    command.env_remove("JWT_SECRET_KEY").env("JWT_SECRET_KEY_FILE", key);

    let process = Process::spawn(command.current_dir(folder.path())).await;

    assert_eq!(process.app.register("alice", "correct horse").await.status, 201);
    let again = Process::start(&database).await;
    assert_eq!(again.app.log_in("alice", "correct horse").await.status, 200);
    assert!(!folder.path().join("data").exists(), "the default database was not touched");
}

#[actix_web::test]
async fn without_any_setting_it_makes_a_database_and_a_key_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.env_clear().env("PORT", "0").current_dir(folder.path());
    command.stdout(std::process::Stdio::piped()).kill_on_drop(true);

    let process = Process::spawn(&mut command).await;

    for name in ["portcullis.db", "portcullis.db-wal", "portcullis.key"] {
        let path = folder.path().join("data").join(name);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    for said in ["data/portcullis.db", "kept in data/portcullis.key", "http://127.0.0.1:"] {
        assert!(process.log().contains(said), "{}", process.log());
    }
}
