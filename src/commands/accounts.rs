//! The `user` commands.

use std::io;
use std::sync::Arc;

use uuid::fmt::Hyphenated;

use super::error::CommandError;
use super::lists::{PAGE, sessions};
use super::output::Printer;
use super::{export, import, input};
use crate::clock::Clock;
use crate::config::{ExportArgs, HashSettings, UserArgs, UserCommand, UserFilterArgs};
use crate::domain::{
    AccountError, AuditAction, AuditRecord, ExternalId, PasswordHash, PasswordPolicy, Requester,
    RoleName, Roles, SessionId, User, UserChange, UserEdit, Username,
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
            UserCommand::List(filter) => return self.list(&filter, &printer).await,
            UserCommand::Create { username, roles } => self.create(&username, &roles).await?,
            UserCommand::Show { user } => return self.show(&user, &printer).await,
            UserCommand::Disable { user, yes } => {
                self.change_if_confirmed(&user, UserEdit::Disable, yes).await?
            }
            UserCommand::Enable { user } => self.change(&user, UserEdit::Enable).await?,
            UserCommand::SetPassword { user } => self.set_password(&user).await?,
            UserCommand::ResetCode { user } => {
                return self.create_reset_code(&user, &printer).await;
            }
            UserCommand::SetRoles { user, roles, yes } => {
                let edit = UserEdit::Roles(Roles::parse(&roles)?);
                self.change_if_confirmed(&user, edit, yes).await?
            }
            UserCommand::SetExternalId { user, external_id } => {
                let external_id = external_id.as_deref().map(ExternalId::parse).transpose()?;
                self.change(&user, UserEdit::ExternalId(external_id)).await?
            }
            UserCommand::SetMetadata { user, metadata } => {
                self.change(&user, UserEdit::Metadata(metadata.parse()?)).await?
            }
            UserCommand::Import(import) => {
                return import::run(import, args.json, &*self.store, &*self.clock).await;
            }
            UserCommand::Export(export) => return self.export(export).await,
            UserCommand::Delete { user, yes } => {
                self.change_if_confirmed(&user, UserEdit::Delete, yes).await?
            }
            UserCommand::EndSessions { user: Some(user), .. } => {
                self.change(&user, UserEdit::EndSessions).await?
            }
            UserCommand::EndSessions { user: None, all: _, yes } => {
                input::confirm("end the sessions of all accounts", yes)?;
                return Ok(printer.ended_sessions(self.end_all_sessions().await?)?);
            }
            UserCommand::Unthrottle { user } => self.unthrottle(&user).await?,
        };
        Ok(printer.users([ManagedAccountView::from(&user)])?)
    }

    /// Creates an account. Refuses its name and roles before it asks for a password.
    async fn create(&self, username: &str, roles: &[String]) -> Result<User, CommandError> {
        let username = Username::parse(username)?;
        let roles = Roles::parse(roles)?;
        if self.store.find_credentials(&username).await?.is_some() {
            return Err(CommandError::Account(AccountError::UsernameTaken));
        }
        self.require_roles(&roles).await?;
        let password_hash = self.read_password(&username)?;
        let user = User::new(username, roles, self.clock.now());
        let record = AuditRecord::for_user(
            user.created_at,
            AuditAction::UserCreated,
            &user,
            Requester::COMMAND_LINE,
        );
        let credentials = Credentials { user, password_hash };
        Ok(self.store.insert_user(&credentials, &record).await?)
    }

    /// Checks that roles exist.
    async fn require_roles(&self, roles: &Roles) -> Result<(), CommandError> {
        let known = self.store.list_roles().await?.roles.into_iter().map(|role| role.name);
        let known: Roles = known.collect();
        if roles.iter().all(|role| known.contains(role)) {
            return Ok(());
        }
        Err(CommandError::Account(AccountError::UnknownRoles { known }))
    }

    async fn list(&self, raw: &UserFilterArgs, printer: &Printer) -> Result<(), CommandError> {
        let filter = UserQuery {
            prefix: raw.prefix.as_deref().map(Username::parse_existing).transpose()?,
            role: raw.role.as_deref().map(RoleName::parse).transpose()?,
            is_disabled: raw.disabled.then_some(true),
            external_id: raw.external_id.as_deref().map(ExternalId::parse).transpose()?,
            ..UserQuery::default()
        };
        self.require_roles(&filter.role.iter().cloned().collect()).await?;
        let mut users = Vec::new();
        loop {
            let after = users.last().map(|user: &ListedUser| user.key.clone());
            let page =
                self.store.list_users(&UserQuery { after, limit: PAGE, ..filter.clone() }).await?;
            if page.is_empty() {
                return Ok(printer.users(users.iter().map(ManagedAccountView::from))?);
            }
            users.extend(page);
        }
    }

    async fn export(&self, args: ExportArgs) -> Result<(), CommandError> {
        let ExportArgs { user, hashes } = args;
        let Some(user) = user else { return export::all(&*self.store, hashes).await };
        let user = self.find(&user).await?;
        export::one(&*self.store, &user, self.clock.now()).await
    }

    async fn show(&self, user: &str, printer: &Printer) -> Result<(), CommandError> {
        let user = self.find(user).await?;
        let sessions = sessions(&*self.store, user.id, self.clock.now()).await?;
        Ok(printer.user(&user, &sessions)?)
    }

    /// Finds an account by its id or its username. A username may be the id of another account.
    async fn find(&self, user: &str) -> Result<User, CommandError> {
        let by_id = match user.parse::<Hyphenated>() {
            Ok(id) => self.store.find_user(id.into_uuid().into()).await?,
            Err(_) => None,
        };
        let by_name = self.store.find_credentials(&Username::parse_existing(user)?).await?;
        match (by_id, by_name.map(|credentials| credentials.user)) {
            (Some(one), Some(other)) if one.id != other.id => Err(CommandError::Ambiguous {
                user: user.to_owned(),
                username: one.username,
                id: other.id,
            }),
            (Some(found), _) | (None, Some(found)) => Ok(found),
            (None, None) => Err(CommandError::NoSuchUser(user.to_owned())),
        }
    }

    async fn set_password(&self, user: &str) -> Result<User, CommandError> {
        let user = self.find(user).await?;
        let hash = self.read_password(&user.username)?;
        self.edit(&user, UserEdit::Password(hash)).await
    }

    async fn create_reset_code(&self, user: &str, printer: &Printer) -> Result<(), CommandError> {
        let generated = generate_reset_code();
        let (code, hash) =
            generated.map_err(|_| io::Error::other("the system provides no random bytes"))?;
        self.change(user, UserEdit::ResetCode(hash)).await?;
        Ok(printer.reset_code(ResetCodeView::new(&code))?)
    }

    /// Reads a new password for an account and hashes it.
    fn read_password(&self, username: &Username) -> Result<PasswordHash, CommandError> {
        let password = input::new_password(&self.passwords, username)?;
        Ok(self.hasher.hash(&password)?)
    }

    async fn change(&self, user: &str, edit: UserEdit) -> Result<User, CommandError> {
        let user = self.find(user).await?;
        self.edit(&user, edit).await
    }

    /// Changes an account, and asks first if it is an administrator and none afterwards.
    async fn change_if_confirmed(
        &self,
        user: &str,
        edit: UserEdit,
        yes: bool,
    ) -> Result<User, CommandError> {
        let user = self.find(user).await?;
        if user.is_admin() && edit.removes_admin() {
            let name = user.username.as_str();
            let action = match edit {
                UserEdit::Delete => format!("delete the administrator `{name}`"),
                UserEdit::Disable => format!("disable the administrator `{name}`"),
                _ => format!("take the role admin from `{name}`"),
            };
            input::confirm(&action, yes)?;
        }
        self.edit(&user, edit).await
    }

    async fn edit(&self, user: &User, edit: UserEdit) -> Result<User, CommandError> {
        let change = UserChange {
            user_id: user.id,
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

    async fn unthrottle(&self, user: &str) -> Result<User, CommandError> {
        let user = self.find(user).await?;
        let action = AuditAction::UserUnthrottled;
        let now = self.clock.now();
        let record = AuditRecord::for_user(now, action, &user, Requester::COMMAND_LINE);
        self.store.delete_failures(user.id, &record).await?;
        Ok(user)
    }
}
