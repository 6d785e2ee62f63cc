//! Copies and backups of whole databases, with real instances before and after.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr};

use crate::commands::run;
use crate::support::{Outcome, Process, TestApp, TestDatabase, eventually, on_both_databases};

on_both_databases![
    copied_sessions_tokens_and_logouts_are_as_before,
    copy_there_and_back_is_the_same,
    database_in_use_is_not_copied,
    target_with_rows_is_refused,
    older_source_is_refused,
    older_target_is_refused,
    killed_copy_leaves_nothing,
    instance_that_starts_during_a_copy_changes_nothing,
    all_sessions_are_ended,
];

/// Number of failure counters that take long enough to copy for a test to interrupt it.
const MANY: u32 = 100_000;

const TABLES: &[&str] = &[
    "shared_state",
    "root_key_wrappings",
    "signing_keys",
    "roles",
    "clients",
    "client_secrets",
    "users",
    "sessions",
    "revocations",
    "failure_counters",
    "known_networks",
    "audit_log",
];

/// Rows with a value in every column, and rows with as few as possible. Times have microseconds.
const SQLITE_ROWS: &str = "
    insert into users (id, username, username_key, password_hash, roles, created_at, version,
                       disabled_at, reset_code_hash, reset_code_expires_at, external_id, metadata,
                       hash_cost)
    values (x'00000000000040008000000000000001', 'Zoë \u{1f511}', 'zoë \u{1f511}', 'hash', 'user admin',
            1767323045678901, 9007199254740993, 1767323045678902, x'00ff', 1767323045678903, '17',
            '{\"a\": \"\\\"\"}', 'x:1'),
           (x'00000000000040008000000000000002', 'b', 'b', '', '', -1, 0, null, null, null, null,
            '{}', null);
    insert into sessions (id, user_id, generation, rotated_at, created_at, last_used_at, expires_at,
                          address, user_agent, tokens_expire_at, parent, exchanged_at,
                          revoked_tokens, last_address, last_user_agent, audience)
    values (x'00000000000040008000000000000003', x'00000000000040008000000000000001', 5,
            1767323045678904, 1767323045678905, 1767323045678906, 2767323045678907, '::1', 'a\tb\\n',
            1767323045678908, 4, 1767323045678909, 2147483647, '192.0.2.1', 'c', '. orders'),
           (x'00000000000040008000000000000004', x'00000000000040008000000000000002', 0, 0, 0, 0,
            2767323045678907, '', '', null, null, null, 0, null, null, null);
    insert into revocations (id, expires_at, revoked_at, user_id)
    values (x'00000000000040008000000000000005', 2767323045678910, 1767323045678911,
            x'00000000000040008000000000000001'),
           (x'00000000000040008000000000000006', 2767323045678912, 1767323045678913, null);
    update shared_state set version = 7, issuer = 'https://example.com', algorithm = 'ES256';
    insert into roles (name, permissions, ending_after)
    values ('clerk', 'orders:read orders:write', x'00000000000000008000000000000007');
    update roles set permissions = 'more' where name = 'user';
    insert into clients (id, name, permissions, audience, resource, created_at, expires_at, disabled_at)
    values (x'00000000000040008000000000000008', 'machine', 'tokens:introspect', '.', 'orders',
            1767323045678914, 1767323045678915, 1767323045678916);
    insert into client_secrets (id, client_id, hash, session_id, created_at, revoked_tokens,
                                tokens_expire_at)
    values (x'00000000000040008000000000000009', x'00000000000040008000000000000008', x'0102',
            x'0000000000004000800000000000000a', 1767323045678917, 3, 1767323045678918);
    insert into root_key_wrappings values ('secret', x'03', 1767323045678919);
    insert into signing_keys values ('kid', 'active', x'04', x'05', 1767323045678920,
                                     1767323045678921, 1767323045678922, 1767323045678923);
    insert into audit_log (id, at, action, actor_id, subject_id, session_id, detail, address, user_agent)
    values (40, 1767323045678924, 'user.deleted', x'00000000000040008000000000000001',
            x'00000000000040008000000000000002', x'00000000000040008000000000000003', 'b', '::1', 'c'),
           (7000000000, 1767323045678925, 'key.published', null, null, null, null, null, null);
    insert into failure_counters values (x'0000000000004000800000000000000b',
        x'00000000000040008000000000000001', 3, 1, 1767323045678926, 1767323045678927);
    insert into known_networks values (x'0000000000004000800000000000000c',
        x'00000000000040008000000000000001', 1767323045678928)";

