//! The signing keys when a process is killed in the middle of a change, and when the database is
//! restored from a dump.

use std::cell::RefCell;

use crate::keys::{NEW_SECRET, header_of, list_keys, published_keys, rotate, states, with_secrets};
use crate::support::{PostgresServer, Process, Proxy, ProxyMode, TestDatabase, eventually};

/// Every change of the keys begins with a message that contains this.
const FIRST_MESSAGE: &str = "root_key_wrappings";

/// Runs an operation again and again, each time until another one of its messages to the database,
/// from the first to the last. The database gets that message; the process is killed without a
/// reply. Calls `check` after each.
async fn kill_at_each_message(
    database: &TestDatabase,
    run: impl AsyncFn(&TestDatabase),
    check: impl AsyncFn(),
) {
    for count in 0.. {
        let proxy = Proxy::start(database).await;
        proxy.stall_after(FIRST_MESSAGE, count);
        let is_over = tokio::select! {
            biased;
            // Dropping the operation kills its process.
            () = proxy.stalled() => false,
            () = run(&proxy.database) => true,
        };
        // The server notices that the client has gone.
        proxy.set_mode(ProxyMode::Cut);
        check().await;
        if is_over {
            assert!(count > 5, "the operation sends several messages");
            return;
        }
    }
}

/// Returns `true` if a secret opens the keys: `key rotate` gets as far as the pending key, which
/// is too new.
async fn opens_keys(database: &TestDatabase, secret: &str) -> bool {
    let mut command = with_secrets(database, secret, "");
    let output = command.args(["key", "rotate"]).output().await.unwrap();
    match output.status.code() {
        Some(4) => true,
        Some(1) => false,
        _ => panic!("{output:?}"),
    }
}

/// Makes the pending key old enough to sign.
const AGE_KEYS: &str = "update signing_keys set published_at = published_at - interval '1 day', \
                        known_at = known_at - interval '1 day'";

#[actix_web::test]
async fn rotation_that_is_killed_is_whole_or_undone() {
    let test = async |database: TestDatabase| {
        let process = Process::start(&database).await;
        let app = &process.app;
        let admin = app.register_admin(&database).await;
        let tokens = RefCell::new(vec![admin.clone()]);

        let rotate = async |database: &TestDatabase| {
            database.execute(AGE_KEYS).await;
            let mut command = Process::command(database);
            let output = command.args(["key", "rotate"]).output().await.unwrap();
            assert_eq!(output.status.code(), Some(0), "{output:?}");
        };
        let check = async || {
            let keys = list_keys(app, &admin).await;
            let states = states(&keys);
            let count = |state: &str| states.iter().filter(|one| **one == state).count();
            assert_eq!((count("active"), count("pending")), (1, 1), "{states:?}");
            let token = app.log_in_for_token("root").await;
            tokens.borrow_mut().push(token);
        };
        kill_at_each_message(&database, rotate, check).await;

        for token in &tokens.into_inner() {
            assert_eq!(app.dashboard(token).await.status, 200);
        }
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn first_start_that_is_killed_is_completed_by_the_next() {
    let test = async |database: TestDatabase| {
        let migrate = Process::command(&database).arg("migrate").output().await.unwrap();
        assert!(migrate.status.success(), "{migrate:?}");

        let start = async |database: &TestDatabase| {
            Process::start(database).await;
        };
        let check = async || {
            let process = Process::start(&database).await;
            let admin = process.app.register_admin(&database).await;
            let keys = list_keys(&process.app, &admin).await;
            assert_eq!(states(&keys), ["active", "pending"]);
            assert_eq!(process.app.dashboard(&admin).await.status, 200);
            for table in ["sessions", "users", "signing_keys", "root_key_wrappings"] {
                database.execute(format!("delete from {table}")).await;
            }
        };
        kill_at_each_message(&database, start, check).await;
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn change_of_the_secret_that_is_killed_locks_no_secret_out() {
    let test = async |database: TestDatabase| {
        let former = Process::start(&database).await;
        let session = former.app.register_and_open_session("alice").await;

        let change = async |database: &TestDatabase| {
            Process::spawn(&mut with_secrets(database, NEW_SECRET, Process::KEY)).await;
        };
        let check = async || assert!(opens_keys(&database, Process::KEY).await);
        kill_at_each_message(&database, change, check).await;
        assert!(opens_keys(&database, NEW_SECRET).await);

        let retire = async |database: &TestDatabase| {
            let mut command = with_secrets(database, NEW_SECRET, "");
            let output = command.args(["secret", "retire"]).output().await.unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        let check = async || assert!(opens_keys(&database, NEW_SECRET).await);
        kill_at_each_message(&database, retire, check).await;
        assert!(!opens_keys(&database, Process::KEY).await);

        let process = Process::spawn(&mut with_secrets(&database, NEW_SECRET, "")).await;
        assert_eq!(process.app.dashboard(&session.access_token()).await.status, 200);
        assert_eq!(process.app.refresh(&session.refresh_token()).await.status, 200);
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn restored_dump_ends_the_tokens_of_later_keys_without_a_restart() {
    let mut server = PostgresServer::start().await;
    server.run_command(r#"psql -qc "create database restored" "$TEST_DATABASE_URL""#).await;
    let database = server.database.with_name("restored");
    let process = Process::start(&database).await;
    let app = &process.app;
    let admin = app.register_admin(&database).await;
    let session = app.register_and_open_session("alice").await;
    let dumped = published_keys(app).await;
    server.run_command(r#"pg_dump "${TEST_DATABASE_URL%/*}/restored" >"$data/dump""#).await;
    for _ in 0..2 {
        database.execute(AGE_KEYS).await;
        assert_eq!(rotate(app, &admin).await.status, 200);
    }
    let later = app.log_in("alice", "correct horse").await;
    let key = &header_of(&later.access_token())["kid"];
    assert!(dumped.iter().all(|dumped| dumped["kid"] != *key), "the dump lacks the key");

    let restore = r#"
        psql -qc "drop database restored with (force)" "$TEST_DATABASE_URL" &&
        psql -qc "create database restored" "$TEST_DATABASE_URL" &&
        psql -qf "$data/dump" "${TEST_DATABASE_URL%/*}/restored""#;
    server.run_command(&restore.replace('\n', " ")).await;

    eventually("the token of a later key is refused", async || {
        let reply = app.dashboard(&later.access_token()).await;
        reply.status == 401 && reply.body["code"] == "unknown_key"
    })
    .await;
    assert_eq!(published_keys(app).await, dumped);
    assert_eq!(app.refresh(&later.refresh_token()).await.status, 401);
    assert_eq!(app.dashboard(&session.access_token()).await.status, 200);
    assert_eq!(app.refresh(&session.refresh_token()).await.status, 200);
    let token = app.log_in_for_token("alice").await;
    assert_eq!(app.dashboard(&token).await.status, 200);
    database.execute(AGE_KEYS).await;
    assert_eq!(rotate(app, &admin).await.status, 200);
    server.shut_down().await;
}
