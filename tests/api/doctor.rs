//! `portcullis doctor`: each fault is planted and found, and is not found without it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use clap::Args;
use portcullis::config::RawSettings;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::{
    Outcome, PgBouncer, PostgresServer, Process, TestDatabase, eventually, free_port,
    on_both_databases, run_command,
};

on_both_databases![
    fault_in_the_rows_is_found,
    wrong_schema_is_found,
    missing_schema_is_a_warning,
    wrong_secret_is_found,
];

const SECRET: &str = "1c6e0d5b8a97f2435be8d1c0a46f3927";
const OTHER_SECRET: &str = "wYd3v0m1xv3hJ7kq2N5sT8bRzCfGpLuA";

/// A deployment that is as it should be, apart from what a test server is.
struct Deployment {
    database: TestDatabase,
    /// Working directory, so that no `.env` of this folder is read.
    folder: TempDir,
}

impl Deployment {
    /// Creates the tables and an administrator, and starts the service once.
    async fn new(database: &TestDatabase) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let deployment = Self { database: database.clone(), folder };
        let created = deployment.run("user create root --role admin").await;
        assert_eq!(created.exit_code, Some(0), "{created:?}");
        let mut process = Process::spawn(&mut deployment.command()).await;
        process.send_signal(Signal::TERM);
        process.wait_for_exit().await;
        deployment
    }

    fn command(&self) -> Command {
        let mut command = Process::command(&self.database);
        command.current_dir(self.folder.path()).envs([
            ("JWT_SECRET_KEY", SECRET),
            ("PUBLIC_URL", "https://auth.example.com"),
            ("TRUSTED_PROXIES", "127.0.0.1"),
            ("MANAGEMENT_ADDRESS", "127.0.0.1:0"),
            ("REGISTRATION", "closed"),
            ("PASSWORD_BLOCKLIST", "common"),
            ("JWT_AUDIENCE", "orders"),
        ]);
        command
    }

    async fn run(&self, arguments: &str) -> Outcome {
        run_command(self.command().args(arguments.split(' ')), "correct horse").await
    }

    /// Returns the findings with the settings of a good deployment and with others.
    async fn examine(&self, others: &[(&str, &str)]) -> Findings {
        let mut command = self.command();
        command.envs(others.iter().copied());
        Findings::of(&mut command).await
    }

    fn write_file(&self, name: &str, content: &str, mode: u32) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

struct Findings {
    exit_code: Option<i32>,
    all: Vec<Value>,
}

impl Findings {
    async fn of(command: &mut Command) -> Self {
        let outcome = run_command(command.args(["doctor", "--json"]), "").await;
        Self { exit_code: outcome.exit_code, all: outcome.json_lines() }
    }

    /// Returns severity and message of the findings of a check, the worst one last.
    fn of_check(&self, check: &str) -> Vec<(&str, &str)> {
        let findings = self.all.iter().filter(|finding| finding["check"] == check);
        findings
            .map(|finding| {
                (finding["severity"].as_str().unwrap(), finding["message"].as_str().unwrap())
            })
            .collect()
    }

    fn worst(&self, check: &str) -> &str {
        self.of_check(check).last().map_or("none", |(severity, _)| severity)
    }

    /// Returns what is not ok.
    fn faults(&self) -> Vec<&Value> {
        self.all.iter().filter(|finding| finding["severity"] != "ok").collect()
    }

    #[track_caller]
    fn assert(&self, check: &str, severity: &str, message: &str) {
        let findings = self.of_check(check);
        let found =
            findings.iter().any(|(actual, text)| *actual == severity && text.contains(message));
        assert!(found, "no {severity} `{message}` of {check}: {:#?}", self.faults());
    }
}

