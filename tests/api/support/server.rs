use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{TestDatabase, free_port};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/with-postgres.sh");

/// Says where the server is, then does what it is told until nobody tells it anything any more.
const CONSOLE: &str = r#"
    data=${TEST_POSTGRES_CTL#*-D }
    data=${data%% *}
    as_owner=${TEST_POSTGRES_CTL%% /*}
    replica() { $as_owner pg_ctl -D "$data-replica" -l "$data-replica.log" -s -w "$@"; }
    everybody() { pid=$(head -n 1 "$data/postmaster.pid"); echo "$pid" $(pgrep -P "$pid"); }
    trap '{ kill -CONT $(everybody); replica stop -m immediate; } 2>/dev/null' EXIT
    echo "$TEST_DATABASE_URL"
    while read -r order; do eval "$order" >&2 && echo done || echo failed; done
"#;

/// A Postgres server of a test's own, which may be stopped, frozen and started again.
pub struct Server {
    script: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    pub database: TestDatabase,
}

impl Server {
    pub async fn start() -> Self {
        let mut command = Command::new(SCRIPT);
        command.args(["sh", "-c", CONSOLE]).env_remove("TEST_DATABASE_URL");
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = pipes.spawn().expect("the script starts");
        let orders = script.stdin.take().expect("a piped input");
        let output = script.stdout.take().expect("a piped output");
        let mut answers = BufReader::new(output).lines();
        let url = answers.next_line().await.expect("an output").expect("a Postgres server");
        let database = TestDatabase::Postgres { name: "postgres".to_owned(), url };
        Self { script, orders, answers, database }
    }

    /// Kills every process of the server at once, as a power cut would.
    pub async fn crash(&mut self) {
        self.order("$TEST_POSTGRES_CTL stop -m immediate").await;
    }

    pub async fn start_again(&mut self) {
        self.order("$TEST_POSTGRES_CTL start").await;
    }

    /// Lets no process of the server go on: connections stay open and nobody answers.
    pub async fn freeze(&mut self) {
        self.order("kill -STOP $(everybody)").await;
    }

    pub async fn thaw(&mut self) {
        self.order("kill -CONT $(everybody)").await;
    }

    /// Adds a replica, without which the server acknowledges no commit from then on.
    pub async fn replicate(&mut self) -> TestDatabase {
        let copy =
            r#"$as_owner pg_basebackup -d "$TEST_DATABASE_URL" -D "$data-replica" -R -c fast"#;
        self.order(copy).await;
        let port = free_port();
        self.order(&format!(r#"replica start -o "-p {port}""#)).await;
        self.order(r#"echo "synchronous_standby_names = '*'" >>"$data/postgresql.conf""#).await;
        self.order("$TEST_POSTGRES_CTL reload").await;
        self.database.at_port(port)
    }

    /// Has the console run a line of shell.
    pub async fn order(&mut self, order: &str) {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.expect("the console reads");
        let answer = self.answers.next_line().await.expect("an answer");
        assert_eq!(answer.as_deref(), Some("done"), "{order}");
    }

    /// Ends the server and removes what it has written. Without this, that happens by itself, later.
    pub async fn end(self) {
        let Self { mut script, orders, .. } = self;
        drop(orders);
        script.wait().await.expect("the script ends");
    }
}
