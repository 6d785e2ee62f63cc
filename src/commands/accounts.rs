//! What the `user` commands do.

use std::sync::Arc;

use super::output::Printer;
use super::{CommandError, input};
use crate::clock::Clock;
use crate::config::{ManagementConfig, UserArgs, UserCommand};
use crate::domain::{
    AuditAction, AuditRecord, Initiator, Roles, User, UserEdit, UserId, UserVersion, Username,
};
use crate::hashing::Pbkdf2;
use crate::store::{self, Credentials, Store, UserChange, UserPage};

/// How many accounts are read at once.
const PAGE: u32 = 500;

/// The accounts, reached through the database.
pub(super) struct Accounts {
    store: Arc<dyn Store>,
    pbkdf2: Pbkdf2,
    clock: Arc<dyn Clock>,
}

impl Accounts {
    pub(super) async fn open(
        config: &ManagementConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CommandError> {
        let store = store::open(&config.database).await?;
        Ok(Self { store, pbkdf2: Pbkdf2::new(config.hashing.iterations), clock })
    }

    pub(super) async fn close(self) {
        self.store.close().await;
    }

    /// Does what a command says, and prints what has become of the accounts.
    pub(super) async fn run(
        &self,
        UserArgs { command, json }: UserArgs,
    ) -> Result<(), CommandError> {
        let printer = Printer { json };
        let user = match command {
            UserCommand::List { prefix } => return self.list(prefix, &printer).await,
            UserCommand::Create { username, roles } => self.create(&username, &roles).await?,
            UserCommand::Show { username } => return self.show(&username, &printer).await,
            UserCommand::Disable { username } => self.change(&username, UserEdit::Disable).await?,
            UserCommand::Enable { username } => self.change(&username, UserEdit::Enable).await?,
            UserCommand::SetPassword { username } => self.set_password(&username).await?,
            UserCommand::SetRoles { username, roles } => {
                self.change(&username, UserEdit::Roles(parse_roles(&roles)?)).await?
            }
            UserCommand::Delete { username } => self.change(&username, UserEdit::Delete).await?,
            UserCommand::EndSessions { username } => {
                self.change(&username, UserEdit::EndSessions).await?
            }
        };
        Ok(printer.users(&[user])?)
    }

    async fn create(&self, username: &str, roles: &[String]) -> Result<User, CommandError> {
        let user = User {
            id: UserId::random(),
            username: Username::parse(username)?,
            roles: parse_roles(roles)?,
            created_at: self.clock.now(),
            disabled_at: None,
            version: UserVersion::FIRST,
        };
        let password_hash = self.pbkdf2.hash(&input::password()?)?;
        let (action, by) = (AuditAction::UserCreated, Initiator::COMMAND_LINE);
        let record = AuditRecord::of_user(user.created_at, action, &user, by);
        let new = Credentials { user, password_hash };
        self.store.insert_user(&new, &record).await?;
        Ok(new.user)
    }

    async fn list(&self, prefix: Option<String>, printer: &Printer) -> Result<(), CommandError> {
        let prefix = prefix.map(|prefix| Username::parse(&prefix)).transpose()?;
        let mut users = Vec::new();
        loop {
            let after = users.last().map(|user: &User| user.username.clone());
            let page = UserPage { prefix: prefix.clone(), after, limit: PAGE };
            let more = self.store.list_users(&page).await?;
            if more.is_empty() {
                return Ok(printer.users(&users)?);
            }
            users.extend(more);
        }
    }

    async fn show(&self, username: &str, printer: &Printer) -> Result<(), CommandError> {
        let user = self.find(username).await?;
        let sessions = self.store.sessions_of(user.id, self.clock.now()).await?;
        Ok(printer.user(&user, &sessions)?)
    }

    async fn find(&self, username: &str) -> Result<User, CommandError> {
        let found = self.store.find_credentials(&Username::parse(username)?).await?;
        let found = found.ok_or_else(|| CommandError::NoSuchUser(username.to_owned()))?;
        Ok(found.user)
    }

    async fn set_password(&self, username: &str) -> Result<User, CommandError> {
        self.find(username).await?;
        let hash = self.pbkdf2.hash(&input::password()?)?;
        self.change(username, UserEdit::Password(hash)).await
    }

    async fn change(&self, username: &str, edit: UserEdit) -> Result<User, CommandError> {
        let change = UserChange {
            user_id: self.find(username).await?.id,
            version: None,
            edit,
            but: None,
            // The lives of the service's tokens are settings of the service.
            revoked_until: None,
            at: self.clock.now(),
            by: Initiator::COMMAND_LINE,
        };
        Ok(self.store.change_user(&change).await?.user)
    }
}

fn parse_roles(names: &[String]) -> Result<Roles, CommandError> {
    Ok(Roles::parse(names.iter().map(String::as_str))?)
}