#[actix_web::test]
async fn fault_in_the_settings_is_found() {
    let test = async |database: TestDatabase| {
        let deployment = Deployment::new(&database).await;
        let good = deployment.examine(&[]).await;
        assert_eq!(good.faults(), [&Value::Null; 0]);
        assert_eq!(good.exit_code, Some(0));

        for (name, value, check, severity) in [
            ("CORS_ALLOWED_ORIGINS", "http://app.example.com", "exposure.cors", "warning"),
            ("DATABSE_URL", "x", "configuration.names", "warning"),
            ("HASH_THREADS", "many", "configuration.settings", "error"),
            ("JWT_ACCESS_TOKEN_EXPIRES", "90000", "exposure.token_lifetime", "warning"),
            ("JWT_ALGORITHM", "HS256", "exposure.algorithm", "warning"),
            ("JWT_ALGORITHM", "HS256", "keys.algorithm", "warning"),
            ("JWT_AUDIENCE", "", "exposure.audience", "warning"),
            ("JWT_SECRET_KEY_PREVIOUS", OTHER_SECRET, "secret.previous", "warning"),
            ("JWT_SECRET_KEY_PREVIOUS", Process::KEY, "secret.strength", "warning"),
            ("LOGIN_MAX_FAILURES", "1000", "exposure.login_limits", "warning"),
            ("LOGIN_NETWORK_BURST", "0", "exposure.login_limits", "warning"),
            ("MANAGEMENT_ADDRESS", "", "exposure.docs", "warning"),
            ("MANAGEMENT_ADDRESS", "", "exposure.management", "warning"),
            ("MANAGEMENT_ADDRESS", "0.0.0.0:0", "exposure.management", "warning"),
            ("PASSWORD_BLOCKLIST", "none", "exposure.passwords", "warning"),
            ("PUBLIC_URL", "", "exposure.public_url", "warning"),
            ("PUBLIC_URL", "http://auth.example.com", "exposure.public_url", "warning"),
            ("PUBLIC_URL", "https://other.example.com", "keys.issuer", "warning"),
            ("REGISTRATION", "open", "exposure.registration", "warning"),
            ("TRUSTED_PROXIES", "", "exposure.proxies", "warning"),
            ("TRUSTED_PROXIES", "0.0.0.0/0", "exposure.proxies", "warning"),
            ("TRUSTED_PROXIES", "::/0", "exposure.proxies", "warning"),
        ] {
            let found = deployment.examine(&[(name, value)]).await;
            assert_eq!(found.worst(check), severity, "{name}={value}: {:#?}", found.faults());
        }
    };
    TestDatabase::sqlite().run(test).await;
}

#[actix_web::test]
async fn refused_settings_leave_out_what_needs_them() {
    let test = async |database: TestDatabase| {
        let deployment = Deployment::new(&database).await;

        let found = deployment.examine(&[("PORT", "http"), ("HASH_THREADS", "many")]).await;

        assert_eq!(found.exit_code, Some(1));
        found.assert("configuration.settings", "error", "PORT must be ");
        found.assert("configuration.settings", "error", "HASH_THREADS must be ");
        found.assert("doctor.skipped", "warning", ": secret, exposure, ports, database");
        assert_eq!(found.of_check("doctor.skipped").len(), 1);
        assert_eq!(found.worst("accounts.administrators"), "none", "HASH_THREADS is for all");

        let found = deployment.examine(&[("PORT", "http")]).await;
        found.assert("accounts.administrators", "ok", "");
        found.assert("doctor.skipped", "warning", ": secret, exposure, ports, keys");
        assert_eq!(found.of_check("doctor.skipped").len(), 1);
    };
    TestDatabase::sqlite().run(test).await;
}

#[actix_web::test]
async fn malformed_env_file_is_a_finding() {
    let test = async |database: TestDatabase| {
        let deployment = Deployment::new(&database).await;
        deployment.write_file(".env", "hunter2\nREGISTRATON=closed\n", 0o600);
        let found = deployment.examine(&[]).await;
        let problem = ".env line 1: must be NAME=VALUE";
        found.assert("configuration.settings", "error", problem);

        deployment.write_file(".env", "REGISTRATON=closed\n", 0o600);
        let found = deployment.examine(&[]).await;
        let problem = "REGISTRATON in .env is not a setting; did you mean REGISTRATION?";
        found.assert("configuration.names", "warning", problem);
        assert_eq!(found.faults().len(), 1, "{:#?}", found.faults());
    };
    TestDatabase::sqlite().run(test).await;
}

