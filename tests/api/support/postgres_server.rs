use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{TestDatabase, free_port};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/with-postgres.sh");

/// Prints the URL of the server, then runs each line of its input as a shell command and prints
/// `done` or `failed`. The server stops at the end of the input.
const CONSOLE: &str = r#"
    data=${TEST_POSTGRES_CTL#*-D }
    data=${data%% *}
    as_owner=${TEST_POSTGRES_CTL%% /*}
    replica() { $as_owner pg_ctl -D "$data-replica" -l "$data-replica.log" -s -w "$@"; }
    server_pids() { pid=$(head -n 1 "$data/postmaster.pid"); echo "$pid" $(pgrep -P "$pid"); }
    trap '{ kill -CONT $(server_pids); replica stop -m immediate; } 2>/dev/null' EXIT
    echo "$TEST_DATABASE_URL"
    while read -r command; do eval "$command" >&2 && echo done || echo failed; done
"#;

/// A separate Postgres server that a test can stop, freeze and start again.
pub struct PostgresServer {
    console: Child,
    console_input: ChildStdin,
    console_output: Lines<BufReader<ChildStdout>>,
    pub database: TestDatabase,
}

impl PostgresServer {
    pub async fn start() -> Self {
        let mut command = Command::new(SCRIPT);
        command.args(["sh", "-c", CONSOLE]).env_remove("TEST_DATABASE_URL");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut console = command.spawn().expect("the console starts");
        let console_input = console.stdin.take().expect("its standard input is piped");
        let stdout = console.stdout.take().expect("its standard output is piped");
        let mut console_output = BufReader::new(stdout).lines();

        let first_line = console_output.next_line().await.expect("the console's output is text");
        let url = first_line.expect("the console prints the URL of the server");
        let database = TestDatabase::Postgres { name: "postgres".to_owned(), url };
        Self { console, console_input, console_output, database }
    }

    /// Kills every process of the server at once, as a power cut would.
    pub async fn crash(&mut self) {
        self.run_command("$TEST_POSTGRES_CTL stop -m immediate").await;
    }

    pub async fn start_again(&mut self) {
        self.run_command("$TEST_POSTGRES_CTL start").await;
    }

    /// Kills one of the server's processes. The server ends the others, recovers and goes on.
    pub async fn kill_backend(&mut self) {
        let kill = r#"kill -KILL $(psql -Atc "select pid from pg_stat_activity
            where backend_type = 'client backend' and pid <> pg_backend_pid() limit 1"
            "$TEST_DATABASE_URL")"#;
        self.run_command(&kill.replace('\n', " ")).await;
        self.run_command(r#"until grep -q reinitializing "$data/log"; do sleep 0.1; done"#).await;
        self.run_command(r#"until pg_isready -qd "$TEST_DATABASE_URL"; do sleep 0.1; done"#).await;
    }

    /// Suspends every process of the server: connections stay open without an answer.
    pub async fn freeze(&mut self) {
        self.run_command("kill -STOP $(server_pids)").await;
    }

    pub async fn thaw(&mut self) {
        // A process that had ended before the freeze is gone as soon as its parent continues.
        self.run_command("kill -CONT $(server_pids) || true").await;
    }

    /// Adds a synchronous replica: the server then acknowledges no commit without it.
    pub async fn add_replica(&mut self) -> TestDatabase {
        let copy =
            r#"$as_owner pg_basebackup -d "$TEST_DATABASE_URL" -D "$data-replica" -R -c fast"#;
        self.run_command(copy).await;
        let port = free_port();
        self.run_command(&format!(r#"replica start -o "-p {port}""#)).await;
        let require_replica = r#"echo "synchronous_standby_names = '*'" >>"$data/postgresql.conf""#;
        self.run_command(require_replica).await;
        self.run_command("$TEST_POSTGRES_CTL reload").await;
        self.database.with_port(port)
    }

    /// Runs one line of shell on the server's machine.
    pub async fn run_command(&mut self, command: &str) {
        let line = format!("{command}\n");
        self.console_input.write_all(line.as_bytes()).await.expect("the console reads commands");
        let outcome = self.console_output.next_line().await.expect("the console's output is text");
        assert_eq!(outcome.as_deref(), Some("done"), "{command}");
    }

    /// Stops the server and waits until its files are removed. A dropped server does the same in
    /// the background.
    pub async fn shut_down(self) {
        let Self { mut console, console_input, .. } = self;
        drop(console_input);
        console.wait().await.expect("the console exits");
    }
}
