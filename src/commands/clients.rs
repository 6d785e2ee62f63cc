//! The `client` commands.

use std::io::{self, Write};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::CommandError;
use super::input;
use super::output::Printer;
use crate::clients::generate_secret;
use crate::config::{ClientCommand, ClientRightsArgs, TokenSettings};
use crate::domain::{
    Audience, Client, ClientChange, ClientEdit, ClientError, ClientId, ClientName, ClientRights,
    ClientSet, NewSecret, Permissions, Requester,
};
use crate::http::{ClientView, NewClientView};
use crate::store::Store;

/// Executes the commands on the database.
pub(super) struct Clients<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) tokens: &'a TokenSettings,
    pub(super) printer: Printer,
}

impl Clients<'_> {
    /// Executes a command and prints the affected clients.
    pub(super) async fn run(&self, command: ClientCommand) -> Result<(), CommandError> {
        let client = match command {
            ClientCommand::List => return self.list().await,
            ClientCommand::Show { client } => self.find(&client).await?,
            ClientCommand::Create { name, rights } => {
                let (name, rights) = (ClientName::parse(&name)?, self.parse_rights(rights)?);
                let (secret, new) = new_secret()?;
                let edit = ClientEdit::Create(name, rights, new);
                let client = self.change(ClientId::random(), edit).await?;
                return self.print_with_secret(&client, secret);
            }
            ClientCommand::AddSecret { client } => {
                let (secret, new) = new_secret()?;
                let client = self.edit(&client, ClientEdit::AddSecret(new)).await?;
                return self.print_with_secret(&client, secret);
            }
            ClientCommand::RemoveSecret { client, secret } => {
                let id = secret.parse::<uuid::Uuid>().map_err(|_| ClientError::NotFound)?;
                self.edit(&client, ClientEdit::RemoveSecret(id.into())).await?
            }
            ClientCommand::Set { client, rights } => {
                let edit = ClientEdit::SetRights(self.parse_rights(rights)?);
                self.edit(&client, edit).await?
            }
            ClientCommand::Disable { client } => self.edit(&client, ClientEdit::Disable).await?,
            ClientCommand::Enable { client } => self.edit(&client, ClientEdit::Enable).await?,
            ClientCommand::Delete { client, yes } => {
                let client = self.find(&client).await?;
                input::confirm(&format!("delete the client `{}`", client.name.as_str()), yes)?;
                self.change(client.id, ClientEdit::Delete).await?
            }
        };
        Ok(self.printer.clients([self.view(&client)])?)
    }

    async fn list(&self) -> Result<(), CommandError> {
        let set = self.read().await?;
        Ok(self.printer.clients(set.clients.iter().map(|client| self.view(client)))?)
    }

    /// Finds a client by its id or its name. The id comes first: a name that is the id of another
    /// client must not hide that client.
    async fn find(&self, client: &str) -> Result<Client, CommandError> {
        let clients = self.read().await?.clients;
        let by_id = clients.iter().find(|found| found.id.to_string() == client);
        let found = by_id.or_else(|| clients.iter().find(|found| found.name.as_str() == client));
        Ok(found.cloned().ok_or(ClientError::NotFound)?)
    }

    async fn read(&self) -> Result<ClientSet, CommandError> {
        let set = self.store.read_clients().await?;
        for name in &set.broken {
            let name = name.escape_debug();
            writeln!(io::stderr(), "portcullis: warning: the client `{name}` does not parse")?;
        }
        Ok(set)
    }

    async fn edit(&self, client: &str, edit: ClientEdit) -> Result<Client, CommandError> {
        self.change(self.find(client).await?.id, edit).await
    }

    async fn change(&self, client_id: ClientId, edit: ClientEdit) -> Result<Client, CommandError> {
        let change = ClientChange {
            client_id,
            edit,
            // The row of a secret tells how long its tokens may live.
            token_lifetime: None,
            requester: Requester::COMMAND_LINE,
        };
        match self.store.change_client(&change).await? {
            Some((changed, _)) => Ok(changed.client),
            None => self.find(&client_id.to_string()).await,
        }
    }

    fn parse_rights(&self, raw: ClientRightsArgs) -> Result<ClientRights, CommandError> {
        let TokenSettings { audience, issuer, .. } = self.tokens;
        let restrict = |names: Vec<String>| -> Result<Option<Audience>, CommandError> {
            if names.is_empty() { Ok(None) } else { Ok(Some(audience.restrict(&names, issuer)?)) }
        };
        let expires_at =
            raw.expires_at.as_deref().map(|text| OffsetDateTime::parse(text, &Rfc3339));
        Ok(ClientRights {
            permissions: Permissions::parse(raw.permissions)?,
            audience: restrict(raw.audience)?,
            resource: restrict(raw.resource)?,
            expires_at: expires_at.transpose().map_err(|_| CommandError::Time)?,
        })
    }

    fn print_with_secret(&self, client: &Client, secret: String) -> Result<(), CommandError> {
        let view = NewClientView::new(client, &self.tokens.issuer, secret);
        Ok(self.printer.new_client(view)?)
    }

    fn view(&self, client: &Client) -> ClientView {
        ClientView::new(client, &self.tokens.issuer)
    }
}

fn new_secret() -> Result<(String, NewSecret), CommandError> {
    generate_secret().map_err(|_| io::Error::other("the system provides no random bytes").into())
}
