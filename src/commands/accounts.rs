//! The `user` commands.

use std::io;
use std::sync::Arc;

use super::error::CommandError;
use super::lists::{PAGE, sessions};
use super::output::Printer;
use super::{export, import, input};
use crate::clock::Clock;
use crate::config::{ExportArgs, HashSettings, UserArgs, UserCommand};
use crate::domain::{
    AuditAction, AuditRecord, ExternalId, PasswordHash, PasswordPolicy, Requester, Roles,
    SessionId, User, UserChange, UserEdit, Username,
};
use crate::hashing::PasswordHasher;
use crate::http::{ManagedAccountView, ResetCodeView};
use crate::store::{Credentials, ListedUser, Store, UserQuery};
use crate::tokens::generate_reset_code;

/// Number of sessions that are ended in one commit, so that their locks are held only briefly.
const ENDED_SESSIONS: u32 = 1_000;

/// Executes the commands on the database.
pub(super) struct Accounts {
    store: Arc<dyn Store>,
    hasher: PasswordHasher,
    passwords: PasswordPolicy,
    clock: Arc<dyn Clock>,
}

impl Accounts {
    pub(super) fn new(
        store: Arc<dyn Store>,
        hashing: &HashSettings,
        passwords: PasswordPolicy,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { store, hasher: PasswordHasher::new(hashing.iterations), passwords, clock }
    }

    /// Executes a command and prints the affected accounts.
    pub(super) async fn run(&self, args: UserArgs) -> Result<(), CommandError> {
        let printer = Printer { json: args.json };
        let user = match args.command {
            UserCommand::List { prefix, external_id } => {
                return self.list(prefix, external_id, &printer).await;
            }
            UserCommand::Create { username, roles } => self.create(&username, &roles).await?,
            UserCommand::Show { username } => return self.show(&username, &printer).await,
            UserCommand::Disable { username } => self.change(&username, UserEdit::Disable).await?,
            UserCommand::Enable { username } => self.change(&username, UserEdit::Enable).await?,
            UserCommand::SetPassword { username } => self.set_password(&username).await?,
            UserCommand::ResetCode { username } => {
                return self.create_reset_code(&username, &printer).await;
            }
            UserCommand::SetRoles { username, roles } => {
                self.change(&username, UserEdit::Roles(parse_roles(&roles)?)).await?
            }
            UserCommand::SetExternalId { username, external_id } => {
                let external_id = external_id.as_deref().map(ExternalId::parse).transpose()?;
                self.change(&username, UserEdit::ExternalId(external_id)).await?
            }
            UserCommand::SetMetadata { username, metadata } => {
                self.change(&username, UserEdit::Metadata(metadata.parse()?)).await?
            }
            UserCommand::Import(import) => {
                return import::run(import, args.json, &*self.store, &*self.clock).await;
            }
            UserCommand::Export(ExportArgs { username: None, hashes }) => {
                return export::all(&*self.store, hashes).await;
            }
            UserCommand::Export(ExportArgs { username: Some(username), .. }) => {
                let user = self.find(&username).await?;
                return export::one(&*self.store, &user, self.clock.now()).await;
            }
            UserCommand::Delete { username } => self.change(&username, UserEdit::Delete).await?,
            UserCommand::EndSessions { username: Some(username), all: _ } => {
                self.change(&username, UserEdit::EndSessions).await?
            }
            UserCommand::EndSessions { username: None, all: _ } => {
                return Ok(printer.ended_sessions(self.end_all_sessions().await?)?);
            }
            UserCommand::Unthrottle { username } => self.unthrottle(&username).await?,
        };
        Ok(printer.users([ManagedAccountView::from(&user)])?)
    }

    async fn create(&self, username: &str, roles: &[String]) -> Result<User, CommandError> {
        let username = Username::parse(username)?;
        let user = User::new(username, parse_roles(roles)?, self.clock.now());
        let password_hash = self.read_password(&user.username)?;
        let record = AuditRecord::for_user(
            user.created_at,
            AuditAction::UserCreated,
            &user,
            Requester::COMMAND_LINE,
        );
        let credentials = Credentials { user, password_hash };
        Ok(self.store.insert_user(&credentials, &record).await?)
    }

