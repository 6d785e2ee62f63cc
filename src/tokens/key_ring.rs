//! [`KeyRing`]: the keys that verify access tokens, and the one that signs them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::{JwtSigner, JwtVerifier};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header};
use ring::digest::{SHA256, digest};
use serde::Serialize;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::algorithms::{EcdsaP256, EcdsaP256Signer, HmacSha256};
use super::es256::Jwk;
use super::root_key::{CryptoError, RootKey, derive_id};
use crate::domain::{KeyId, KeySet, KeyState, SecretKey, SigningKey};

/// Expiry that no token exceeds.
const END_OF_TIME: OffsetDateTime = PrimitiveDateTime::MAX.assume_utc();

/// Type of an access token (RFC 9068 section 2.1).
const TYPE: &str = "at+jwt";

/// Keys of one version. A new version replaces the whole ring.
pub struct KeyRing {
    algorithm: Algorithm,
    /// Keys in the order of their publication.
    keys: Vec<RingKey>,
    /// The stored keys; none if a secret signs.
    stored: KeySet,
    jwks: JwksDocument,
}

/// Key of a ring.
pub(super) struct RingKey {
    pub(super) id: KeyId,
    state: KeyState,
    /// Latest expiry of the tokens that the key may sign.
    signs_until: OffsetDateTime,
    /// First part of every token that the key signs.
    encoded_header: String,
    verifier: Box<dyn JwtVerifier + Send + Sync>,
    /// Private part. `None` if it cannot be decrypted: the key verifies, but does not sign.
    signer: Option<Box<dyn JwtSigner + Send + Sync>>,
}

/// Public keys as a JWK set (RFC 7517 section 5).
#[derive(Clone, Debug)]
pub struct JwksDocument {
    /// JSON that ends with a newline.
    pub body: String,
    /// Entity tag, without quotes (RFC 9110 section 8.8.3).
    pub etag: String,
}

impl KeyRing {
    /// Creates the ring of the stored keys, which sign with ES256.
    ///
    /// A key whose private part cannot be decrypted only verifies.
    #[must_use]
    pub fn es256(set: &KeySet, root: &RootKey) -> Self {
        for id in &set.broken {
            tracing::error!(key.id = id, "a row of signing_keys does not parse");
        }
        let keys = set.keys.iter().map(|key| RingKey::es256(key, root)).collect();
        let jwks = set.keys.iter().filter_map(|key| Jwk::new(&key.public_key)).collect();
        let jwks = JwksDocument::new(jwks);
        Self { algorithm: Algorithm::ES256, keys, stored: set.clone(), jwks }
    }

    /// Creates the ring of secrets, which sign with HS256: the present one signs, and a previous one
    /// still verifies. It publishes no keys.
    ///
    /// # Errors
    /// Returns [`CryptoError`], which no secret causes.
    pub fn hs256(secret: &SecretKey, previous: Option<&SecretKey>) -> Result<Self, CryptoError> {
        let mut keys = Vec::new();
        if let Some(previous) = previous {
            keys.push(RingKey::hs256(previous, KeyState::Retiring)?);
        }
        keys.push(RingKey::hs256(secret, KeyState::Active)?);
        let jwks = JwksDocument::new(Vec::new());
        Ok(Self { algorithm: Algorithm::HS256, keys, stored: KeySet::default(), jwks })
    }

    /// Returns `true` if the keys are rows of the database, which can change.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.algorithm == Algorithm::ES256
    }

    /// Returns the stored keys; none if a secret signs.
    #[must_use]
    pub fn stored(&self) -> &KeySet {
        &self.stored
    }

    /// Returns the number of keys in a state, secrets included.
    #[must_use]
    pub fn count(&self, state: KeyState) -> usize {
        self.keys.iter().filter(|key| key.state == state).count()
    }

    /// Returns the public keys.
    #[must_use]
    pub fn jwks(&self) -> &JwksDocument {
        &self.jwks
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn find(&self, id: KeyId) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// Finds the key of a token by its encoded header, if the header is one that this service
    /// writes.
    pub(super) fn find_by_header(&self, encoded_header: &str) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.encoded_header == encoded_header)
    }

    /// Returns the key for a new token: the active one or, until the database knows that it signs
    /// for long enough, the one before.
    pub(super) fn signing_key(&self, expires_at: OffsetDateTime) -> Option<&RingKey> {
        let may_sign =
            |key: &&RingKey| key.state != KeyState::Pending && key.signs_until >= expires_at;
        self.keys.iter().rev().filter(|key| key.signer.is_some()).find(may_sign)
    }
}

