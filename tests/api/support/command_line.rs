//! Commands of the program.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

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
