//! Checks of the signing keys, and of the settings that all instances have to share.

use std::time::Duration;

use time::OffsetDateTime;

use super::finding::Finding;
use crate::config::{Config, SigningAlgorithm};
use crate::domain::{KeySet, KeyState};
use crate::store::{SharedSettings, Store};
use crate::telemetry::ErrorChain;

/// Delay of a rotation that is no fault, as in the alert `PortcullisKeyRotationOverdue`.
const PATIENCE: Duration = Duration::from_hours(1);

/// Checks the keys at the given time.
pub(super) async fn check(store: &dyn Store, config: &Config, now: OffsetDateTime) -> Vec<Finding> {
    let mut findings = match store.shared_settings().await {
        Ok(shared) => judge_shared(&shared, config),
        Err(error) => vec![Finding::unchecked("keys.algorithm", ErrorChain(&error))],
    };
    if config.keys.algorithm == SigningAlgorithm::Hs256 {
        return findings;
    }
    match store.read_keys().await {
        Ok(set) => findings.extend(judge_keys(&set, config.keys.rotation_interval, now)),
        Err(error) => findings.push(Finding::unchecked("keys.active", ErrorChain(&error))),
    }
    findings
}

/// Compares the settings with those of the latest start.
fn judge_shared(shared: &SharedSettings, config: &Config) -> Vec<Finding> {
    let algorithm: &'static str = config.keys.algorithm.into();
    let issuer = config.tokens.issuer.as_str();
    let compare = |check, name: &str, setting: &str, stored: &Option<String>, advice| match stored {
        Some(stored) if stored != setting => {
            let message = format!(
                "{name} is `{setting}` here, and `{stored}` at the latest start of an instance: \
                 each refuses the tokens of the other"
            );
            Finding::warning(check, message, advice)
        }
        Some(_) => Finding::ok(check, format!("{name} is `{setting}`, as at the latest start")),
        None => Finding::ok(check, format!("{name} is `{setting}`; no instance has started yet")),
    };
    vec![
        compare(
            "keys.algorithm",
            "JWT_ALGORITHM",
            algorithm,
            &shared.algorithm,
            "give it the same value everywhere \
             (docs/keys.md#change-the-algorithm-or-the-hs256-secret)",
        ),
        compare(
            "keys.issuer",
            "the issuer (PUBLIC_URL)",
            issuer,
            &shared.issuer,
            "give it the same value everywhere (docs/runbook.md#portcullisissuersdiffer)",
        ),
    ]
}

fn judge_keys(set: &KeySet, interval: Option<Duration>, now: OffsetDateTime) -> Vec<Finding> {
    const ACTIVE: &str = "keys.active";
    const PENDING: &str = "keys.pending";
    if set.keys.is_empty() && set.broken.is_empty() {
        return vec![Finding::ok(ACTIVE, "there are no keys; the next start makes them")];
    }
    let key_in = |state| set.keys.iter().find(|key| key.state == state);
    let is_due =
        |at: OffsetDateTime| interval.is_some_and(|interval| now > at + interval + PATIENCE);
    let no_signing_key = "docs/runbook.md#portcullisnosigningkey";
    let active = match key_in(KeyState::Active) {
        None => Finding::warning(
            ACTIVE,
            "no key is active, so no token can be signed until the next start makes one",
            format!("look at the log of the instances ({no_signing_key})"),
        ),
        Some(key) if key.activated_at.is_some_and(is_due) => Finding::warning(
            ACTIVE,
            format!(
                "the key {} has been signing for longer than JWT_KEY_ROTATION_INTERVAL",
                key.id
            ),
            "run the service, or `portcullis key rotate` \
             (docs/runbook.md#portculliskeyrotationoverdue)",
        ),
        Some(key) => Finding::ok(ACTIVE, format!("the key {} signs", key.id)),
    };
    let pending = match key_in(KeyState::Pending) {
        None => Finding::warning(
            PENDING,
            "no pending key is published, so a rotation has to wait for one",
            "run the service, which makes one (docs/keys.md#the-life-of-a-signing-key)",
        ),
        Some(key) => {
            Finding::ok(PENDING, format!("the key {} is published as the next one", key.id))
        }
    };
    let broken = set.broken.iter().map(|id| {
        let message = format!("the row of the key {id} does not parse");
        Finding::warning("keys.rows", message, "restore it (docs/keys.md#restore-from-a-backup)")
    });
    [active, pending].into_iter().chain(broken).collect()
}
