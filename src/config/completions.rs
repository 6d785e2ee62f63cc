//! Completions of the command line for shells.

use clap::{Command as Program, Subcommand};
use clap_complete::{Shell as Generator, generate};

use super::cli::setting_options;
use super::command::{Command, Shell};
use super::version::VERSION;

/// Returns the script that completes commands and options in a shell. Settings are completed for
/// `serve` only: every command accepts them, but they would hide its own options.
#[must_use]
pub fn completions(shell: Shell) -> Vec<u8> {
    let program = Command::augment_subcommands(Program::new("portcullis")).version(VERSION);
    let mut program = program.mut_subcommand("serve", |serve| serve.args(setting_options()));
    let generator = match shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    let mut script = Vec::new();
    generate(generator, &mut program, "portcullis", &mut script);
    script
}
