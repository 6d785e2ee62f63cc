//! Commands of the program.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Longest time for which a prompt is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// The exit code and the output of a command.
#[derive(Debug)]
pub struct Outcome {
    pub exit_code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Parses one JSON value for each line of output.
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).expect("each line is a JSON value");
        self.stdout.lines().map(parse).collect()
    }

    #[track_caller]
    pub fn assert_refused(&self, exit_code: i32, message: &str) {
        let last_line = self.stderr.lines().next_back();
        let actual = (self.exit_code, last_line, self.stdout.as_str());
        assert_eq!(actual, (Some(exit_code), Some(message), ""));
    }
}

/// Runs a command with a text on standard input.
pub async fn run_command(command: &mut Command, input: &str) -> Outcome {
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    // Fails if the command reads no input and has closed it.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.expect("the command ends");
    Outcome {
        exit_code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("the output is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("the output is UTF-8"),
    }
}

/// A command on a terminal of its own, with `script` (from util-linux) at the other end.
pub struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    screen: ChildStdout,
    /// Output that no prompt was found in yet.
    unread: String,
}

impl Terminal {
    /// Starts a command of the program with the environment of `program`.
    pub fn start(program: &Command, arguments: &str) -> Self {
        let program = program.as_std();
        let line = format!("{} {arguments}", program.get_program().display());
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env_clear();
        script.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = script.spawn().expect("`script` is installed");
        let keyboard = child.stdin.take().expect("standard input is piped");
        let screen = child.stdout.take().expect("standard output is piped");
        Self { child, keyboard, screen, unread: String::new() }
    }

    /// Waits for a prompt and types a line.
    pub async fn answer(&mut self, prompt: &str, line: &str) {
        while !self.unread.contains(prompt) {
            let has_more = timeout(PATIENCE, self.read()).await;
            assert!(has_more.is_ok_and(|more| more), "no prompt `{prompt}`: {}", self.unread);
        }
        self.unread.clear();
        let typed = self.keyboard.write_all(format!("{line}\n").as_bytes()).await;
        typed.expect("the command reads the keyboard");
    }

    /// Waits for the end of the command. Returns its exit code and its output since the last answer.
    pub async fn finish(mut self) -> (Option<i32>, String) {
        while timeout(PATIENCE, self.read()).await.expect("the command ends") {}
        let status = self.child.wait().await.expect("the command ends");
        (status.code(), self.unread)
    }

    /// Reads what the screen shows. Returns `false` at the end.
    async fn read(&mut self) -> bool {
        let mut bytes = [0; 1024];
        let count = self.screen.read(&mut bytes).await.expect("the screen can be read");
        self.unread.push_str(&String::from_utf8_lossy(&bytes[..count]));
        count > 0
    }
}
