//! The `database` commands.

use std::io::{self, Write};
use std::path::Path;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::error::CommandError;
use super::output::say;
use crate::config::{CopyConfig, ManagementConfig};
use crate::store::{self, CopyProgress};

/// Copies a database into an empty one.
pub(super) async fn copy(config: &CopyConfig) -> Result<(), CommandError> {
    say(&format!("copying the database {}", store::describe(&config.from.database)));
    say(&format!("into the database {}", store::describe(&config.to.database)));
    let display = ProgressDisplay::new();
    let show = |progress| display.show(progress);
    let rows = store::copy(&config.from, &config.to, &say, &show).await?;
    if let Some(secret) = &config.kept_secret {
        let secret = secret.display();
        say(&format!(
            "portcullis: warning: {secret} has the secret that protects the keys in the copy; give \
             that secret to every instance on the copy, with JWT_SECRET_KEY_FILE={secret} for example"
        ));
    }
    Ok(writeln!(io::stdout(), "copied {} rows", HumanCount(rows))?)
}

/// Writes a copy of an SQLite database to a new file.
pub(super) async fn back_up(config: &ManagementConfig, file: &Path) -> Result<(), CommandError> {
    say(&format!("using the database {}", store::describe(&config.database.database)));
    store::back_up(&config.database, file).await?;
    if let Some(secret) = &config.kept_secret {
        let secret = secret.display();
        say(&format!("keep {secret}, too: without it, the keys in the backup cannot be decrypted"));
    }
    Ok(writeln!(io::stdout(), "wrote {}", file.display())?)
}

/// Display of the progress on standard error: a bar on a terminal, and a line for each table.
struct ProgressDisplay(ProgressBar);

impl ProgressDisplay {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{msg:18} {bar:30} {human_pos} of {human_len}");
        let bar = ProgressBar::new(0);
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    fn show(&self, progress: CopyProgress) {
        let Self(bar) = self;
        let CopyProgress { table, copied, total } = progress;
        if copied < total {
            bar.set_message(table);
            bar.set_length(total);
            bar.set_position(copied);
            return;
        }
        let line = format!("rows of {table}: {}", HumanCount(total));
        bar.suspend(|| say(&line));
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
