//! The `role` commands.

use std::io::{self, Write};

use super::error::CommandError;
use super::output::Printer;
use crate::config::RoleCommand;
use crate::domain::{Permissions, Requester, Role, RoleChange, RoleEdit, RoleError, RoleName};
use crate::http::RoleView;
use crate::store::{RoleStore, Store};

/// Executes a command and prints the affected roles.
pub(super) async fn run(
    command: RoleCommand,
    json: bool,
    store: &dyn Store,
) -> Result<(), CommandError> {
    let printer = Printer { json };
    let role = match command {
        RoleCommand::List => return list(store, &printer).await,
        RoleCommand::Show { name } => find(store, &RoleName::parse(&name)?).await?,
        RoleCommand::Set { name, permissions } => {
            change(store, &name, RoleEdit::Set(Permissions::parse(permissions)?)).await?
        }
        RoleCommand::Delete { name } => change(store, &name, RoleEdit::Delete).await?,
    };
    Ok(printer.roles([RoleView::from(&role)])?)
}

async fn list(store: &dyn Store, printer: &Printer) -> Result<(), CommandError> {
    let list = store.list_roles().await?;
    for name in &list.broken {
        let name = name.escape_debug();
        writeln!(io::stderr(), "portcullis: warning: the row `{name}` of roles does not parse")?;
    }
    Ok(printer.roles(list.roles.iter().map(RoleView::from))?)
}

async fn find(store: &dyn RoleStore, name: &RoleName) -> Result<Role, CommandError> {
    store.find_role(name).await?.ok_or(CommandError::RoleChange(RoleError::NotFound))
}

async fn change(store: &dyn RoleStore, name: &str, edit: RoleEdit) -> Result<Role, CommandError> {
    let name = RoleName::parse(name)?;
    let change = RoleChange { name, edit, requester: Requester::COMMAND_LINE };
    Ok(store.change_role(&change).await?.role)
}