#[actix_web::test]
async fn file_that_others_can_read_is_found() {
    let test = async |database: TestDatabase| {
        let deployment = Deployment::new(&database).await;
        for (mode, severity) in [(0o600, "ok"), (0o640, "warning"), (0o644, "error")] {
            deployment.write_file(".env", &format!("JWT_SECRET_KEY={SECRET}\n"), mode);
            let key = deployment.write_file("secret", SECRET, mode);

            let found = deployment.examine(&[("JWT_SECRET_KEY_FILE", &key)]).await;

            found.assert("files.secrets", severity, ".env");
            found.assert("files.secrets", severity, "JWT_SECRET_KEY_FILE");
            let expected = if severity == "ok" { 0 } else { 2 };
            assert_eq!(found.faults().len(), expected, "each once: {:#?}", found.faults());

            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(database.path(), permissions).unwrap();
            assert_eq!(deployment.examine(&[]).await.worst("files.database"), severity);
            fs::set_permissions(database.path(), fs::Permissions::from_mode(0o600)).unwrap();

            let log = database.path().with_extension("db-wal");
            fs::write(&log, "").unwrap();
            fs::set_permissions(&log, fs::Permissions::from_mode(mode)).unwrap();
            let found = deployment.examine(&[]).await;
            found.assert("files.database", severity, "portcullis.db-wal: ");
            fs::remove_file(log).unwrap();
        }
    };
    TestDatabase::sqlite().run(test).await;
}

async fn fault_in_the_rows_is_found(database: TestDatabase) {
    let deployment = Deployment::new(&database).await;
    let year = match database {
        TestDatabase::Postgres { .. } => "interval '1 year'",
        TestDatabase::Sqlite(_) => "31536000000000",
    };
    deployment.run("client create robot --permission orders:read").await;
    let before = deployment.examine(&[]).await;
    let rotation = format!("update signing_keys set activated_at = activated_at - {year}");
    for (fault, check) in [
        ("delete from signing_keys where state = 'pending'", "keys.pending"),
        (rotation.as_str(), "keys.active"),
        ("update signing_keys set state = 'retiring' where state = 'active'", "keys.active"),
        ("update signing_keys set state = 'x'", "keys.rows"),
        ("update users set roles = roles, disabled_at = created_at", "accounts.administrators"),
    ] {
        assert!(["ok", "none"].contains(&before.worst(check)), "{:#?}", before.faults());
        database.execute(fault).await;
        let found = deployment.examine(&[]).await;
        assert_eq!(found.worst(check), "warning", "{fault}: {:#?}", found.faults());
    }
    before.assert("accounts.imported_hashes", "ok", "next login: 0");
    database.execute("update users set hash_cost = 'bcrypt:12'").await;
    deployment.examine(&[]).await.assert("accounts.imported_hashes", "ok", "next login: 1");

    let all = "dashboard:read users:read users:write roles:read roles:write clients:read \
               clients:write keys:read keys:write audit:read tokens:introspect tokens:revoke \
               revocations:read";
    assert_eq!(before.worst("accounts.client_rights"), "ok");
    let all: Vec<_> = all.split(' ').map(|name| format!("--permission {name}")).collect();
    deployment.run(&format!("client set robot {}", all.join(" "))).await;
    deployment.examine(&[]).await.assert("accounts.client_rights", "warning", ": robot");

    assert_eq!(before.worst("accounts.expired_clients"), "ok");
    deployment.run("client set robot --expires-at 2020-01-01T00:00:00Z").await;
    let found = deployment.examine(&[]).await;
    found.assert("accounts.expired_clients", "warning", ": robot");
    assert_eq!(found.worst("accounts.client_rights"), "ok", "it can do nothing any more");
}

async fn wrong_schema_is_found(database: TestDatabase) {
    let deployment = Deployment::new(&database).await;
    deployment.examine(&[]).await.assert("database.schema", "ok", "");

    let columns = "description, success, checksum, execution_time";
    let newer = format!(
        "insert into _sqlx_migrations (version, {columns})
         select 9999, {columns} from _sqlx_migrations where version = 1"
    );
    database.execute(newer).await;
    let found = deployment.examine(&[]).await;
    found.assert("database.schema", "error", ": its schema has version 9999");

    database.execute("delete from _sqlx_migrations where version > 4").await;
    let found = deployment.examine(&[]).await;
    found.assert("database.schema", "warning", "run `portcullis migrate`");
    assert_eq!(found.worst("keys.active"), "none");
}

