//! What is listed a page at a time: accounts and audit records.

use time::OffsetDateTime;

use crate::domain::{AuditAction, AuditRecord, UserId, Username};

/// Sorts after every character that a username can hold.
const LAST: char = char::MAX;

/// Some accounts, in the order of their usernames.
#[derive(Clone, Debug)]
pub struct UserPage {
    /// What the usernames begin with, in whatever case.
    pub prefix: Option<Username>,
    /// The username after which they come.
    pub after: Option<Username>,
    /// How many they are at most.
    pub limit: u32,
}

impl UserPage {
    /// Returns the key that theirs are not before.
    pub(super) fn first(&self) -> &str {
        self.prefix.as_ref().map_or("", Username::key)
    }

    /// Returns a key that theirs are before.
    pub(super) fn end(&self) -> String {
        format!("{}{LAST}", self.first())
    }

    /// Returns the key that theirs are after.
    pub(super) fn after(&self) -> &str {
        self.after.as_ref().map_or("", Username::key)
    }
}

/// Some audit records, the latest first. What is not said matches everything.
#[derive(Clone, Debug, Default)]
pub struct AuditPage {
    /// Who did it.
    pub actor: Option<UserId>,
    /// Whom it was done to.
    pub subject: Option<UserId>,
    /// What was done.
    pub action: Option<AuditAction>,
    /// Not earlier than this.
    pub since: Option<OffsetDateTime>,
    /// Earlier than this.
    pub until: Option<OffsetDateTime>,
    /// The number of the record that they come after: theirs are lower.
    pub after: Option<i64>,
    /// How many they are at most.
    pub limit: u32,
}

/// An audit record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number: later ones have higher numbers, nearly always.
    pub id: i64,
    /// What it says.
    pub record: AuditRecord,
}