    async fn list(
        &self,
        prefix: Option<String>,
        external_id: Option<String>,
        printer: &Printer,
    ) -> Result<(), CommandError> {
        let prefix = prefix.map(|prefix| Username::parse_existing(&prefix)).transpose()?;
        let external_id = external_id.as_deref().map(ExternalId::parse).transpose()?;
        let mut users = Vec::new();
        loop {
            let after = users.last().map(|user: &ListedUser| user.key.clone());
            let query = UserQuery {
                prefix: prefix.clone(),
                external_id: external_id.clone(),
                after,
                limit: PAGE,
                ..UserQuery::default()
            };
            let page = self.store.list_users(&query).await?;
            if page.is_empty() {
                return Ok(printer.users(users.iter().map(ManagedAccountView::from))?);
            }
            users.extend(page);
        }
    }

    async fn show(&self, username: &str, printer: &Printer) -> Result<(), CommandError> {
        let user = self.find(username).await?;
        let sessions = sessions(&*self.store, user.id, self.clock.now()).await?;
        Ok(printer.user(&user, &sessions)?)
    }

    async fn find(&self, username: &str) -> Result<User, CommandError> {
        let credentials = self.store.find_credentials(&Username::parse_existing(username)?).await?;
        match credentials {
            Some(credentials) => Ok(credentials.user),
            None => Err(CommandError::NoSuchUser(username.to_owned())),
        }
    }

    async fn set_password(&self, username: &str) -> Result<User, CommandError> {
        let user = self.find(username).await?;
        let hash = self.read_password(&user.username)?;
        self.change(username, UserEdit::Password(hash)).await
    }

    async fn create_reset_code(
        &self,
        username: &str,
        printer: &Printer,
    ) -> Result<(), CommandError> {
        let generated = generate_reset_code();
        let (code, hash) =
            generated.map_err(|_| io::Error::other("the system provides no random bytes"))?;
        self.change(username, UserEdit::ResetCode(hash)).await?;
        Ok(printer.reset_code(ResetCodeView::new(&code))?)
    }

    /// Reads a new password for an account and hashes it.
    fn read_password(&self, username: &Username) -> Result<PasswordHash, CommandError> {
        let password = input::password(&self.passwords)?.for_user(username)?;
        Ok(self.hasher.hash(&password)?)
    }

    async fn change(&self, username: &str, edit: UserEdit) -> Result<User, CommandError> {
        let change = UserChange {
            user_id: self.find(username).await?.id,
            expected_version: None,
            edit,
            keep_session: None,
            // The token lifetime is a setting of the service. Without it, the sessions are revoked
            // until they expire.
            revoked_until: None,
            at: self.clock.now(),
            requester: Requester::COMMAND_LINE,
        };
        Ok(self.store.change_user(&change).await?.user)
    }

    /// Ends the sessions of all accounts. Returns their number.
    async fn end_all_sessions(&self) -> Result<u64, CommandError> {
        let record = AuditRecord {
            at: self.clock.now(),
            action: AuditAction::SessionsEnded,
            requester: Requester::COMMAND_LINE,
            subject: None,
            session_id: None,
            detail: Some("all accounts".to_owned()),
        };
        self.store.insert_audit_record(&record).await?;
        let mut count = 0;
        let mut last = None;
        loop {
            let ended = self.store.end_sessions(last, ENDED_SESSIONS).await?.revocations;
            count += ended.len() as u64;
            let ids = ended.iter().map(|revocation| revocation.id.as_uuid());
            last = ids.max().map(SessionId::from);
            if ended.len() < ENDED_SESSIONS as usize {
                return Ok(count);
            }
        }
    }

    async fn unthrottle(&self, username: &str) -> Result<User, CommandError> {
        let user = self.find(username).await?;
        let action = AuditAction::UserUnthrottled;
        let now = self.clock.now();
        let record = AuditRecord::for_user(now, action, &user, Requester::COMMAND_LINE);
        self.store.delete_failures(user.id, &record).await?;
        Ok(user)
    }
}

fn parse_roles(names: &[String]) -> Result<Roles, CommandError> {
    Ok(Roles::parse(names)?)
}