async fn missing_schema_is_a_warning(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let deployment = Deployment { database: database.clone(), folder };
    if let TestDatabase::Sqlite(_) = database {
        fs::create_dir(database.path().parent().unwrap()).unwrap();
        fs::write(database.path(), "").unwrap();
    }

    let found = deployment.examine(&[]).await;

    found.assert("database.schema", "warning", "no tables yet");
    if let TestDatabase::Sqlite(_) = database {
        assert_eq!(fs::read(database.path()).unwrap(), b"", "it is left as it is");
    }
}

async fn wrong_secret_is_found(database: TestDatabase) {
    let deployment = Deployment::new(&database).await;
    deployment.examine(&[]).await.assert("secret.opens", "ok", "decrypts");

    let other = ("JWT_SECRET_KEY", OTHER_SECRET);
    let found = deployment.examine(&[other]).await;
    found.assert("secret.opens", "error", "is not the secret that protects the keys");

    let with_previous = [other, ("JWT_SECRET_KEY_PREVIOUS", SECRET)];
    let found = deployment.examine(&with_previous).await;
    found.assert("secret.opens", "ok", "the next start adds the new secret");
    let found = deployment.examine(&[other]).await;
    assert_eq!(found.worst("secret.opens"), "error", "the command has added nothing");

    let mut command = deployment.command();
    let mut process = Process::spawn(command.envs(with_previous)).await;
    process.send_signal(Signal::TERM);
    process.wait_for_exit().await;
    let found = deployment.examine(&with_previous).await;
    found.assert("secret.previous", "warning", "still decrypt the keys: 1");

    database.execute("delete from root_key_wrappings").await;
    let found = deployment.examine(&[]).await;
    found.assert("secret.opens", "error", "but not the root key");
}

#[actix_web::test]
async fn guessable_secret_is_an_error_where_tokens_reveal_it() {
    let test = async |database: TestDatabase| {
        let deployment = Deployment::new(&database).await;
        let weak = ("JWT_SECRET_KEY", Process::KEY);
        let found = deployment.examine(&[weak]).await;
        assert_eq!(found.worst("secret.strength"), "warning");
        let found = deployment.examine(&[weak, ("JWT_ALGORITHM", "HS256")]).await;
        assert_eq!(found.worst("secret.strength"), "error");
    };
    TestDatabase::sqlite().run(test).await;
}

/// Returns path and content of the files in a folder, in the order of their names. The index of the
/// log (`-shm`) is left out: a reader makes it anew if the service was killed.
fn files_of(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| !path.to_str().unwrap().ends_with("-shm"));
    let mut files: Vec<_> = paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[actix_web::test]
async fn developer_defaults_cause_friendly_warnings_only() {
    let folder = tempfile::tempdir().unwrap();
    let new = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.env_clear().env("PORT", "0").env("LOG_FORMAT", "json");
        command.stdout(std::process::Stdio::piped()).kill_on_drop(true);
        command.current_dir(folder.path());
        command
    };

    let found = Findings::of(&mut new()).await;
    found.assert("database.reachable", "warning", "there is no database");
    assert_eq!((found.faults().len(), found.exit_code), (1, Some(0)), "{:#?}", found.faults());
    assert!(!folder.path().join("data").exists(), "the command creates nothing");

    let mut process = Process::spawn(&mut new()).await;
    let while_it_runs = Findings::of(&mut new()).await;
    process.send_signal(Signal::TERM);
    process.wait_for_exit().await;
    let before = files_of(&folder.path().join("data"));
    let afterwards = Findings::of(&mut new()).await;
    let after = files_of(&folder.path().join("data"));
    let names = |files: &[(PathBuf, Vec<u8>)]| -> Vec<PathBuf> {
        files.iter().map(|(path, _)| path.clone()).collect()
    };
    assert_eq!(names(&after), names(&before), "the command adds no file");
    assert!(after == before, "the command changes no file");
    for found in [while_it_runs, afterwards] {
        found.assert("accounts.administrators", "warning", "there is no administrator");
        assert_eq!((found.faults().len(), found.exit_code), (1, Some(0)), "{:#?}", found.faults());
    }

    fs::remove_file(folder.path().join("data/portcullis.key")).unwrap();
    let found = Findings::of(&mut new()).await;
    found.assert("secret.opens", "error", "portcullis.key is missing");
    found.assert("secret.strength", "ok", "there is no secret in ");

    let key = folder.path().join("data/portcullis.key");
    fs::write(&key, "hunter2").unwrap();
    let found = Findings::of(&mut new()).await;
    found.assert("secret.strength", "error", "portcullis.key: is 7 bytes long and must be");

    fs::remove_file(&key).unwrap();
    symlink("portcullis.key", &key).unwrap();
    let found = Findings::of(&mut new()).await;
    for check in ["secret.strength", "secret.opens"] {
        found.assert(check, "error", "portcullis.key: Too many levels of symbolic links");
    }
}

