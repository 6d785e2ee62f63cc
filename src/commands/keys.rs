//! The `key` commands, and `secret retire`.

use std::io::{self, Write};
use std::sync::Arc;

use super::error::CommandError;
use super::input;
use super::output::Printer;
use crate::clock::Clock;
use crate::config::{Config, KeyCommand, SigningAlgorithm};
use crate::domain::{KeyError, KeyId, Requester};
use crate::http::KeyView;
use crate::keys::{self, Keys, KeysError};
use crate::store::{KeyStore, Store};

/// Lists the signing keys.
pub(super) async fn list(store: &dyn Store, json: bool) -> Result<(), CommandError> {
    let set = store.read_keys().await?;
    for id in &set.broken {
        writeln!(io::stderr(), "portcullis: warning: the row {id} of signing_keys does not parse")?;
    }
    Ok(Printer { json }.keys(set.keys.iter().map(KeyView::from))?)
}

/// Rotates or revokes signing keys, and prints those that remain.
pub(super) async fn change(
    command: KeyCommand,
    json: bool,
    config: &Config,
    store: &Arc<dyn Store>,
    host: Arc<dyn Clock>,
) -> Result<(), CommandError> {
    if config.keys.algorithm == SigningAlgorithm::Hs256 {
        return Err(KeysError::Key(KeyError::NotUsed).into());
    }
    let key_store = Arc::clone(store) as Arc<dyn KeyStore>;
    let (_, root) = keys::open_root_key(&*key_store, &config.keys).await?;
    let periods = config.key_periods();
    let keys = Keys { store: key_store, root: Arc::new(root), periods, host };
    match command {
        KeyCommand::List => {}
        KeyCommand::Rotate => {
            keys.rotate(Requester::COMMAND_LINE).await?;
        }
        KeyCommand::Revoke { kid, all: _, yes } => {
            let id: Option<KeyId> = kid.map(|kid| kid.parse()).transpose()?;
            if id.is_none() {
                input::confirm("revoke all keys, and with them every access token", yes)?;
            }
            keys.revoke(id, Requester::COMMAND_LINE).await?;
        }
    }
    list(&**store, json).await
}

/// Deletes the former secrets from the database.
pub(super) async fn retire(config: &Config, store: &dyn Store) -> Result<(), CommandError> {
    let count = keys::retire_other_secrets(store, &config.keys).await?;
    Ok(writeln!(io::stdout(), "retired {count} former secrets")?)
}
