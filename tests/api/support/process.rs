use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{TestApp, TestDatabase};

/// The real program, in a process of its own, that is killed with the test.
pub struct Process {
    child: Child,
    pub app: TestApp,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// What it signs tokens with.
    pub const KEY: &str = "0123456789abcdef0123456789abcdef";

    /// Prepares the program with the cheapest hash that it accepts, and the patience that a busy
    /// machine needs, on a free port.
    pub fn command(database: &TestDatabase) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command
            .env_clear()
            .env("DATABASE_URL", database.url())
            .env("JWT_SECRET_KEY", Self::KEY)
            .env("PORT", "0")
            .env("PBKDF2_ITERATIONS", "100000")
            .env("REQUEST_TIMEOUT", "60")
            .env("HASH_MAX_WAIT", "50")
            .env("SHUTDOWN_TIMEOUT", "60")
            .env("LOG_FORMAT", "json")
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub async fn start(database: &TestDatabase) -> Self {
        Self::spawn(&mut Self::command(database)).await
    }

    /// Spawns the program and waits until its log says where it listens.
    pub async fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let output = child.stdout.take().expect("a piped output");
        let mut lines = BufReader::new(output).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let line = lines.next_line().await.expect("a log").expect("a line about listening");
            keep(&log, &line);
            if let Some(address) = listening_address(&line) {
                break address;
            }
        };
        let rest = Arc::clone(&log);
        actix_web::rt::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                keep(&rest, &line);
            }
        });
        Self { child, app: TestApp::at(address), log }
    }

    pub fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("a running process");
        let pid = Pid::from_raw(id.try_into().expect("a pid")).expect("a pid");
        kill_process(pid, signal).expect("the signal is delivered");
    }

    pub async fn exit(&mut self) -> ExitStatus {
        self.child.wait().await.expect("an exit status")
    }

    /// Returns what it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic while logging").clone()
    }
}

fn keep(log: &Mutex<String>, line: &str) {
    let mut log = log.lock().expect("no panic while logging");
    log.push_str(line);
    log.push('\n');
}

fn listening_address(line: &str) -> Option<SocketAddr> {
    let (_, after) = line.split_once("listening on http://")?;
    after.split('"').next()?.parse().ok()
}
