//! The keys that sign access tokens, and their states.

use std::array;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Serialize, Serializer};
use strum::{EnumIter, EnumString, IntoStaticStr, VariantNames};
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

use super::RevocationId;

/// Identifier of a key (`kid`): its JWK thumbprint with SHA-256 (RFC 7638), in base64url.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 32]);

/// Reason why a text is not the identifier of a key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not the id of a key: 43 letters, digits, - and _")]
pub struct KeyIdError;

impl KeyId {
    /// Creates the identifier of a key from its thumbprint.
    #[must_use]
    pub fn from_thumbprint(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let digest = URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyIdError)?;
        digest.try_into().map(Self).map_err(|_| KeyIdError)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The first half of the thumbprint: the identifiers of revocations have 128 bits.
impl From<KeyId> for RevocationId {
    fn from(KeyId(digest): KeyId) -> Self {
        Uuid::from_bytes(array::from_fn(|index| digest[index])).into()
    }
}

/// State of a key. Its variants' names are those used in JSON, in SQL and in metrics.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    EnumIter,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[serde(into = "&'static str")]
#[strum(serialize_all = "lowercase", const_into_str)]
pub enum KeyState {
    /// Published, so that verifiers know it before it signs.
    Pending,
    /// Signs new tokens.
    Active,
    /// Verifies the tokens that it has signed.
    Retiring,
}

/// Key pair for ES256 as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    pub id: KeyId,
    pub state: KeyState,
    /// Point on the curve P-256, uncompressed (SEC 1 section 2.3.3).
    pub public_key: Vec<u8>,
    /// Private key (PKCS #8), encrypted with a key that the root key determines.
    pub sealed_private_key: Vec<u8>,
    /// Time from which the key is published.
    pub published_at: OffsetDateTime,
    /// Time from which every verifier knows the key, so that it may sign.
    pub known_at: OffsetDateTime,
    /// Time from which the key signs; `None` for a pending one.
    pub activated_at: Option<OffsetDateTime>,
    /// Latest expiry of the tokens that an instance may sign with the key. It is raised before a
    /// token is signed.
    pub signs_until: OffsetDateTime,
}

/// New key pair, which has no place in the life of the keys yet.
#[derive(Clone, Debug)]
pub struct NewKey {
    pub id: KeyId,
    pub public_key: Vec<u8>,
    pub sealed_private_key: Vec<u8>,
}

/// All keys, and the version of the shared state that they belong to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    pub version: i64,
    /// Keys in the order of their publication.
    pub keys: Vec<SigningKey>,
    /// Ids of rows that do not parse. They are left as they are.
    pub broken: Vec<String>,
}

/// Root key, encrypted with a key that a secret determines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Identifier of the secret, which does not reveal it.
    pub secret_id: String,
    pub ciphertext: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_id_has_one_text() {
        let text = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        let id: KeyId = text.parse().unwrap();

        assert_eq!(id.to_string(), text);
        assert_eq!(
            RevocationId::from(id).as_uuid().to_string(),
            "3736cbb1-787c-b830-9c77-ee8c3705c5e1"
        );
        for other in ["", "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9X", &format!("{text}="), "kid"]
        {
            assert_eq!(other.parse::<KeyId>(), Err(KeyIdError), "{other}");
        }
    }
}
