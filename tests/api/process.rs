//! The program as a process: startup, failed startup, shutdown and kill.

use std::process::{Output, Stdio};

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::{
    Process, Proxy, TestApp, TestDatabase, credentials, eventually, on_both_databases,
    print_skipped, try_send,
};

/// SQL that creates the role of the service in the Compose stack.
const SERVICE_ROLE: &str = include_str!("../../deploy/service-role.sql");

on_both_databases![
    acknowledged_logouts_survive_a_kill,
    sigterm_under_load_finishes_every_request,
    sighup_finishes_every_request,
    several_processes_start_on_empty_database,
    healthcheck_command_reports_the_instance,
    env_file_is_read_literally,
    newer_schema_is_refused_with_the_fix,
];

/// Runs the program until it exits. Returns its output, and its standard error as text.
async fn run_to_exit(command: &mut Command) -> (Output, String) {
    let output = command.stderr(Stdio::piped()).output().await.expect("the program runs");
    let stderr = String::from_utf8(output.stderr.clone()).expect("standard error is text");
    (output, stderr)
}

async fn acknowledged_logouts_survive_a_kill(database: TestDatabase) {
    let mut process = Process::start(&database).await;
    let app = process.app.clone();
    app.register("alice", "correct horse").await;
    let tokens = join_all((0..48).map(|_| app.log_in_for_token("alice"))).await;

    let mut logouts: FuturesUnordered<_> = tokens
        .iter()
        .map(async |token| {
            let logout = app.request(Method::POST, "/auth/logout").bearer_auth(token);
            try_send(logout).await.is_ok_and(|reply| reply.status == 200).then_some(token)
        })
        .collect();
    let mut acknowledged = Vec::new();
    while let Some(outcome) = logouts.next().await {
        acknowledged.extend(outcome);
        if acknowledged.len() == 16 {
            process.send_signal(Signal::KILL);
        }
    }
    process.wait_for_exit().await;

    assert!(acknowledged.len() >= 16, "{}", acknowledged.len());
    let restarted = Process::start(&database).await;
    for token in acknowledged {
        let refused = restarted.app.dashboard(token).await;
        refused.assert_error(401, "token_revoked", "Token has been revoked");
    }
}

async fn sigterm_under_load_finishes_every_request(database: TestDatabase) {
    let mut command = Process::command(&database);
    let mut process = Process::spawn(command.env("HASH_THREADS", "1")).await;
    let app = process.app.clone();
    let token = app.register_and_log_in("alice").await;
    let logins = join_all((0..24).map(|_| app.log_in("alice", "correct horse")));
    let checks = join_all((0..4).map(|_| async {
        // Each client keeps its connection open until the server asks to close it.
        let client = TestApp::new(app.address);
        loop {
            let reply = client.dashboard(&token).await;
            assert_eq!(reply.status, 200);
            if reply.header("connection") == Some("close") {
                break;
            }
        }
    }));
    let stop = async {
        eventually("logins are queued", async || {
            app.metric("portcullis_hash_queue_depth").await >= 4
        })
        .await;
        process.send_signal(Signal::TERM);
    };

    let (logins, _, ()) = tokio::join!(logins, checks, stop);

    assert!(logins.iter().all(|reply| reply.status == 200), "{logins:?}");
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
}

async fn sighup_finishes_every_request(database: TestDatabase) {
    let mut process = Process::start(&database).await;
    let app = process.app.clone();
    app.register("alice", "correct horse").await;
    let logins = join_all((0..8).map(|_| app.log_in("alice", "correct horse")));
    let stop = async {
        eventually("logins are queued", async || {
            app.metric("portcullis_hash_queue_depth").await >= 4
        })
        .await;
        process.send_signal(Signal::HUP);
    };

    let (logins, ()) = tokio::join!(logins, stop);

    assert!(logins.iter().all(|reply| reply.status == 200), "{logins:?}");
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
}

async fn several_processes_start_on_empty_database(database: TestDatabase) {
    let processes = join_all((0..3).map(|_| Process::start(&database))).await;

    processes[0].app.register("alice", "correct horse").await;
    for process in &processes {
        assert_eq!(process.app.log_in("alice", "correct horse").await.status, 200);
    }
}