#[actix_web::test]
async fn folder_that_cannot_be_searched_is_an_error() {
    let test = async |database: TestDatabase| {
        let folder = tempfile::tempdir().unwrap();
        let deployment = Deployment { database, folder };
        let file = deployment.write_file("file", "", 0o600);

        let url = format!("sqlite://{file}/portcullis.db");
        let found = deployment.examine(&[("DATABASE_URL", &url)]).await;

        found.assert("database.reachable", "error", "Not a directory");
        assert_eq!(found.exit_code, Some(1));
    };
    TestDatabase::sqlite().run(test).await;
}

#[actix_web::test]
async fn settings_before_the_first_start_have_nothing_to_differ_from() {
    let test = async |database: TestDatabase| {
        let folder = tempfile::tempdir().unwrap();
        let deployment = Deployment { database, folder };
        deployment.run("migrate").await;

        let found = deployment.examine(&[]).await;

        found.assert("keys.algorithm", "ok", "no instance has started yet");
        found.assert("keys.issuer", "ok", "no instance has started yet");
    };
    TestDatabase::sqlite().run(test).await;
}

#[actix_web::test]
async fn fault_of_the_file_is_found() {
    let test = async |database: TestDatabase| {
        let deployment = Deployment::new(&database).await;
        let found = deployment.examine(&[]).await;
        found.assert("files.journal", "ok", "");
        found.assert("database.integrity", "ok", "");

        database.execute("pragma journal_mode = delete").await;
        deployment.examine(&[]).await.assert("files.journal", "warning", "is not WAL");

        let mut content = fs::read(database.path()).unwrap();
        let (page, second) = (4096, 4096);
        content[second..second + page].fill(0xff);
        fs::write(database.path(), content).unwrap();
        let found = deployment.examine(&[]).await;
        let is_found = ["database.integrity", "database.facts", "database.reachable"]
            .iter()
            .any(|check| found.worst(check) == "error");
        assert!(is_found, "{:#?}", found.faults());

        fs::write(database.path(), "this is no database, but a text of some length").unwrap();
        let found = deployment.examine(&[]).await;
        assert_eq!(found.exit_code, Some(1), "{:#?}", found.faults());
    };
    TestDatabase::sqlite().run(test).await;
}