impl RingKey {
    fn es256(key: &SigningKey, root: &RootKey) -> Self {
        let private_key = root.open_signing_key(key.id, &key.sealed_private_key);
        let signer = private_key.and_then(|pkcs8| EcdsaP256Signer::from_pkcs8(&pkcs8));
        if signer.is_err() {
            tracing::error!(key.id = %key.id, "failed to decrypt a signing key; it signs no tokens");
        }
        Self {
            id: key.id,
            state: key.state,
            signs_until: key.signs_until,
            encoded_header: encode_header(Algorithm::ES256, key.id),
            verifier: Box::new(EcdsaP256::new(&key.public_key)),
            signer: signer.ok().map(|signer| Box::new(signer) as _),
        }
    }

    fn hs256(secret: &SecretKey, state: KeyState) -> Result<Self, CryptoError> {
        let id = derive_id(secret, "HS256 key id")?;
        let key = || Box::new(HmacSha256::from_key(secret.expose()));
        Ok(Self {
            id,
            state,
            signs_until: END_OF_TIME,
            encoded_header: encode_header(Algorithm::HS256, id),
            verifier: key(),
            signer: Some(key()),
        })
    }

    pub(super) fn is_signed(&self, message: &str, signature: &Vec<u8>) -> bool {
        self.verifier.verify(message.as_bytes(), signature).is_ok()
    }

    /// Signs a token. The key must be one that [`KeyRing::signing_key`] has returned.
    pub(super) fn sign(&self, claims: &impl Serialize) -> jsonwebtoken::errors::Result<String> {
        let mut token = format!("{}.", self.encoded_header);
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims)?, &mut token);
        let signature = self.sign_message(&token)?;
        token.push('.');
        token.push_str(&signature);
        Ok(token)
    }

    /// Signs the first two parts of a token. Returns the third one.
    pub(super) fn sign_message(&self, message: &str) -> jsonwebtoken::errors::Result<String> {
        let signer = self.signer.as_ref().ok_or(ErrorKind::InvalidEcdsaKey)?;
        Ok(URL_SAFE_NO_PAD.encode(signer.try_sign(message.as_bytes())?))
    }
}

impl JwksDocument {
    fn new(keys: Vec<Jwk>) -> Self {
        #[derive(Serialize)]
        struct Jwks {
            keys: Vec<Jwk>,
        }
        let body = serde_json::to_string(&Jwks { keys }).unwrap_or_default() + "\n";
        let digest = digest(&SHA256, body.as_bytes());
        let etag = URL_SAFE_NO_PAD.encode(digest);
        Self { body, etag }
    }
}

/// Returns the first part of the tokens of a key.
fn encode_header(algorithm: Algorithm, id: KeyId) -> String {
    let mut header = Header::new(algorithm);
    header.typ = Some(TYPE.to_owned());
    header.kid = Some(id.to_string());
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).unwrap_or_default())
}

/// Returns `true` for the type of an access token, with or without its prefix (RFC 7515 section
/// 4.1.9).
pub(super) fn is_access_token_type(typ: &str) -> bool {
    let subtype = typ.len().checked_sub(TYPE.len()).and_then(|start| typ.split_at_checked(start));
    subtype.is_some_and(|(prefix, subtype)| {
        subtype.eq_ignore_ascii_case(TYPE)
            && (prefix.is_empty() || prefix.eq_ignore_ascii_case("application/"))
    })
}
