//! The `key` commands, and `secret retire`.

use std::io::{self, Write};
use std::sync::Arc;

use super::error::CommandError;
use super::output::Printer;
use crate::clock::Clock;
use crate::config::{Config, KeyArgs, KeyCommand};
use crate::domain::{KeySet, Requester};
use crate::http::KeyView;
use crate::keys::{self, Keys};
use crate::store::{KeyStore, Store};

/// Executes a command on the signing keys and prints them.
pub(super) async fn run(
    args: KeyArgs,
    config: &Config,
    store: &Arc<dyn Store>,
    clock: &dyn Clock,
) -> Result<(), CommandError> {
    let set = match args.command {
        KeyCommand::List => store.read_keys().await?,
        KeyCommand::Rotate => {
            let keys = open(config, store).await?;
            or_read(keys.rotate(clock.now(), Requester::COMMAND_LINE).await?, store).await?
        }
        KeyCommand::Revoke { kid, all: _ } => {
            let id = kid.map(|kid| kid.parse()).transpose()?;
            let keys = open(config, store).await?;
            or_read(keys.revoke(id, clock.now(), Requester::COMMAND_LINE).await?, store).await?
        }
    };
    let publication = config.key_periods().publication;
    let views = set.keys.iter().map(|key| KeyView::new(key, publication));
    Ok(Printer { json: args.json }.keys(views)?)
}

/// Deletes the former secrets from the database.
pub(super) async fn retire(config: &Config, store: &dyn Store) -> Result<(), CommandError> {
    let secret = keys::load_secret(&config.keys.secret)?;
    let count = keys::retire_other_secrets(store, &secret).await?;
    Ok(writeln!(io::stdout(), "retired {count} former secrets")?)
}

async fn open(config: &Config, store: &Arc<dyn Store>) -> Result<Keys, CommandError> {
    let secret = keys::load_secret(&config.keys.secret)?;
    let previous = config.keys.previous_secret.as_ref();
    let store = Arc::clone(store) as Arc<dyn KeyStore>;
    Ok(Keys::open(store, &secret, previous, config.key_periods()).await?)
}

async fn or_read(changed: Option<KeySet>, store: &Arc<dyn Store>) -> Result<KeySet, CommandError> {
    match changed {
        Some(keys) => Ok(keys),
        None => Ok(store.read_keys().await?),
    }
}