async fn healthcheck_command_reports_the_instance(database: TestDatabase) {
    let mut process = Process::start(&database).await;
    let check = async |port: u16| {
        let mut command = Process::command(&database);
        run_to_exit(command.arg("healthcheck").env("PORT", port.to_string())).await
    };
    let port = process.app.address.port();

    let (ready, stderr) = check(port).await;
    assert!(ready.status.success(), "{stderr}");

    process.send_signal(Signal::INT);
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
    let (stopped, stderr) = check(port).await;
    assert_eq!(stopped.status.code(), Some(1));
    assert!(stderr.starts_with("portcullis: cannot reach 127.0.0.1:"), "{stderr}");
}

#[actix_web::test]
async fn second_signal_stops_the_process_immediately() {
    let database = TestDatabase::sqlite();
    // A login takes a second or longer.
    let mut command = Process::command(&database);
    let mut process = Process::spawn(command.env("PBKDF2_ITERATIONS", "5000000")).await;
    let app = process.app.clone();
    let login = actix_web::rt::spawn(async move {
        let body = credentials("alice", "correct horse");
        try_send(app.request(Method::POST, "/auth/login").json(&body)).await
    });
    let app = process.app.clone();
    eventually("the login is being hashed", async || {
        app.metric("portcullis_hash_queue_depth").await == 1
    })
    .await;

    process.send_signal(Signal::TERM);
    eventually("the shutdown begins", async || process.log().contains("shutting down")).await;
    process.send_signal(Signal::TERM);

    assert_eq!(process.wait_for_exit().await.code(), Some(130));
    assert!(login.await.unwrap().is_err());
}