#[actix_web::test]
async fn unreachable_server_is_an_error_and_the_other_checks_go_on() {
    let test = async |database: TestDatabase| {
        let folder = tempfile::tempdir().unwrap();
        let deployment = Deployment { database: database.with_port(free_port()), folder };

        let found = deployment.examine(&[]).await;

        found.assert("database.reachable", "error", "Connection refused");
        found.assert("exposure.registration", "ok", "");
        assert_eq!(found.exit_code, Some(1));
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn role_that_must_not_create_tables_in_an_empty_database_is_an_error() {
    let test = async |database: TestDatabase| {
        database.execute("revoke all on schema public from public").await;
        let (role, as_role) = database.with_new_role().await;
        let folder = tempfile::tempdir().unwrap();
        let deployment = Deployment { database: as_role, folder };
        for (rights, severity, can_migrate) in
            [("usage", "error", false), ("create", "warning", true)]
        {
            database.execute(format!("grant {rights} on schema public to {role}")).await;

            let found = deployment.examine(&[]).await;

            found.assert("database.schema", severity, " has no tables ");
            assert_eq!(found.worst("database.rights"), "none", "{rights}");
            let migrated = deployment.run("migrate").await;
            assert_eq!(migrated.exit_code == Some(0), can_migrate, "{rights}: {migrated:?}");
        }
        assert_eq!(deployment.examine(&[]).await.worst("database.rights"), "ok");
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn facts_are_read_where_the_role_has_one_connection() {
    let test = async |database: TestDatabase| {
        let (role, as_role) = database.with_new_role().await;
        database.execute(format!("alter role {role} connection limit 1")).await;
        let folder = tempfile::tempdir().unwrap();

        let found = Deployment { database: as_role, folder }.examine(&[]).await;

        found.assert("database.pool_mode", "warning", "not checked: ");
        found.assert("database.connections", "warning", "only 1 are allowed");
        assert_eq!(found.worst("database.facts"), "none", "{:#?}", found.faults());
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn fault_of_the_server_is_found() {
    let mut server = PostgresServer::start().await;
    // The server is no test server any more.
    server.run_command(r#"echo "fsync = on" >>"$data/postgresql.conf""#).await;
    server.run_command("$TEST_POSTGRES_CTL reload").await;
    let owner = server.database.clone();
    let as_owner = Deployment::new(&owner).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/service-role.sql");
    let psql = r#"psql -qv ON_ERROR_STOP=1 -d "$TEST_DATABASE_URL" -f"#;
    let password = "PGOPTIONS='-c portcullis.service_password=x'";
    server.run_command(&format!("{password} {psql} {script}")).await;
    let role = "portcullis_service";
    let service = TestDatabase::Postgres {
        name: "postgres".to_owned(),
        url: owner.url().replace("postgres@", &format!("{role}@")),
    };
    let deployment = Deployment { database: service, ..as_owner };
    let is_good = async || deployment.examine(&[]).await.faults().is_empty();
    eventually("the deployment is good", is_good).await;

    let of_role = |option: &str| format!("alter role {role} {option}");
    for (fault, remedy, check, severity) in [
        (
            of_role("set synchronous_commit = off"),
            of_role("reset all"),
            "database.durability",
            "error",
        ),
        (
            of_role("set default_transaction_isolation = 'serializable'"),
            of_role("reset all"),
            "database.isolation",
            "warning",
        ),
        (
            of_role("set default_transaction_read_only = on"),
            of_role("reset all"),
            "database.writable",
            "error",
        ),
        (of_role("superuser"), of_role("nosuperuser"), "database.role", "warning"),
        (of_role("createrole"), of_role("nocreaterole"), "database.role", "warning"),
        (
            of_role("connection limit 12"),
            of_role("connection limit -1"),
            "database.connections",
            "warning",
        ),
        (
            "alter database postgres connection limit 12".to_owned(),
            "alter database postgres connection limit -1".to_owned(),
            "database.connections",
            "warning",
        ),
        (
            format!("alter table users owner to {role}"),
            format!("alter table users owner to postgres; grant all on users to {role}"),
            "database.role",
            "warning",
        ),
        (
            format!("revoke insert on audit_log from {role}"),
            format!("grant insert on audit_log to {role}"),
            "database.rights",
            "error",
        ),
    ] {
        owner.execute(&fault).await;
        let found = deployment.examine(&[]).await;
        owner.execute(&remedy).await;
        assert_eq!(found.worst(check), severity, "{fault}: {:#?}", found.faults());
        let healed = deployment.examine(&[]).await;
        assert_eq!(healed.faults(), [&Value::Null; 0], "after {remedy}");
    }
    server_settings_are_found(&mut server, &deployment).await;
    standbys_are_found(&mut server, role, &deployment).await;
    server.shut_down().await;
}

async fn server_settings_are_found(server: &mut PostgresServer, deployment: &Deployment) {
    for setting in ["fsync", "full_page_writes"] {
        for (value, severity) in [("off", "error"), ("on", "ok")] {
            let change = format!(r#"echo "{setting} = {value}" >>"$data/postgresql.conf""#);
            server.run_command(&change).await;
            server.run_command("$TEST_POSTGRES_CTL reload").await;
            eventually(&format!("{setting} = {value} is seen"), async || {
                deployment.examine(&[]).await.worst("database.durability") == severity
            })
            .await;
        }
    }
}

async fn standbys_are_found(server: &mut PostgresServer, role: &str, deployment: &Deployment) {
    let owner = server.database.clone();
    owner.execute(format!("grant pg_monitor to {role}")).await;
    let replica = server.add_replica().await;
    eventually("the synchronous replica is there", async || {
        let select =
            "do $$ begin assert (select sync_state = 'sync' from pg_stat_replication); end $$";
        let mut connection = owner.connect().await;
        sqlx::Executor::execute(&mut connection, select).await.is_ok()
    })
    .await;
    assert_eq!(deployment.examine(&[]).await.worst("database.standbys"), "ok");

    let replica = replica.url().replace("postgres://postgres@", &format!("postgres://{role}@"));
    let found = deployment.examine(&[("DATABASE_URL", &replica)]).await;
    found.assert("database.writable", "error", "is a replica");

    server.run_command(r#"echo "synchronous_standby_names = ''" >>"$data/postgresql.conf""#).await;
    server.run_command("$TEST_POSTGRES_CTL reload").await;
    eventually("the asynchronous replica is found", async || {
        deployment.examine(&[]).await.worst("database.standbys") == "warning"
    })
    .await;
}

#[actix_web::test]
async fn other_encoding_is_found() {
    let test = async |database: TestDatabase| {
        let folder = tempfile::tempdir().unwrap();
        let found = Deployment { database, folder }.examine(&[]).await;
        found.assert("database.encoding", "error", "the encoding is LATIN1");
    };
    let options = "encoding 'LATIN1' template template0 lc_collate 'C' lc_ctype 'C'";
    TestDatabase::postgres_with(options).await.run(test).await;
    let test = async |database: TestDatabase| {
        let folder = tempfile::tempdir().unwrap();
        let found = Deployment { database, folder }.examine(&[]).await;
        found.assert("database.encoding", "ok", "");
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn wrong_pool_mode_is_found() {
    let test = async |database: TestDatabase| {
        let direct = Deployment::new(&database).await;
        let pooler = PgBouncer::start(&database).await;
        let folder = tempfile::tempdir().unwrap();
        let pooled = Deployment { database: pooler.database.clone(), folder };
        for (deployment, mode, severity) in [
            (&direct, "session", "ok"),
            (&direct, "transaction", "warning"),
            (&pooled, "transaction", "ok"),
            (&pooled, "session", "error"),
        ] {
            let found = deployment.examine(&[("DATABASE_POOL_MODE", mode)]).await;
            assert_eq!(found.worst("database.pool_mode"), severity, "{:#?}", found.faults());
        }
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn unreachable_listener_is_found() {
    let test = async |database: TestDatabase| {
        let deployment = Deployment::new(&database).await;
        let found = deployment.examine(&[]).await;
        found.assert("database.listener", "ok", "can receive notifications");

        let elsewhere = database.with_port(free_port()).url();
        let found = deployment.examine(&[("DATABASE_LISTEN_URL", &elsewhere)]).await;
        found.assert("database.listener", "warning", "Connection refused");
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn running_instance_is_asked() {
    let test = async |database: TestDatabase| {
        let deployment = Deployment::new(&database).await;
        let proxy = "127.0.0.1";
        for (management, host, proxies, expected) in [
            ("127.0.0.1:0", "0.0.0.0", "", "ok"),
            ("", "127.0.0.1", "", "ok"),
            ("", "127.0.0.1", proxy, "warning"),
            ("", "0.0.0.0", "", "warning"),
        ] {
            let port = free_port().to_string();
            let mut settings = vec![("HOST", host), ("PORT", port.as_str())];
            settings.extend([("TRUSTED_PROXIES", proxies), ("PUBLIC_URL", "")]);
            let probes = format!("127.0.0.1:{}", free_port());
            settings.push(("MANAGEMENT_ADDRESS", if management.is_empty() { "" } else { &probes }));
            let found = deployment.examine(&settings).await;
            found.assert("ports.ready", "ok", "no instance answers");
            let mut command = deployment.command();
            let process = Process::spawn(command.envs(settings.iter().copied())).await;

            let found = deployment.examine(&settings).await;

            drop(process);
            found.assert("ports.ready", "ok", "is ready");
            let case = format!("{host}, {management}, {proxies}");
            assert_eq!(found.worst("ports.metrics"), expected, "{case}");
        }
    };
    TestDatabase::sqlite().run(test).await;
}

#[actix_web::test]
async fn other_program_on_the_port_is_found() {
    let test = async |database: TestDatabase| {
        let deployment = Deployment::new(&database).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        actix_web::rt::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                assert!(connection.read(&mut [0; 1024]).await.unwrap() > 0);
                connection.write_all(b"\xff is not UTF-8").await.unwrap();
            }
        });

        let settings = [("MANAGEMENT_ADDRESS", ""), ("PORT", port.as_str())];
        let found = deployment.examine(&settings).await;

        found.assert("ports.ready", "warning", "is not an instance of this service");
    };
    TestDatabase::sqlite().run(test).await;
}

/// Returns the default of a setting as a number, without its unit, and the unit.
fn default_of(setting: &str) -> (i64, String) {
    let command = RawSettings::augment_args(clap::Command::default());
    let mut arguments = command.get_arguments();
    let argument = arguments.find(|argument| argument.get_env().is_some_and(|env| env == setting));
    let default = argument.unwrap().get_default_values()[0].to_str().unwrap();
    let number = default.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    (number.parse().unwrap(), default[number.len()..].to_owned())
}

#[actix_web::test]
async fn limit_that_is_a_little_looser_than_its_default_is_found() {
    let test = async |database: TestDatabase| {
        let deployment = Deployment::new(&database).await;
        deployment.examine(&[]).await.assert("exposure.login_limits", "ok", "");
        for (name, step) in [
            ("LOGIN_FREE_FAILURES", 1),
            ("LOGIN_MAX_FAILURES", 1),
            ("SESSION_MAX_FAILURES", 1),
            ("LOGIN_NETWORK_BURST", 1),
            ("LOGIN_NETWORK_INTERVAL", -1),
            ("REGISTRATION_NETWORK_BURST", 1),
            ("REGISTRATION_NETWORK_INTERVAL", -1),
        ] {
            let value = match default_of(name) {
                (minutes, unit) if unit == "m" => minutes * 60 + step,
                (number, _) => number + step,
            };
            let found = deployment.examine(&[(name, &value.to_string())]).await;
            found.assert("exposure.login_limits", "warning", name);
        }
    };
    TestDatabase::sqlite().run(test).await;
}

#[actix_web::test]
async fn exit_code_and_text_tell_the_worst_severity() {
    let test = async |database: TestDatabase| {
        let deployment = Deployment::new(&database).await;
        for (settings, arguments, exit_code, sum) in [
            (("REGISTRATION", "closed"), "doctor --strict", 0, "errors: 0, warnings: 0, ok: "),
            (("REGISTRATION", "open"), "doctor", 0, "errors: 0, warnings: 1, ok: "),
            (("REGISTRATION", "open"), "doctor --strict", 6, "errors: 0, warnings: 1, ok: "),
            (("REGISTRATION", "x"), "doctor --strict", 1, "errors: 1, warnings: "),
        ] {
            let mut command = deployment.command();
            command.envs([settings]).args(arguments.split(' '));
            let outcome = run_command(&mut command, "").await;

            assert_eq!(outcome.exit_code, Some(exit_code), "{outcome:?}");
            let last_line = outcome.stdout.lines().next_back().unwrap();
            assert!(last_line.starts_with(sum), "{last_line}");
        }
        let mut command = deployment.command();
        let outcome = run_command(command.env("REGISTRATION", "open").arg("doctor"), "").await;
        let line = "warning  exposure.registration: everyone who reaches the service can register an \
                    account; set REGISTRATION=closed, unless this is meant (docs/settings.md)";
        assert_eq!(outcome.stdout.lines().rev().nth(2), Some(line), "the worst come last");
        let line = "ok       exposure.token_lifetime: access tokens live for 1h";
        assert!(outcome.stdout.lines().any(|text| text == line), "{}", outcome.stdout);

        let mut command = deployment.command();
        let outcome = run_command(command.env("PROT", "80").arg("doctor"), "").await;
        let line = "did you mean PORT? correct or remove it (docs/settings.md)\n";
        assert!(outcome.stdout.contains(line), "{}", outcome.stdout);
    };
    TestDatabase::sqlite().run(test).await;
}
