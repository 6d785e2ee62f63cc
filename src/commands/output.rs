//! Accounts on standard output: tables for people, JSON for programs.

use std::io::{self, Write};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use crate::clock::timestamp;
use crate::domain::{Roles, Session, SessionId, User, UserId};

/// Prints accounts in the form that was asked for.
pub(super) struct Printer {
    /// An object a line, instead of tables.
    pub(super) json: bool,
}

/// An account as the API shows it to administrators, too.
#[derive(Serialize)]
struct Account<'a> {
    id: UserId,
    username: &'a str,
    roles: Roles,
    created_at: String,
    disabled_at: Option<String>,
}

/// An account with its sessions.
#[derive(Serialize)]
struct WithSessions<'a> {
    #[serde(flatten)]
    account: Account<'a>,
    sessions: Vec<SessionRow<'a>>,
}

/// A session as the API shows it, too.
#[derive(Serialize)]
struct SessionRow<'a> {
    id: SessionId,
    created_at: String,
    last_used_at: String,
    expires_at: String,
    ip: String,
    user_agent: &'a str,
}

impl Printer {
    /// Prints some accounts.
    pub(super) fn users(&self, users: &[User]) -> io::Result<()> {
        let accounts = users.iter().map(Account::of);
        if self.json { print_json(accounts) } else { print_table(&accounts_table(accounts)) }
    }

    /// Prints one account with its sessions.
    pub(super) fn user(&self, user: &User, sessions: &[Session]) -> io::Result<()> {
        let (account, sessions) = (Account::of(user), sessions.iter().map(SessionRow::of));
        if self.json {
            return print_json([WithSessions { account, sessions: sessions.collect() }]);
        }
        print_table(&accounts_table([account]))?;
        writeln!(io::stdout())?;
        print_table(&sessions_table(sessions))
    }
}

fn accounts_table<'a>(accounts: impl IntoIterator<Item = Account<'a>>) -> Table {
    let mut table = table(["USERNAME", "ROLES", "CREATED", "DISABLED", "ID"]);
    table.add_rows(accounts.into_iter().map(|account| {
        let roles = account.roles.names().collect::<Vec<_>>().join(" ");
        let disabled_at = account.disabled_at.unwrap_or_default();
        let id = account.id.to_string();
        [account.username.to_owned(), roles, account.created_at, disabled_at, id]
    }));
    table
}

fn sessions_table<'a>(sessions: impl Iterator<Item = SessionRow<'a>>) -> Table {
    let mut table = table(["SESSION", "CREATED", "LAST USED", "EXPIRES", "FROM", "WITH"]);
    table.add_rows(sessions.map(|session| {
        let SessionRow { id, created_at, last_used_at, expires_at, ip, user_agent } = session;
        [id.to_string(), created_at, last_used_at, expires_at, ip, user_agent.to_owned()]
    }));
    table
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table
}

fn print_table(table: &Table) -> io::Result<()> {
    writeln!(io::stdout(), "{}", table.trim_fmt())
}

fn print_json(values: impl IntoIterator<Item = impl Serialize>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for value in values {
        serde_json::to_writer(&mut out, &value)?;
        writeln!(out)?;
    }
    Ok(())
}

impl<'a> Account<'a> {
    fn of(user: &'a User) -> Self {
        Self {
            id: user.id,
            username: user.username.as_str(),
            roles: user.roles,
            created_at: timestamp(user.created_at),
            disabled_at: user.disabled_at.map(timestamp),
        }
    }
}

impl<'a> SessionRow<'a> {
    fn of(session: &'a Session) -> Self {
        Self {
            id: session.id,
            created_at: timestamp(session.created_at),
            last_used_at: timestamp(session.last_used_at),
            expires_at: timestamp(session.expires_at),
            ip: session.client.address.to_string(),
            user_agent: session.client.user_agent.as_str(),
        }
    }
}
