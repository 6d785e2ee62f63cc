//! The clients in memory, and their secrets.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use time::OffsetDateTime;

use crate::domain::{Client, ClientId, ClientSet, NewSecret, SecretId, SessionId};

/// Beginning of every secret of a client, so that tools find one that has leaked.
const PREFIX: &str = "pcs_";

/// Clients in memory. A change in the database is followed through the version of the shared state.
#[derive(Default)]
pub struct ClientDirectory {
    clients: ArcSwap<Clients>,
}

/// All clients at one version of the shared state.
#[derive(Default)]
pub struct Clients {
    version: i64,
    by_id: HashMap<ClientId, Arc<Client>>,
}

/// Client that has shown one of its secrets.
#[derive(Clone, Debug)]
pub struct AuthenticatedClient {
    pub client: Arc<Client>,
    /// The `sid` claim of the tokens for the secret. Its revocation ends the secret, too.
    pub session_id: SessionId,
}

impl ClientDirectory {
    /// Returns the clients.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Clients>> {
        self.clients.load()
    }

    /// Replaces the clients by newer ones. Older ones come from a read that a later one has
    /// overtaken.
    pub fn apply(&self, set: &ClientSet) {
        self.replace_if(set, |clients| clients.version < set.version);
    }

    /// Replaces the clients by those that were read when `former` were current. Their version may be
    /// lower: the database may have been restored.
    pub fn replace(&self, former: &Arc<Clients>, set: &ClientSet) {
        let is_newer = |clients: &Arc<Clients>| clients.version < set.version;
        self.replace_if(set, |clients| Arc::ptr_eq(clients, former) || is_newer(clients));
    }

    fn replace_if(&self, set: &ClientSet, is_outdated: impl Fn(&Arc<Clients>) -> bool) {
        let new = Arc::new(Clients::from(set));
        self.clients.rcu(|clients| Arc::clone(if is_outdated(clients) { &new } else { clients }));
    }
}

impl Clients {
    /// Returns the version of the shared state.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Finds a client.
    #[must_use]
    pub fn find(&self, id: ClientId) -> Option<&Arc<Client>> {
        self.by_id.get(&id)
    }

    /// Returns `true` if tokens for the secret of a client are accepted.
    #[must_use]
    pub fn has_session(&self, id: ClientId, session_id: SessionId) -> bool {
        let has_it =
            |client: &Arc<Client>| client.secrets.iter().any(|s| s.session_id == session_id);
        self.by_id.get(&id).is_some_and(has_it)
    }

    /// Authenticates a client. Returns `None` for an unknown, disabled or expired client and for a
    /// wrong secret alike. The work differs by a comparison of hashes, which tells nothing: a secret
    /// has 256 random bits, and a client id is no secret.
    #[must_use]
    pub fn authenticate(
        &self,
        id: Option<ClientId>,
        secret: &str,
        now: OffsetDateTime,
    ) -> Option<AuthenticatedClient> {
        let hash = hash(secret);
        let client = id.and_then(|id| self.by_id.get(&id));
        let secrets = client.map(|client| client.secrets.as_slice()).unwrap_or_default();
        let secret = secrets.iter().find(|secret| are_equal(&secret.hash, &hash))?;
        let client = client.filter(|client| client.is_active(now))?;
        Some(AuthenticatedClient { client: Arc::clone(client), session_id: secret.session_id })
    }
}

impl From<&ClientSet> for Clients {
    fn from(set: &ClientSet) -> Self {
        let by_id = set.clients.iter().map(|client| (client.id, Arc::new(client.clone())));
        Self { version: set.version, by_id: by_id.collect() }
    }
}

/// Generates a secret of 256 random bits. Only its hash is kept.
///
/// # Errors
/// Returns an error if the operating system provides no random bytes.
pub fn generate_secret() -> Result<(String, NewSecret), Unspecified> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes)?;
    let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    let new = NewSecret { id: SecretId::random(), hash: hash(&secret) };
    Ok((secret, new))
}

fn hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    hash
}

/// Compares two hashes in constant time.
fn are_equal(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::domain::{ClientChange, ClientEdit, ClientName, ClientRights, Grantable, Requester};

    const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

    fn client(secret: NewSecret) -> Client {
        let name = ClientName::parse("orders").unwrap();
        let change = ClientChange {
            client_id: ClientId::random(),
            edit: ClientEdit::Create(name, ClientRights::default(), secret),
            token_lifetime: None,
            requester: Requester::COMMAND_LINE,
        };
        change.decide(None, &Grantable::All, NOW).unwrap().unwrap().client
    }

    fn directory(version: i64, clients: Vec<Client>) -> ClientDirectory {
        let directory = ClientDirectory::default();
        directory.apply(&ClientSet { version, clients, broken: Vec::new() });
        directory
    }

    #[test]
    fn client_shows_its_secret() {
        let (secret, new) = generate_secret().unwrap();
        let client = client(new);
        let directory = directory(1, vec![client.clone()]);
        let clients = directory.load();

        let shown = clients.authenticate(Some(client.id), &secret, NOW).unwrap();

        assert_eq!(shown.session_id, client.secrets[0].session_id);
        assert!(clients.has_session(client.id, shown.session_id));
        assert!(secret.starts_with("pcs_"));
        assert_eq!(secret.len(), 47);
        let (other, _) = generate_secret().unwrap();
        assert!(clients.authenticate(Some(client.id), &other, NOW).is_none());
        assert!(clients.authenticate(Some(ClientId::random()), &secret, NOW).is_none());
        assert!(clients.authenticate(None, &secret, NOW).is_none());
    }

    #[test]
    fn disabled_and_expired_clients_are_refused() {
        let (secret, new) = generate_secret().unwrap();
        let mut disabled = client(new.clone());
        disabled.disabled_at = Some(NOW);
        let mut expired = client(new);
        expired.rights.expires_at = Some(NOW);
        let directory = directory(1, vec![disabled.clone(), expired.clone()]);

        for client in [disabled, expired] {
            assert!(directory.load().authenticate(Some(client.id), &secret, NOW).is_none());
        }
    }

    #[test]
    fn overtaken_read_replaces_nothing() {
        let (_, new) = generate_secret().unwrap();
        let client = client(new);
        let session_id = client.secrets[0].session_id;
        let directory = directory(1, Vec::new());
        let former = Arc::clone(&directory.load());
        let with = |version| ClientSet { version, clients: vec![client.clone()], broken: vec![] };
        let without = |version| ClientSet { version, ..ClientSet::default() };

        directory.apply(&with(2));
        directory.apply(&without(1));
        directory.replace(&former, &without(1));
        assert!(directory.load().has_session(client.id, session_id));

        let former = Arc::clone(&directory.load());
        directory.replace(&former, &without(1));
        assert!(!directory.load().has_session(client.id, session_id), "a restored database");
    }
}
