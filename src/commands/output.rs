//! Output of accounts, roles and keys: tables or JSON lines.

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, Table};
use serde::Serialize;

use crate::domain::{Session, User};
use crate::http::{
    ClientView, KeyView, ManagedAccountView, NewClientView, ResetCodeView, RoleView, SessionView,
};

/// Prints a comment on standard error. A command does not fail because its comments cannot be read.
pub(super) fn say(sentence: &str) {
    let _ = writeln!(io::stderr(), "{sentence}");
}

/// Prints accounts, roles and keys as tables or as JSON.
pub(super) struct Printer {
    /// Print one JSON object a line.
    pub(super) json: bool,
}

/// Account with its sessions.
#[derive(Serialize)]
struct AccountWithSessions {
    #[serde(flatten)]
    account: ManagedAccountView,
    sessions: Vec<SessionView>,
}

/// Number of sessions that were ended.
#[derive(Serialize)]
struct EndedSessions {
    ended_sessions: u64,
}

impl Printer {
    /// Prints accounts.
    pub(super) fn users(
        &self,
        accounts: impl IntoIterator<Item = ManagedAccountView>,
    ) -> io::Result<()> {
        if self.json { print_json(accounts) } else { print_table(&accounts_table(accounts)) }
    }

    /// Prints roles.
    pub(super) fn roles(&self, roles: impl IntoIterator<Item = RoleView>) -> io::Result<()> {
        if self.json { print_json(roles) } else { print_table(&roles_table(roles)) }
    }

    /// Prints clients.
    pub(super) fn clients(&self, clients: impl IntoIterator<Item = ClientView>) -> io::Result<()> {
        if self.json { print_json(clients) } else { print_table(&clients_table(clients)) }
    }

    /// Prints a client and its new secret.
    pub(super) fn new_client(&self, new: NewClientView) -> io::Result<()> {
        if self.json {
            return print_json([new]);
        }
        let client_id = new.client.client_id;
        print_table(&clients_table([new.client]))?;
        writeln!(
            io::stdout(),
            "\nclient_id:     {client_id}\nclient_secret: {}\nThe secret is not shown again.",
            new.client_secret
        )
    }

    /// Prints a new reset code.
    pub(super) fn reset_code(&self, new: ResetCodeView) -> io::Result<()> {
        if self.json {
            return print_json([new]);
        }
        let ResetCodeView { reset_code, expires_in } = new;
        writeln!(
            io::stdout(),
            "{reset_code}\nIt is valid for {expires_in} s and is not shown again."
        )
    }

    /// Prints the number of sessions that were ended.
    pub(super) fn ended_sessions(&self, count: u64) -> io::Result<()> {
        if self.json {
            return print_json([EndedSessions { ended_sessions: count }]);
        }
        writeln!(io::stdout(), "ended {count} sessions")
    }

    /// Prints signing keys.
    pub(super) fn keys(&self, keys: impl Iterator<Item = KeyView>) -> io::Result<()> {
        if self.json { print_json(keys) } else { print_table(&keys_table(keys)) }
    }

    /// Prints an account and its sessions.
    pub(super) fn user(&self, user: &User, sessions: &[Session]) -> io::Result<()> {
        let account = ManagedAccountView::from(user);
        let sessions = sessions.iter().map(|session| SessionView::new(session, None)).collect();
        if self.json {
            return print_json([AccountWithSessions { account, sessions }]);
        }
        print_table(&accounts_table([account]))?;
        writeln!(io::stdout())?;
        print_table(&sessions_table(sessions))
    }
}

fn accounts_table(accounts: impl IntoIterator<Item = ManagedAccountView>) -> Table {
    let rows = accounts.into_iter().map(|ManagedAccountView { account, disabled_at, broken }| {
        // Only a username that parses is safe to print.
        let username = match broken {
            None => account.username,
            Some(_) => account.username.escape_debug().to_string(),
        };
        let roles = account.roles.to_string();
        let disabled_at = disabled_at.unwrap_or_default();
        let id = account.id.to_string();
        [username, roles, account.created_at, disabled_at, id, broken.unwrap_or_default()]
    });
    table(["USERNAME", "ROLES", "CREATED", "DISABLED", "ID", "BROKEN"], rows)
}

fn sessions_table(sessions: Vec<SessionView>) -> Table {
    let rows = sessions.into_iter().map(|session| {
        [
            session.id.to_string(),
            session.created_at,
            session.last_used_at,
            session.expires_at,
            session.ip,
            session.user_agent,
            session.last_ip,
            session.last_user_agent,
        ]
    });
    table(
        [
            "SESSION",
            "CREATED",
            "LAST USED",
            "EXPIRES",
            "ADDRESS",
            "USER AGENT",
            "LAST ADDRESS",
            "LAST USER AGENT",
        ],
        rows,
    )
}

fn roles_table(roles: impl IntoIterator<Item = RoleView>) -> Table {
    let rows = roles.into_iter().map(|role| {
        let built_in = if role.built_in { "yes" } else { "no" };
        let ending_sessions = role.ending_sessions.to_string();
        [role.name.to_string(), role.permissions.to_string(), built_in.to_owned(), ending_sessions]
    });
    table(["ROLE", "PERMISSIONS", "BUILT IN", "ENDING SESSIONS"], rows)
}

fn clients_table(clients: impl IntoIterator<Item = ClientView>) -> Table {
    let rows = clients.into_iter().map(|client| {
        let secrets: Vec<_> = client.secrets.iter().map(|secret| secret.id.to_string()).collect();
        [
            client.name.to_string(),
            client.client_id.to_string(),
            client.permissions.to_string(),
            client.created_at,
            client.expires_at.unwrap_or_default(),
            client.disabled_at.unwrap_or_default(),
            secrets.join("\n"),
        ]
    });
    table(
        ["NAME", "CLIENT ID", "PERMISSIONS", "CREATED", "EXPIRES", "DISABLED", "SECRET IDS"],
        rows,
    )
}

fn keys_table(keys: impl Iterator<Item = KeyView>) -> Table {
    let rows = keys.map(|key| {
        let KeyView { kid, state, published_at, known_at, activated_at, signs_until } = key;
        let state = state.into_str().to_owned();
        let activated_at = activated_at.unwrap_or_default();
        [kid.to_string(), state, published_at, known_at, activated_at, signs_until]
    });
    table(["KEY", "STATE", "PUBLISHED", "MAY SIGN FROM", "SIGNS SINCE", "TOKENS UNTIL"], rows)
}

/// Lays out rows below a header. A column that is empty in all of them is left out.
fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Table {
    let rows: Vec<_> = rows.into_iter().collect();
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for (index, column) in table.column_iter_mut().enumerate() {
        if !rows.is_empty() && rows.iter().all(|row| row[index].is_empty()) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
    table.add_rows(rows);
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
