use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::{TestApp, TestDatabase, eventually};

/// The real program in a separate process, which is killed at the end of the test.
pub struct Process {
    child: Child,
    pub app: TestApp,
    log: Arc<Mutex<String>>,
    /// Whether the log has ended, and with it the program.
    has_ended: Arc<AtomicBool>,
}

impl Process {
    /// The key that the program signs tokens with.
    pub const KEY: &str = "0123456789abcdef0123456789abcdef";

    /// Prepares the program on a free port, with the cheapest hash that it accepts and with
    /// timeouts long enough for a busy machine.
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

    /// Spawns the program and waits until it logs the address that it listens on.
    pub async fn spawn(command: &mut Command) -> Self {
        let mut process = Self::spawn_until(command, "").await;
        process.wait_until_listening().await;
        process
    }

    /// Spawns the program and waits until it logs a text. Its address is not known yet.
    pub async fn spawn_until(command: &mut Command, text: &str) -> Self {
        let (process, unread_log) = Self::launch(command);
        process.read_log(unread_log);
        process.wait_for_log(|log| log.contains(text)).await;
        process
    }

    /// As [`Process::spawn`], but leaves the rest of the log unread.
    pub async fn spawn_unread(command: &mut Command) -> (Self, Lines<BufReader<ChildStdout>>) {
        let (mut process, mut unread_log) = Self::launch(command);
        loop {
            let line = unread_log.next_line().await.expect("the log is text");
            let line = line.expect("the program logs its address before it exits");
            append_line(&process.log, &line);
            if let Some(address) = parse_listening_address(&line) {
                process.app = TestApp::new(address);
                return (process, unread_log);
            }
        }
    }

    fn launch(command: &mut Command) -> (Self, Lines<BufReader<ChildStdout>>) {
        let mut child = command.spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("its standard output is piped");
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let process = Self {
            child,
            app: TestApp::new(unknown),
            log: Arc::default(),
            has_ended: Arc::default(),
        };
        (process, BufReader::new(stdout).lines())
    }

    /// Reads the rest of the log in the background.
    pub fn read_log(&self, mut unread_log: Lines<BufReader<ChildStdout>>) {
        let log = Arc::clone(&self.log);
        let has_ended = Arc::clone(&self.has_ended);
        actix_web::rt::spawn(async move {
            while let Ok(Some(line)) = unread_log.next_line().await {
                append_line(&log, &line);
            }
            has_ended.store(true, Ordering::Release);
        });
    }

    /// Waits until the program logs the address that it listens on.
    pub async fn wait_until_listening(&mut self) {
        self.wait_for_log(|log| log.lines().any(|line| parse_listening_address(line).is_some()))
            .await;
        let address = self.log().lines().find_map(parse_listening_address);
        self.app = TestApp::new(address.expect("the log contains the address"));
    }

    /// Returns a client for the listener for operators, from the address in the log.
    pub fn management(&self) -> TestApp {
        let log = self.log();
        let (_, after) = log.split_once("administration on http://").expect("the log has it");
        let address = after.split('"').next().and_then(|address| address.parse().ok());
        TestApp::new(address.expect("it is an address"))
    }

    async fn wait_for_log(&self, condition: impl Fn(&str) -> bool) {
        eventually("the program logs what is expected", async || {
            let is_over = self.has_ended.load(Ordering::Acquire);
            let is_fulfilled = condition(&self.log());
            assert!(is_fulfilled || !is_over, "the program has ended: {}", self.log());
            is_fulfilled
        })
        .await;
    }

    pub fn send_signal(&self, signal: Signal) {
        let id = self.child.id().expect("the process is running");
        let id = id.try_into().expect("the process ID fits");
        let pid = Pid::from_raw(id).expect("the process ID is positive");
        kill_process(pid, signal).expect("the signal is delivered");
    }

    pub async fn wait_for_exit(&mut self) -> ExitStatus {
        self.child.wait().await.expect("the process exits")
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic while the log is locked").clone()
    }
}

fn append_line(log: &Mutex<String>, line: &str) {
    let mut log = log.lock().expect("no panic while the log is locked");
    log.push_str(line);
    log.push('\n');
}

fn parse_listening_address(line: &str) -> Option<SocketAddr> {
    let (_, after) = line.split_once("listening on http://")?;
    after.split('"').next()?.parse().ok()
}
