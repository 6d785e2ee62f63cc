//! Checks of `JWT_SECRET_KEY`.

use std::io;

use super::finding::Finding;
use crate::config::{KeySettings, SecretKeySource, SigningAlgorithm};
use crate::domain::SecretKey;
use crate::keys::{OpenKeysError, SecretState, inspect_secret};
use crate::store::Store;
use crate::telemetry::ErrorChain;
use crate::tokens::{self, KeyFileError};

const STRENGTH: &str = "secret.strength";

/// Checks that the secrets are hard to guess.
pub(super) fn check_strength(settings: &KeySettings) -> Vec<Finding> {
    let present = match &settings.secret {
        SecretKeySource::Given(secret) => Some(strength(secret, "JWT_SECRET_KEY", settings)),
        SecretKeySource::KeptIn(path) => {
            let name = path.display().to_string();
            Some(match tokens::read_secret(path) {
                Ok(secret) => strength(&secret, &name, settings),
                Err(KeyFileError::File(error)) if error.kind() == io::ErrorKind::NotFound => {
                    Finding::ok(STRENGTH, format!("there is no secret in {name} yet"))
                }
                Err(error) => Finding::error(
                    STRENGTH,
                    format!("failed to use the secret in {name}: {}", ErrorChain(&error)),
                    "restore the file, or set JWT_SECRET_KEY \
                     (docs/operations.md#back-up-and-restore)",
                ),
            })
        }
    };
    let previous = settings.previous_secret.as_ref();
    let previous = previous.map(|secret| strength(secret, "JWT_SECRET_KEY_PREVIOUS", settings));
    present.into_iter().chain(previous).collect()
}

fn strength(secret: &SecretKey, name: &str, settings: &KeySettings) -> Finding {
    if !secret.is_weak() {
        return Finding::ok(STRENGTH, format!("the secret in {name} looks random"));
    }
    let advice = "make one with `portcullis secret generate` \
                  (docs/keys.md#the-secret-has-leaked-or-has-to-change)";
    if settings.algorithm == SigningAlgorithm::Hs256 {
        let message = format!(
            "the secret in {name} looks guessable, and with HS256 the bearer of any token can guess \
             until it matches, and then sign tokens"
        );
        return Finding::error(STRENGTH, message, advice);
    }
    let message = format!(
        "the secret in {name} looks guessable, and protects the keys in every copy of the database"
    );
    Finding::warning(STRENGTH, message, advice)
}

/// Checks that the secret decrypts the root key, and that no change of it was left half done.
pub(super) async fn check_root_key(store: &dyn Store, settings: &KeySettings) -> Vec<Finding> {
    let state = inspect_secret(store, settings).await;
    judge_state(state, settings.previous_secret.is_some())
}

fn judge_state(state: Result<SecretState, OpenKeysError>, has_previous: bool) -> Vec<Finding> {
    const OPENS: &str = "secret.opens";
    const PREVIOUS: &str = "secret.previous";
    let others = match state {
        Ok(SecretState::Opens { others }) => others,
        Ok(SecretState::New) => {
            return vec![Finding::ok(OPENS, "the first start makes the keys that it protects")];
        }
        Ok(SecretState::NotAdded) => {
            let message = "JWT_SECRET_KEY_PREVIOUS decrypts the keys; the next start adds the new \
                           secret";
            return vec![Finding::ok(OPENS, message)];
        }
        Err(OpenKeysError::Store(error)) => {
            return vec![Finding::unchecked(OPENS, ErrorChain(&error))];
        }
        Err(error) => {
            let advice = "the service does not start \
                          (docs/operations.md#when-the-service-does-not-start)";
            return vec![Finding::error(OPENS, ErrorChain(&error).to_string(), advice)];
        }
    };
    let advice_retire = "run `portcullis secret retire` once every instance has the new secret, then \
                         remove JWT_SECRET_KEY_PREVIOUS (docs/operations.md#rotate-secrets)";
    let advice_remove = "remove it (docs/operations.md#rotate-secrets)";
    let opens = Finding::ok(OPENS, "the secret decrypts the keys in the database");
    let previous = match (others, has_previous) {
        (0, false) => Finding::ok(PREVIOUS, "no former secret decrypts the keys"),
        (0, true) => Finding::warning(
            PREVIOUS,
            "JWT_SECRET_KEY_PREVIOUS is set, although only JWT_SECRET_KEY decrypts the keys",
            advice_remove,
        ),
        _ => Finding::warning(
            PREVIOUS,
            format!("former secrets that still decrypt the keys: {others}"),
            advice_retire,
        ),
    };
    vec![opens, previous]
}
