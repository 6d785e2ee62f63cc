//! `portcullis user export`.

use std::io::{self, BufWriter, Write};

use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::error::CommandError;
use super::lists::{PAGE, audit_records, sessions};
use crate::clock::timestamp;
use crate::config::HashFormat;
use crate::domain::{ExternalId, Metadata, PasswordHash, Roles, User, UserId};
use crate::http::{AuditRecordView, ManagedAccountView, SessionView};
use crate::store::{AuditQuery, ExportedUser, Store, UserQuery};

/// Account in the format of `portcullis user import`.
#[derive(Serialize)]
struct ExportedAccount<'a> {
    username: &'a str,
    /// `null` if the other system has no format for the hash; absent if hashes are not exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_hash: Option<Value>,
    roles: &'a Roles,
    external_id: Option<&'a ExternalId>,
    metadata: &'a Metadata,
    created_at: String,
    disabled: bool,
    id: UserId,
}

/// An account, its open sessions and its audit records: what is stored under its id, without the
/// password hash and what only keyed hashes tell.
#[derive(Serialize)]
struct AccountReport {
    account: ManagedAccountView,
    sessions: Vec<SessionView>,
    /// Audit records of its actions and of actions on it, latest first.
    audit_records: Vec<AuditRecordView>,
}

/// Prints all accounts, one a line.
pub(super) async fn all(store: &dyn Store, hashes: HashFormat) -> Result<(), CommandError> {
    let mut lines = BufWriter::new(io::stdout());
    let (mut left_out, mut without_hash) = (0, 0);
    let mut after = None;
    loop {
        let query = UserQuery { after, limit: PAGE, ..UserQuery::default() };
        let page = store.export_users(&query).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.user.key.clone());
        for exported in &page {
            if let Some(column) = &exported.user.broken {
                left_out += 1;
                let key = exported.user.key.escape_debug();
                writeln!(io::stderr(), "portcullis: warning: `{key}`: {column} does not parse")?;
                continue;
            }
            let account = ExportedAccount::new(exported, hashes);
            without_hash += u64::from(account.password_hash == Some(Value::Null));
            serde_json::to_writer(&mut lines, &account).map_err(io::Error::from)?;
            writeln!(lines)?;
        }
    }
    lines.flush()?;
    if without_hash > 0 {
        let warning = "accounts have a hash that the other system has no format for";
        writeln!(io::stderr(), "portcullis: warning: {without_hash} {warning}")?;
    }
    if left_out > 0 { Err(CommandError::AccountsLeftOut(left_out)) } else { Ok(()) }
}

/// Prints an account, its open sessions and its audit records.
pub(super) async fn one(
    store: &dyn Store,
    user: &User,
    now: OffsetDateTime,
) -> Result<(), CommandError> {
    let sessions = sessions(store, user.id, now).await?;
    let by_user = AuditQuery { actor: Some(user.id), ..AuditQuery::default() };
    let about_user = AuditQuery { subject: Some(user.id), ..AuditQuery::default() };
    let mut records = audit_records(store, by_user).await?;
    records.extend(audit_records(store, about_user).await?);
    records.sort_by_key(|record| -record.id);
    records.dedup_by_key(|record| record.id);
    for record in records.iter_mut().filter(|record| record.actor.is_some_and(|id| id != user.id)) {
        // Address and user agent of an administrator are data of another person.
        record.origin = None;
    }
    let report = AccountReport {
        account: user.into(),
        sessions: sessions.iter().map(|session| SessionView::new(session, None)).collect(),
        audit_records: records.iter().map(AuditRecordView::from).collect(),
    };
    let mut stdout = io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, &report).map_err(io::Error::from)?;
    Ok(writeln!(stdout)?)
}

impl<'a> ExportedAccount<'a> {
    fn new(exported: &'a ExportedUser, hashes: HashFormat) -> Self {
        let ExportedUser { user, password_hash } = exported;
        let stored = || password_hash.parse::<PasswordHash>().ok();
        let password_hash = match hashes {
            HashFormat::None => None,
            HashFormat::Stored => Some(password_hash.clone().into()),
            HashFormat::Werkzeug => Some(stored().and_then(|hash| hash.to_werkzeug()).into()),
            HashFormat::Django => Some(stored().and_then(|hash| hash.to_django()).into()),
        };
        Self {
            username: &user.username,
            password_hash,
            roles: &user.roles,
            external_id: user.external_id.as_ref(),
            metadata: &user.metadata,
            created_at: timestamp(user.created_at),
            disabled: user.disabled_at.is_some(),
            id: user.id,
        }
    }
}