/// Runs `portcullis database` with arguments.
async fn run_command(database: &TestDatabase, arguments: &str) -> Outcome {
    run(&mut Process::command(database), &format!("database {arguments}"), "").await
}

async fn copy(source: &TestDatabase, target: &TestDatabase) -> Outcome {
    run_command(source, &format!("copy --from {} --to {}", source.url(), target.url())).await
}

/// Copies a database and asserts that it succeeds.
async fn copy_successfully(source: &TestDatabase, target: &TestDatabase) {
    let copied = copy(source, target).await;
    assert_eq!(copied.exit_code, Some(0), "{copied:?}");
}

/// Runs a test with a new database of each kind, to copy into.
async fn with_each_target<F: Future<Output = ()>>(test: impl Fn(TestDatabase) -> F) {
    TestDatabase::postgres().await.run(&test).await;
    TestDatabase::sqlite().run(&test).await;
}

async fn stop(mut process: Process) {
    process.send_signal(Signal::TERM);
    assert!(process.wait_for_exit().await.success(), "{}", process.log());
}

/// Reads a column of text from a separate connection.
async fn read_texts(database: &TestDatabase, select: &str) -> Vec<String> {
    let select = AssertSqlSafe(select.to_owned());
    match database {
        TestDatabase::Postgres { .. } => {
            let mut connection = database.connect().await;
            let rows = sqlx::query(select).fetch_all(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        }
        TestDatabase::Sqlite(_) => {
            let options = SqliteConnectOptions::new().filename(database.path());
            let mut connection = options.connect().await.unwrap();
            let rows = sqlx::query(select).fetch_all(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        }
    }
}

async fn count(database: &TestDatabase, table: &str) -> u64 {
    let select = format!("select cast(count(*) as text) from {table}");
    read_texts(database, &select).await[0].parse().unwrap()
}

/// Returns all rows of the database as text, without positions in the feed.
async fn dump(database: &TestDatabase) -> Vec<(&'static str, Vec<String>)> {
    let mut dump = Vec::new();
    for table in TABLES {
        let select = match database {
            TestDatabase::Postgres { .. } => {
                format!("select (to_jsonb(t) - 'xid')::text from {table} t order by 1")
            }
            TestDatabase::Sqlite(_) => {
                let columns = format!("select name from pragma_table_info('{table}')");
                let columns = read_texts(database, &columns).await;
                let columns = columns.iter().filter(|column| *column != "position");
                let quoted: Vec<_> = columns.map(|column| format!("quote({column})")).collect();
                format!("select {} from {table} order by 1", quoted.join(" || ', ' || "))
            }
        };
        dump.push((*table, read_texts(database, &select).await));
    }
    dump
}

/// Inserts many failure counters, of which an instance keeps none in memory.
async fn insert_many_rows(database: &TestDatabase) {
    let insert = match database {
        TestDatabase::Postgres { .. } => format!(
            "insert into failure_counters (id, failures, in_flight, latest_at)
             select gen_random_uuid(), 1, 0, now() from generate_series(1, {MANY})"
        ),
        TestDatabase::Sqlite(_) => format!(
            "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < {MANY})
             insert into failure_counters (id, failures, in_flight, latest_at)
             select randomblob(16), 1, 0, unixepoch() * 1000000 from numbers"
        ),
    };
    database.execute(insert).await;
}

/// Copy in progress, in a process of its own.
struct RunningCopy {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl RunningCopy {
    /// Starts a copy and returns while it copies the failure counters.
    async fn start(source: &TestDatabase, target: &TestDatabase) -> Self {
        let mut command = Process::command(source);
        command.args(["database", "copy", "--from", &source.url(), "--to", &target.url()]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with("rows of revocations") {
                return Self { child, lines };
            }
        }
        panic!("the copy has ended before its failure counters");
    }

    fn send_signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Waits for its end. Returns the rest of its output and whether it has succeeded.
    async fn wait(mut self) -> (String, bool) {
        let mut output = String::new();
        while let Some(line) = self.lines.next_line().await.unwrap() {
            output.push_str(&line);
            output.push('\n');
        }
        (output, self.child.wait().await.unwrap().success())
    }
}

async fn copied_sessions_tokens_and_logouts_are_as_before(source: TestDatabase) {
    let process = Process::start(&source).await;
    let app = &process.app;
    let root = app.register_admin(&source).await;
    let open = app.register_and_open_session("alice").await;
    let ended = app.log_in("alice", "correct horse").await;
    app.log_out(&ended.access_token()).await;
    let records = app.send_with_token(Method::GET, "/admin/audit", &root).await.body;
    stop(process).await;

    with_each_target(async |target| {
        copy_successfully(&source, &target).await;

        let process = Process::start(&target).await;
        let app = &process.app;
        assert_eq!(app.dashboard(&open.access_token()).await.status, 200);
        app.dashboard(&ended.access_token()).await.assert_code(401, "token_revoked");
        app.refresh(&ended.refresh_token()).await.assert_code(401, "invalid_refresh_token");
        assert_eq!(app.log_in("alice", "correct horse").await.status, 200);
        let log = app.send_with_token(Method::GET, "/admin/audit", &root).await.body;
        let (newest, older) = log["records"].as_array().unwrap().split_first().unwrap();
        assert_eq!(json!(older), records["records"]);
        let last_id = records["records"][0]["id"].as_i64().unwrap();
        assert_eq!(newest["id"].as_i64(), Some(last_id + 1));
        let refreshed = app.refresh(&open.refresh_token()).await;
        assert_eq!(app.dashboard(&refreshed.access_token()).await.status, 200);
    })
    .await;
}

async fn copy_there_and_back_is_the_same(source: TestDatabase) {
    run(&mut Process::command(&source), "migrate", "").await;
    let first = TestDatabase::sqlite();
    run(&mut Process::command(&first), "migrate", "").await;
    first.execute(SQLITE_ROWS).await;
    copy_successfully(&first, &source).await;
    if matches!(source, TestDatabase::Postgres { .. }) {
        // No time of the calendar, which other programs may have written.
        source.execute("update users set created_at = 'infinity' where username = 'b'").await;
    } else {
        assert_eq!(dump(&first).await, dump(&source).await);
    }

    with_each_target(async |target| {
        copy_successfully(&source, &target).await;
        let back = async |back: TestDatabase| {
            copy_successfully(&target, &back).await;
            assert_eq!(dump(&back).await, dump(&source).await);
        };
        match source {
            TestDatabase::Postgres { .. } => TestDatabase::postgres().await.run(back).await,
            TestDatabase::Sqlite(_) => TestDatabase::sqlite().run(back).await,
        }
    })
    .await;
}

async fn database_in_use_is_not_copied(source: TestDatabase) {
    let process = Process::start(&source).await;
    with_each_target(async |target| {
        let refused = copy(&source, &target).await;
        assert_eq!(refused.exit_code, Some(4), "{refused:?}");
        let reason = "is in use; stop every instance and every command that works on it\n";
        assert!(refused.stderr.ends_with(reason), "{refused:?}");
    })
    .await;
    assert_eq!(process.app.register("alice", "correct horse").await.status, 201);
    stop(process).await;

    with_each_target(async |target| {
        copy_successfully(&source, &target).await;
        assert_eq!(count(&target, "users").await, 1);
    })
    .await;
}

async fn target_with_rows_is_refused(source: TestDatabase) {
    run(&mut Process::command(&source), "migrate", "").await;
    with_each_target(async |target| {
        let mut create = Process::command(&target);
        run(&mut create, "user create root --role admin", "correct horse\n").await;
        let before = dump(&target).await;

        let refused = copy(&source, &target).await;

        assert_eq!(refused.exit_code, Some(4), "{refused:?}");
        assert!(refused.stderr.ends_with("is not empty: it has rows in users\n"), "{refused:?}");
        assert_eq!(dump(&target).await, before);
    })
    .await;
    // Without `--from`, the source is at DATABASE_URL.
    let refused = run_command(&source, &format!("copy --to {}", source.url())).await;
    refused.assert_refused(2, "portcullis: the source and the target are the same database");
}

async fn older_source_is_refused(source: TestDatabase) {
    run(&mut Process::command(&source), "migrate", "").await;
    source.execute("delete from _sqlx_migrations where version > 4").await;

    let target = TestDatabase::sqlite();
    let refused = copy(&source, &target).await;

    assert_eq!(refused.exit_code, Some(1), "{refused:?}");
    assert!(refused.stderr.ends_with("; run `portcullis migrate`\n"), "{refused:?}");
    assert!(!target.path().exists());
}

async fn older_target_is_refused(source: TestDatabase) {
    run(&mut Process::command(&source), "migrate", "").await;
    with_each_target(async |target| {
        run(&mut Process::command(&target), "migrate", "").await;
        target.execute("delete from _sqlx_migrations where version > 4").await;

        let refused = copy(&source, &target).await;

        assert_eq!(refused.exit_code, Some(1), "{refused:?}");
        assert!(refused.stderr.ends_with("; run `portcullis migrate`\n"), "{refused:?}");
        assert_eq!(count(&target, "_sqlx_migrations").await, 4);
    })
    .await;
}

async fn killed_copy_leaves_nothing(source: TestDatabase) {
    let process = Process::start(&source).await;
    let token = process.app.register_and_log_in("alice").await;
    stop(process).await;
    insert_many_rows(&source).await;
    let count_before = count(&source, "failure_counters").await;
    let before = dump(&source).await;

    with_each_target(async |target| {
        let mut running = RunningCopy::start(&source, &target).await;
        running.child.kill().await.unwrap();

        let is_empty =
            async || count(&target, "users").await + count(&target, "failure_counters").await == 0;
        assert!(is_empty().await);
        copy_successfully(&source, &target).await;
        assert_eq!(count(&target, "failure_counters").await, count_before);
    })
    .await;

    assert_eq!(dump(&source).await, before);
    let process = Process::start(&source).await;
    assert_eq!(process.app.dashboard(&token).await.status, 200);
}

async fn instance_that_starts_during_a_copy_changes_nothing(source: TestDatabase) {
    let process = Process::start(&source).await;
    process.app.register("alice", "correct horse").await;
    stop(process).await;
    insert_many_rows(&source).await;
    let count_before = count(&source, "failure_counters").await;

    with_each_target(async |target| {
        let running = RunningCopy::start(&source, &target).await;
        running.send_signal(Signal::STOP);
        let mut instances: Vec<_> = [&source, &target].map(spawn_instance).into();
        for (instance, database) in instances.iter_mut().zip([&source, &target]) {
            eventually("the instance waits or has given up", || {
                let has_ended = instance.try_wait().unwrap().is_some();
                async move { has_ended || is_waited_for(database).await }
            })
            .await;
        }
        running.send_signal(Signal::CONT);

        let (output, has_succeeded) = running.wait().await;

        assert!(has_succeeded, "{output}");
        assert_eq!(count(&target, "failure_counters").await, count_before);
        assert_eq!(count(&target, "root_key_wrappings").await, 1);
        for instance in &mut instances {
            instance.kill().await.unwrap();
        }
        let process = Process::start(&target).await;
        assert_eq!(process.app.log_in("alice", "correct horse").await.status, 200);
    })
    .await;
}

fn spawn_instance(database: &TestDatabase) -> Child {
    Process::command(database).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Returns `true` if a connection waits for a lock of the copy. On SQLite none waits for long.
async fn is_waited_for(database: &TestDatabase) -> bool {
    let TestDatabase::Postgres { .. } = database else { return false };
    let select = "select count(*)::text from pg_stat_activity
                  where datname = current_database() and wait_event_type = 'Lock'";
    read_texts(database, select).await[0] != "0"
}

async fn all_sessions_are_ended(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let root = app.register_admin(&database).await;
    let alice = app.register_and_open_session("alice").await;
    let insert = match &database {
        TestDatabase::Postgres { .. } => {
            "insert into sessions (id, user_id, generation, created_at, last_used_at, expires_at,
                                   address, user_agent)
             select gen_random_uuid(), id, 0, now(), now(), now() + interval '1 hour', '', ''
             from users, generate_series(1, 1500)"
        }
        TestDatabase::Sqlite(_) => {
            "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < 1500)
             insert into sessions (id, user_id, generation, rotated_at, created_at, last_used_at,
                                   expires_at, address, user_agent)
             select randomblob(16), id, 0, 0, 0, 0, 4000000000000000, '', '' from users, numbers"
        }
    };
    database.execute(insert).await;

    let ended = run(&mut Process::command(&database), "user end-sessions --all --yes", "").await;

    assert_eq!((ended.exit_code, ended.stdout.as_str()), (Some(0), "ended 3002 sessions\n"));
    assert_eq!(count(&database, "sessions").await, 0);
    for token in [&root, &alice.access_token()] {
        eventually("the token is refused", async || app.dashboard(token).await.status == 401).await;
    }
    app.refresh(&alice.refresh_token()).await.assert_code(401, "invalid_refresh_token");
    assert_eq!(app.log_in("alice", "correct horse").await.status, 200);
    let both = run(&mut Process::command(&database), "user end-sessions alice --all", "").await;
    assert_eq!(both.exit_code, Some(2));
    let json =
        run(&mut Process::command(&database), "user end-sessions --all --yes --json", "").await;
    assert_eq!(json.json_lines(), [json!({ "ended_sessions": 1 })]);
}

#[actix_web::test]
async fn kept_secret_is_pointed_out() {
    let source = TestDatabase::sqlite();
    let mut serve = Process::command(&source);
    stop(Process::spawn(serve.env_remove("JWT_SECRET_KEY")).await).await;
    let secret = source.path().with_extension("key");
    TestDatabase::postgres()
        .await
        .run(async |target| {
            let arguments = format!("database copy --from {} --to {}", source.url(), target.url());
            let mut command = Process::command(&source);
            let copied = run(command.env_remove("JWT_SECRET_KEY"), &arguments, "").await;

            let advice = format!("with JWT_SECRET_KEY_FILE={} for example\n", secret.display());
            assert!(copied.stderr.ends_with(&advice), "{copied:?}");
            let mut serve = Process::command(&target);
            serve.env_remove("JWT_SECRET_KEY").env("JWT_SECRET_KEY_FILE", &secret);
            let process = Process::spawn(&mut serve).await;
            process.app.register_and_log_in("alice").await;
        })
        .await;
}

#[actix_web::test]
async fn backup_during_logins_is_complete() {
    let database = TestDatabase::sqlite();
    let process = Process::start(&database).await;
    for number in 0..10 {
        process.app.register(&format!("user{number}"), "correct horse").await;
    }
    let app = process.app.clone();
    let logins = actix_web::rt::spawn(async move {
        for number in (0..10).cycle() {
            let login = app.log_in(&format!("user{number}"), "correct horse").await;
            assert_eq!(login.status, 200);
        }
    });
    let restored = TestDatabase::sqlite();
    std::fs::create_dir(restored.path().parent().unwrap()).unwrap();
    let file = restored.path();
    let arguments = format!("backup {}", file.display());

    let backup = run_command(&database, &arguments).await;
    let again = run_command(&database, &arguments).await;

    assert!(!logins.is_finished());
    logins.abort();
    assert_eq!(backup.exit_code, Some(0), "{backup:?}");
    let refusal = format!("portcullis: {} exists, and is not overwritten", file.display());
    again.assert_refused(4, &refusal);
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let files = file.parent().unwrap().read_dir().unwrap().count();
    assert_eq!(files, 1, "no temporary file is left");
    let restored = Process::start(&restored).await;
    for number in 0..10 {
        let login = restored.app.log_in(&format!("user{number}"), "correct horse").await;
        assert_eq!(login.status, 200);
    }
}

#[actix_web::test]
async fn backup_of_postgres_is_left_to_its_own_tools() {
    TestDatabase::postgres()
        .await
        .run(async |database| {
            let refused = run_command(&database, "backup /nowhere/file").await;
            let reason = "portcullis: the database is on PostgreSQL; back it up with pg_dump or by \
                          archiving its WAL";
            refused.assert_refused(2, reason);
        })
        .await;
}
