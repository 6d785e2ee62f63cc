//! Accounts on standard output: a table for people, JSON for programs.

use std::io::{self, Write};

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use crate::clock::timestamp;
use crate::domain::{Roles, User, UserId};

/// Prints accounts in the form that was asked for.
pub(super) struct Printer {
    /// An object a line, instead of a table.
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

impl Printer {
    pub(super) fn print(&self, users: &[User]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            for user in users {
                serde_json::to_writer(&mut out, &Account::of(user))?;
                writeln!(out)?;
            }
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["USERNAME", "ROLES", "CREATED", "DISABLED", "ID"]);
        table.add_rows(users.iter().map(|user| Account::of(user).cells()));
        writeln!(out, "{}", table.trim_fmt())
    }
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

    fn cells(self) -> [String; 5] {
        let roles = self.roles.names().collect::<Vec<_>>().join(" ");
        let disabled_at = self.disabled_at.unwrap_or_default();
        [self.username.to_owned(), roles, self.created_at, disabled_at, self.id.to_string()]
    }
}
