//! The `user` commands.

use std::io;
use std::sync::Arc;

use super::error::CommandError;
use super::input;
use super::output::Printer;
use crate::clock::Clock;
use crate::config::{HashSettings, UserArgs, UserCommand};
use crate::domain::{
    AuditAction, AuditRecord, PasswordHash, PasswordPolicy, Requester, Roles, SessionPosition,
    User, UserChange, UserEdit, Username,
};
use crate::hashing::Pbkdf2;
use crate::http::{ManagedAccountView, ResetCodeView};
use crate::store::{Credentials, ListedUser, SessionQuery, Store, UserQuery};
use crate::tokens::generate_reset_code;

/// Number of accounts or sessions read by one query.
const PAGE: u32 = 500;

/// Executes the commands on the database.
pub(super) struct Accounts {
    store: Arc<dyn Store>,
    pbkdf2: Pbkdf2,
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
        Self { store, pbkdf2: Pbkdf2::new(hashing.iterations), passwords, clock }
    }

    /// Executes a command and prints the affected accounts.
    pub(super) async fn run(&self, args: UserArgs) -> Result<(), CommandError> {
        let printer = Printer { json: args.json };
        let user = match args.command {
            UserCommand::List { prefix } => return self.list(prefix, &printer).await,
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
            UserCommand::Delete { username } => self.change(&username, UserEdit::Delete).await?,
            UserCommand::EndSessions { username } => {
                self.change(&username, UserEdit::EndSessions).await?
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

    async fn list(&self, prefix: Option<String>, printer: &Printer) -> Result<(), CommandError> {
        let prefix = prefix.map(|prefix| Username::parse_existing(&prefix)).transpose()?;
        let mut users = Vec::new();
        loop {
            let after = users.last().map(|user: &ListedUser| user.key.clone());
            let prefix = prefix.clone();
            let query = UserQuery { prefix, after, limit: PAGE, ..UserQuery::default() };
            let page = self.store.list_users(&query).await?;
            if page.is_empty() {
                return Ok(printer.users(users.iter().map(ManagedAccountView::from))?);
            }
            users.extend(page);
        }
    }

    async fn show(&self, username: &str, printer: &Printer) -> Result<(), CommandError> {
        let user = self.find(username).await?;
        let mut sessions = Vec::new();
        loop {
            let after = sessions.last().map(SessionPosition::from);
            let query = SessionQuery { user_id: user.id, after, limit: PAGE };
            let page = self.store.list_sessions(&query, self.clock.now()).await?;
            if page.is_empty() {
                return Ok(printer.user(&user, &sessions)?);
            }
            sessions.extend(page);
        }
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
        Ok(self.pbkdf2.hash(&password)?)
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