#[actix_web::test]
async fn nohup_ignores_sighup() {
    let database = TestDatabase::sqlite();
    let program = Process::command(&database);
    let mut command = Command::new("nohup");
    command.arg(program.as_std().get_program()).env_clear();
    command.envs(program.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut process = Process::spawn(&mut command).await;

    process.send_signal(Signal::HUP);
    assert_eq!(process.app.get("/health/live").await.status, 200);
    process.send_signal(Signal::TERM);

    // A second signal would end it with 130.
    assert_eq!(process.wait_for_exit().await.code(), Some(0));
}

#[actix_web::test]
async fn taken_port_fails_with_one_line() {
    let database = TestDatabase::sqlite();
    let process = Process::start(&database).await;
    let port = process.app.address.port();

    let mut command = Process::command(&database);
    let (failed, stderr) = run_to_exit(command.env("PORT", port.to_string())).await;

    assert_eq!(failed.status.code(), Some(1));
    let line = format!(
        "portcullis: cannot listen on 127.0.0.1:{port} (HOST and PORT choose another address): "
    );
    assert!(stderr.starts_with(&line) && stderr.lines().count() == 1, "{stderr}");
    assert_eq!(String::from_utf8_lossy(&failed.stdout), "", "nothing else is logged");
}

#[actix_web::test]
async fn unreachable_database_fails_with_one_line() {
    let database = TestDatabase::sqlite();
    let mut command = Process::command(&database);
    let url = "postgres://portcullis:hunter2@127.0.0.1:1/portcullis";
    let (failed, stderr) = run_to_exit(command.env("DATABASE_URL", url)).await;

    assert_eq!(failed.status.code(), Some(1));
    let line = "portcullis: failed to open the database `portcullis` at 127.0.0.1:1: ";
    assert!(stderr.starts_with(line) && stderr.lines().count() == 1, "{stderr}");
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

/// Expects the program to exit with one line about its database.
async fn assert_refused_to_start(database: &TestDatabase, reason: &str) {
    let (failed, stderr) = run_to_exit(&mut Process::command(database)).await;
    assert_eq!((failed.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.starts_with("portcullis: failed to open the database "), "{stderr}");
    assert!(stderr.contains(reason), "{stderr}");
}

async fn newer_schema_is_refused_with_the_fix(database: TestDatabase) {
    run_to_exit(Process::command(&database).arg("migrate")).await;
    let columns = "description, success, checksum, execution_time";
    let add = format!(
        "insert into _sqlx_migrations (version, {columns})
         select 9999, {columns} from _sqlx_migrations where version = 1"
    );
    database.execute(add).await;

    let reason = "its schema has version 9999, and this program knows versions up to ";
    assert_refused_to_start(&database, reason).await;
    let fix = "; run the newer program, or restore the backup from before its start\n";
    assert_refused_to_start(&database, fix).await;
}

#[actix_web::test]
async fn database_of_another_encoding_is_refused() {
    let options = "encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0";
    let test = async |database| {
        let reason = ": its encoding is LATIN1; create it anew with the encoding UTF8\n";
        assert_refused_to_start(&database, reason).await;
    };
    TestDatabase::postgres_with(options).await.run(test).await;
}

#[actix_web::test]
async fn read_only_database_is_refused() {
    let test = async |database: TestDatabase| {
        run_to_exit(Process::command(&database).arg("migrate")).await;
        let TestDatabase::Postgres { name, .. } = &database else { panic!("not Postgres") };
        let alter = format!("alter database {name} set default_transaction_read_only = on");
        database.execute(alter).await;

        let reason = ": it cannot be written: the database is read-only\n";
        assert_refused_to_start(&database, reason).await;
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn silent_database_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("postgres://portcullis@127.0.0.1:{port}/portcullis");
    let database = TestDatabase::Postgres { name: "portcullis".to_owned(), url };
    let mut command = Process::command(&database);

    let (failed, stderr) = run_to_exit(command.env("DATABASE_ACQUIRE_TIMEOUT", "1")).await;

    assert_eq!(failed.status.code(), Some(1));
    let line = format!(
        "portcullis: failed to open the database `portcullis` at 127.0.0.1:{port}: \
         no response within 1s\n"
    );
    assert_eq!(stderr, line);
}

/// Takes the lock under which the schema is migrated.
async fn hold_migration_lock(database: &TestDatabase) -> PgConnection {
    let mut connection = database.connect().await;
    let lock = "begin; select pg_advisory_xact_lock(hashtext('portcullis migrations'))";
    connection.execute(lock).await.unwrap();
    connection
}

#[actix_web::test]
async fn sigterm_ends_a_start_that_waits_for_a_migration() {
    let test = async |database: TestDatabase| {
        let _lock = hold_migration_lock(&database).await;
        let waiting = "waiting for another process that migrates the schema";
        let mut process = Process::spawn_until(&mut Process::command(&database), waiting).await;

        process.send_signal(Signal::TERM);

        assert_eq!(process.wait_for_exit().await.code(), Some(0));
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn start_continues_after_the_migration_of_another_process() {
    let test = async |database: TestDatabase| {
        let lock = hold_migration_lock(&database).await;
        let waiting = "waiting for another process that migrates the schema";
        let mut process = Process::spawn_until(&mut Process::command(&database), waiting).await;

        lock.close().await.unwrap();

        process.wait_until_listening().await;
        process.app.register_and_log_in("alice").await;
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn role_without_ddl_serves_a_current_schema() {
    let test = async |database: TestDatabase| {
        let (role, own_database) = database.with_new_role().await;
        let reason = ": its schema has to be created or migrated, and this role must not do that; \
                      run `portcullis migrate` as the owner of the database: ";
        assert_refused_to_start(&own_database, reason).await;
        run_to_exit(Process::command(&database).arg("migrate")).await;
        let grant = SERVICE_ROLE.replace("portcullis_service", &role);
        database.execute(format!("set portcullis.service_password = 'secret'; {grant}")).await;
        // A lock does not delay a start that has nothing to migrate.
        let _lock = hold_migration_lock(&database).await;

        let process = Process::start(&own_database).await;

        let app = &process.app;
        let login = app.register_and_open_session("alice").await;
        assert_eq!(app.refresh(&login.refresh_token()).await.status, 200);
        assert_eq!(app.log_out(&login.access_token()).await.status, 200);
        let token = app.register_admin(&database).await;
        for path in ["/admin/users", "/admin/audit", "/auth/sessions"] {
            assert_eq!(app.send_with_token(Method::GET, path, &token).await.status, 200);
        }
        app.get("/health/ready").await.assert(200, &json!({ "msg": "Ready" }));
        assert!(!process.log().contains("sqlx"), "{}", process.log());
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn ipv6_addresses_can_have_brackets() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        print_skipped("this machine has no IPv6");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let test = async |database: TestDatabase| {
        let proxy = Proxy::start_on(listener, &database);
        let TestDatabase::Postgres { name, url } = &database else { panic!("not Postgres") };
        let options: PgConnectOptions = url.parse().unwrap();
        let url = format!("postgres://{}@[::1]:{port}/{name}", options.get_username());
        let mut command = Process::command(&proxy.database);
        command.env("DATABASE_URL", url).env("HOST", "[::1]");

        let process = Process::spawn(&mut command).await;

        assert!(process.app.address.is_ipv6());
        process.app.register_and_log_in("alice").await;
        let address = process.app.address;
        let mut healthcheck = Process::command(&database);
        healthcheck.arg("healthcheck").env("HOST", "[::]").env("PORT", address.port().to_string());
        let (outcome, stderr) = run_to_exit(&mut healthcheck).await;
        assert!(outcome.status.success(), "{stderr}");
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn line_break_after_the_url_selects_the_same_file() {
    let database = TestDatabase::sqlite();
    let mut command = Process::command(&database);
    command.env("DATABASE_URL", format!("{}\n", database.url()));

    let process = Process::spawn(&mut command).await;

    process.app.register("alice", "correct horse").await;
    let restarted = Process::start(&database).await;
    assert_eq!(restarted.app.log_in("alice", "correct horse").await.status, 200);
}

#[actix_web::test]
async fn invalid_settings_are_reported_together() {
    let database = TestDatabase::sqlite();
    let mut command = Process::command(&database);
    command.env("PORT", "http").env("JWT_SECRET_KEY", "secret").env("HASH_THREADS", "many");
    let (failed, stderr) = run_to_exit(&mut command).await;

    assert_eq!(failed.status.code(), Some(1));
    for variable in ["PORT must be", "JWT_SECRET_KEY is 6 bytes long", "HASH_THREADS must be"] {
        assert!(stderr.contains(variable), "{stderr}");
    }
}

async fn env_file_is_read_literally(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let key = r"Zr$HOME\n-${PATH}-0123456789abcdef0123";
    let url = database.url();
    let content =
        format!("# Secrets\nJWT_SECRET_KEY='{key}' # of all instances\nDATABASE_URL={url}\n");
    std::fs::write(folder.path().join(".env"), content).unwrap();
    let mut command = Process::command(&database);
    command.env_remove("JWT_SECRET_KEY").env_remove("DATABASE_URL").current_dir(folder.path());

    let with_file = Process::spawn(&mut command).await;

    let token = with_file.app.register_and_log_in("alice").await;
    let with_variable =
        Process::spawn(Process::command(&database).env("JWT_SECRET_KEY", key)).await;
    assert_eq!(with_variable.app.dashboard(&token).await.status, 200);
}

#[actix_web::test]
async fn env_file_that_programs_read_differently_is_refused() {
    let database = TestDatabase::sqlite();
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("JWT_SECRET_KEY=hunter2$abc", "line 1: the value of JWT_SECRET_KEY contains $"),
        ("JWT_SECRET_KEY=hunter2\\n", "line 1: the value of JWT_SECRET_KEY contains $"),
        (
            "\nJWT_SECRET_KEY=hunter2\0",
            "line 2: the value of JWT_SECRET_KEY contains the character",
        ),
        ("JWT_SECRET_KEY hunter2", "line 1: must be NAME=VALUE"),
    ];
    for (content, expected) in cases {
        std::fs::write(folder.path().join(".env"), content).unwrap();

        let mut command = Process::command(&database);
        let command = command.arg("migrate").current_dir(folder.path());
        let (failed, stderr) = run_to_exit(command).await;

        assert_eq!(failed.status.code(), Some(1), "{content}");
        assert!(stderr.starts_with(&format!("portcullis: .env {expected}")), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

#[actix_web::test]
async fn empty_variables_mean_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Process::command(&TestDatabase::sqlite());
    for name in ["DATABASE_URL", "JWT_SECRET_KEY", "RUST_LOG", "HOST", "HTTP_WORKERS", "PUBLIC_URL"]
    {
        command.env(name, "");
    }
    std::fs::write(folder.path().join(".env"), "RUST_LOG=\nHASH_THREADS=''\n").unwrap();

    let process = Process::spawn(command.current_dir(folder.path())).await;

    assert!(process.log().contains("sqlite, data/portcullis.db"), "{}", process.log());
    assert_eq!(process.app.address.ip().to_string(), "127.0.0.1");
}

#[actix_web::test]
async fn doubtful_settings_are_named_at_the_start() {
    use std::os::unix::fs::PermissionsExt;

    let database = TestDatabase::sqlite();
    let folder = tempfile::tempdir().unwrap();
    let write_file = |name: &str, content: &str, mode| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    write_file(".env", "SESSION_IDLE_TIMOUT=60\nJWT_SECRET_KEY=x\n", 0o644);
    let key = write_file("key", &"k".repeat(32), 0o644);
    let mut command = Process::command(&database);
    command.env("DATABSE_URL", "x").env("JWT_SECRET_KEY_FILE", &key).current_dir(folder.path());

    let process = Process::spawn(&mut command).await;

    for warning in [
        "SESSION_IDLE_TIMOUT in .env is not a setting; did you mean SESSION_IDLE_TIMEOUT?",
        "DATABSE_URL in the environment is not a setting; did you mean DATABASE_URL?",
        ".env contains secrets, and other users of this machine can read it",
        "JWT_SECRET_KEY_FILE names a file that other users of this machine can read",
        "JWT_SECRET_KEY looks guessable",
    ] {
        assert!(process.log().contains(warning), "no `{warning}` in {}", process.log());
    }
    let mut command = Process::command(&database);
    command.arg("migrate").env("DATABSE_URL", "x").env("JWT_SECRET_KEY", Process::KEY);
    let (migrated, stderr) = run_to_exit(&mut command).await;
    assert!(migrated.status.success(), "{stderr}");
    assert!(stderr.starts_with("portcullis: warning: DATABSE_URL in the environment"), "{stderr}");

    let strong = "1c6e0d5b8a97f2435be8d1c0a46f3927";
    let mut command = Process::command(&TestDatabase::sqlite());
    let sound = Process::spawn(command.env("JWT_SECRET_KEY", strong)).await;
    assert!(!sound.log().contains("WARN"), "{}", sound.log());
}

#[actix_web::test]
async fn url_parameter_that_is_ignored_is_not_logged() {
    let test = async |database: TestDatabase| {
        let separator = if database.url().contains('?') { '&' } else { '?' };
        let url = format!("{}{separator}sslpassword=hunter2", database.url());
        let mut command = Process::command(&database);

        let process = Process::spawn(command.env("DATABASE_URL", url)).await;

        assert!(process.log().contains("has a parameter that is ignored"), "{}", process.log());
        assert!(!process.log().contains("hunter2"), "{}", process.log());
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn secrets_can_be_read_from_files() {
    let database = TestDatabase::sqlite();
    let folder = tempfile::tempdir().unwrap();
    let write_file = |name: &str, content: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let url = write_file("url", format!("{}\n", database.url()));
    let key = write_file("key", format!("{}\n", Process::KEY));
    let mut command = Process::command(&database);
    command.env_remove("DATABASE_URL").env("DATABASE_URL_FILE", url);
    command.env_remove("JWT_SECRET_KEY").env("JWT_SECRET_KEY_FILE", key);

    let process = Process::spawn(command.current_dir(folder.path())).await;

    assert_eq!(process.app.register("alice", "correct horse").await.status, 201);
    let restarted = Process::start(&database).await;
    assert_eq!(restarted.app.log_in("alice", "correct horse").await.status, 200);
    assert!(!folder.path().join("data").exists(), "the default database is not created");
}

#[actix_web::test]
async fn default_database_and_key_are_private() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.env_clear().env("PORT", "0").current_dir(folder.path());
    command.stdout(Stdio::piped()).kill_on_drop(true);

    let process = Process::spawn(&mut command).await;

    let data = folder.path().join("data");
    assert_eq!(data.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for name in ["portcullis.db", "portcullis.db-wal", "portcullis.key"] {
        let path = folder.path().join("data").join(name);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    for text in ["data/portcullis.db", "kept in data/portcullis.key", "http://127.0.0.1:"] {
        assert!(process.log().contains(text), "{}", process.log());
    }
}
