//! Checks of accounts and clients.

use time::OffsetDateTime;

use super::finding::Finding;
use crate::domain::{Client, Permissions};
use crate::store::{AccountFacts, Store};
use crate::telemetry::ErrorChain;

/// Checks accounts and clients at the given time.
pub(super) async fn check(store: &dyn Store, now: OffsetDateTime) -> Vec<Finding> {
    let mut findings = match store.account_facts().await {
        Ok(facts) => judge_accounts(facts),
        Err(error) => vec![Finding::unchecked("accounts.administrators", ErrorChain(&error))],
    };
    match store.read_clients().await {
        Ok(set) => findings.extend(judge_clients(&set.clients, now)),
        Err(error) => findings.push(Finding::unchecked("accounts.clients", ErrorChain(&error))),
    }
    findings
}

fn judge_accounts(facts: AccountFacts) -> Vec<Finding> {
    const ADMINISTRATORS: &str = "accounts.administrators";
    let AccountFacts { administrators, foreign_hashes } = facts;
    let administrators = if administrators == 0 {
        Finding::warning(
            ADMINISTRATORS,
            "there is no administrator",
            "create one with `portcullis user create NAME --role admin` \
             (docs/operations.md#administrators)",
        )
    } else {
        Finding::ok(ADMINISTRATORS, format!("administrators: {administrators}"))
    };
    let foreign_hashes = Finding::ok(
        "accounts.imported_hashes",
        format!(
            "accounts with the hash of another system until their next login: {foreign_hashes}"
        ),
    );
    vec![administrators, foreign_hashes]
}

fn judge_clients(clients: &[Client], now: OffsetDateTime) -> Vec<Finding> {
    const RIGHTS: &str = "accounts.client_rights";
    const EXPIRED: &str = "accounts.expired_clients";
    let has_all =
        |client: &&Client| Permissions::of_service().without(&client.rights.permissions).is_empty();
    let is_expired =
        |client: &&Client| client.rights.expires_at.is_some_and(|expiry| expiry <= now);
    let powerful = clients.iter().filter(|client| client.is_active(now)).filter(has_all);
    let powerful = names(powerful);
    let rights = if powerful.is_empty() {
        Finding::ok(RIGHTS, "no client has every permission of the service")
    } else {
        Finding::warning(
            RIGHTS,
            format!("clients with every permission of the service: {powerful}"),
            "leave them what they need, with `portcullis client set` (docs/clients.md#create-one)",
        )
    };
    let expired = names(clients.iter().filter(is_expired));
    let expired = if expired.is_empty() {
        Finding::ok(EXPIRED, "no client has expired")
    } else {
        Finding::warning(
            EXPIRED,
            format!("expired clients: {expired}"),
            "delete them, or give them another expiry (docs/clients.md#end-its-tokens)",
        )
    };
    vec![rights, expired]
}

fn names<'a>(clients: impl Iterator<Item = &'a Client>) -> String {
    let names: Vec<_> = clients.map(|client| client.name.as_str()).collect();
    names.join(", ")
}
