//! Identifiers of failure counters: keyed hashes, since people type passwords as usernames.

use ring::hmac;
use uuid::Uuid;

use super::root_key::{CryptoError, RootKey};
use crate::domain::{CounterId, Device, Network, SessionId, UserId, Username};

/// Computes the identifiers of failure counters. Their key is derived from the root key, so that
/// all instances agree.
pub struct CounterIds(hmac::Key);

impl CounterIds {
    /// Creates the identifiers of a database.
    ///
    /// # Errors
    /// Returns [`CryptoError`], which no root key causes.
    pub fn new(root: &RootKey) -> Result<Self, CryptoError> {
        Ok(Self(root.hmac_key("failure counter")?))
    }

    /// Returns the counter of an account, for strangers.
    #[must_use]
    pub fn account(&self, user: UserId) -> CounterId {
        self.hash("account", user.as_uuid().as_bytes())
    }

    /// Returns the counter of a username that no account has.
    #[must_use]
    pub fn username(&self, username: &Username) -> CounterId {
        self.hash("username", username.key().as_bytes())
    }

    /// Returns the counter of a known device.
    #[must_use]
    pub fn device(&self, device: Device) -> CounterId {
        self.hash("device", device.id.as_bytes())
    }

    /// Returns the counter of an account for a network that is known to it.
    #[must_use]
    pub fn network(&self, user: UserId, network: Network) -> CounterId {
        self.hash("network", format!("{user} {network}").as_bytes())
    }

    /// Returns the counter of a session, for actions that need the password again.
    #[must_use]
    pub fn session(&self, session: SessionId) -> CounterId {
        self.hash("session", session.as_uuid().as_bytes())
    }

    fn hash(&self, kind: &str, subject: &[u8]) -> CounterId {
        let tag = hmac::sign(&self.0, &[kind.as_bytes(), &[0], subject].concat());
        let mut id = [0; 16];
        id.copy_from_slice(&tag.as_ref()[..16]);
        Uuid::from_bytes(id).into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn identifiers_depend_on_key_kind_and_subject() {
        let ids = |key| CounterIds::new(&RootKey::from_bytes([key; 32])).unwrap();
        let name = |text| Username::parse(text).unwrap();
        let uuid = Uuid::nil();
        let device = Device { id: uuid, user_id: uuid.into(), version: 0.into() };
        let network = |address: &str| Network::from(address.parse::<std::net::IpAddr>().unwrap());

        let distinct = [
            ids(1).username(&name("alice")),
            ids(1).username(&name("bob")),
            ids(2).username(&name("alice")),
            ids(1).account(uuid.into()),
            ids(1).device(device),
            ids(1).session(uuid.into()),
            ids(1).network(uuid.into(), network("192.0.2.1")),
            ids(1).network(uuid.into(), network("192.0.2.2")),
            ids(1).network(Uuid::from_u128(1).into(), network("192.0.2.1")),
        ];

        assert_eq!(distinct.into_iter().collect::<HashSet<_>>().len(), distinct.len());
        assert_eq!(ids(1).username(&name("ALICE")), distinct[0]);
    }
}
