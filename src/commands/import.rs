//! `portcullis user import`.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::mem;
use std::path::Path;

use serde::Serialize;

use super::error::CommandError;
use super::import_row::{self, Row};
use crate::clock::Clock;
use crate::config::{ImportArgs, RowFormat};
use crate::domain::{ExternalId, User, UserId};
use crate::store::{Credentials, ImportCommit, ImportOutcome, Store};

/// Accounts of one commit.
const BATCH: usize = 1_000;

/// Imports the accounts of a file. Rows that are not added are reported one by one.
pub(super) async fn run(
    args: ImportArgs,
    json: bool,
    store: &dyn Store,
    clock: &dyn Clock,
) -> Result<(), CommandError> {
    let ImportArgs { file, format, dry_run } = args;
    let format = format.unwrap_or_else(|| format_of(&file));
    let commit = if dry_run { ImportCommit::Rehearse } else { ImportCommit::Commit };
    let roles = store.list_roles().await?.roles;
    let mut import = Import {
        store,
        clock,
        commit,
        roles: roles.iter().map(|role| role.name.as_str().to_owned()).collect(),
        usernames: HashSet::new(),
        external_ids: HashSet::new(),
        ids: HashSet::new(),
        batch: Vec::new(),
        report: Report { json, lines: BufWriter::new(io::stdout()), counts: Counts::default() },
    };
    for row in import_row::read(import_row::open(&file)?, format)? {
        import.take(row?)?;
        if import.batch.len() == BATCH {
            import.commit().await?;
        }
    }
    import.commit().await?;
    import.report.finish(commit)
}

fn format_of(file: &Path) -> RowFormat {
    let is_csv = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    if is_csv { RowFormat::Csv } else { RowFormat::Jsonl }
}

/// An import in progress.
struct Import<'a> {
    store: &'a dyn Store,
    clock: &'a dyn Clock,
    commit: ImportCommit,
    /// Roles that exist.
    roles: HashSet<String>,
    /// Keys of the usernames of the rows so far.
    usernames: HashSet<String>,
    external_ids: HashSet<ExternalId>,
    ids: HashSet<UserId>,
    /// Accounts of the next commit, with their lines.
    batch: Vec<(u64, Credentials)>,
    report: Report,
}

impl Import<'_> {
    /// Adds a row to the batch, or reports why not.
    fn take(&mut self, row: Row) -> io::Result<()> {
        let Row { line, account } = row;
        let account = match account {
            Ok(account) => account,
            Err(reason) => return self.report.refused(line, None, &reason),
        };
        let username = account.username.clone();
        let checked = account.parse(self.clock.now()).and_then(|new| self.check(new));
        match checked {
            Ok(new) => self.batch.push((line, new)),
            Err(reason) => self.report.refused(line, Some(&username), &reason)?,
        }
        Ok(())
    }

    /// Checks that the roles exist, and that no earlier row has the username, external id or id.
    fn check(&mut self, new: Credentials) -> Result<Credentials, String> {
        let User { id, username, external_id, roles, .. } = &new.user;
        if let Some(unknown) = roles.names().into_iter().find(|name| !self.roles.contains(*name)) {
            return Err(format!("there is no role `{unknown}`; `portcullis role set` creates it"));
        }
        let has_external_id = |id: &ExternalId| self.external_ids.contains(id);
        let repeated = [
            ("username", self.usernames.contains(username.key())),
            ("external_id", external_id.as_ref().is_some_and(has_external_id)),
            ("id", self.ids.contains(id)),
        ];
        if let Some((field, _)) = repeated.iter().find(|(_, is_repeated)| *is_repeated) {
            return Err(format!("an earlier row has the same {field}"));
        }
        self.usernames.insert(username.key().to_owned());
        self.external_ids.extend(external_id.clone());
        self.ids.insert(*id);
        Ok(new)
    }

    /// Imports the batch.
    async fn commit(&mut self) -> Result<(), CommandError> {
        let (lines, accounts): (Vec<u64>, Vec<Credentials>) =
            mem::take(&mut self.batch).into_iter().unzip();
        let now = self.clock.now();
        let outcomes = self.store.import_users(&accounts, self.commit, now).await?;
        for ((line, Credentials { user, .. }), outcome) in lines.iter().zip(&accounts).zip(outcomes)
        {
            self.report.outcome(*line, user, outcome)?;
        }
        Ok(())
    }
}

/// Report about the rows that were not added.
struct Report {
    /// Print one JSON object a row.
    json: bool,
    lines: BufWriter<io::Stdout>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    added: u64,
    existing: u64,
    refused: u64,
}

/// Row that was not added.
#[derive(Serialize)]
struct Entry<'a> {
    line: u64,
    username: Option<&'a str>,
    outcome: &'static str,
    reason: Option<&'a str>,
}

impl Report {
    fn outcome(&mut self, line: u64, user: &User, outcome: ImportOutcome) -> io::Result<()> {
        let username = Some(user.username.as_str());
        let reason = match outcome {
            ImportOutcome::Added => {
                self.counts.added += 1;
                return Ok(());
            }
            ImportOutcome::Exists => {
                self.counts.existing += 1;
                return self.print(&Entry { line, username, outcome: "exists", reason: None });
            }
            ImportOutcome::UsernameTaken => {
                "the username belongs to an account that may be of another person; if it is not, \
                 leave the row out or give it the id of the account"
            }
            ImportOutcome::ExternalIdTaken => "another account has the external_id",
            ImportOutcome::IdTaken => "another account has the id",
        };
        self.refused(line, username, reason)
    }

    fn refused(&mut self, line: u64, username: Option<&str>, reason: &str) -> io::Result<()> {
        self.counts.refused += 1;
        self.print(&Entry { line, username, outcome: "refused", reason: Some(reason) })
    }

    fn print(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut self.lines, entry)?;
            return writeln!(self.lines);
        }
        let Entry { line, username, reason, .. } = entry;
        write!(self.lines, "line {line}")?;
        if let Some(username) = username {
            write!(self.lines, ": {}", username.escape_debug())?;
        }
        // The reason may contain text of the file.
        writeln!(self.lines, ": {}", reason.unwrap_or("there already").escape_debug())
    }

    /// Prints the numbers of rows.
    ///
    /// # Errors
    /// Returns [`CommandError::RowsRefused`] if a row was refused.
    fn finish(mut self, commit: ImportCommit) -> Result<(), CommandError> {
        self.lines.flush()?;
        let Counts { added, existing, refused } = self.counts;
        let verb = match commit {
            ImportCommit::Commit => "added",
            ImportCommit::Rehearse => "to be added",
        };
        writeln!(io::stderr(), "{added} {verb}, {existing} there already, {refused} refused")?;
        if refused > 0 { Err(CommandError::RowsRefused(refused)) } else { Ok(()) }
    }
}
