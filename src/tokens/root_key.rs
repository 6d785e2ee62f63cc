//! The root key, from which every key of the service is derived (HKDF, RFC 5869).
//!
//! The database holds it encrypted with `JWT_SECRET_KEY`. So a new secret changes no token, and a
//! secret that other services know, in HS256 mode, reveals no other key without the database.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::domain::{KeyId, SecretKey, WrappedKey};

const SALT: &[u8] = b"portcullis";
const LENGTH: usize = 32;

/// Root key: 256 random bits.
pub struct RootKey(Zeroizing<[u8; LENGTH]>);

/// Failure of a cryptographic operation: no random bytes, or a ciphertext that was altered.
#[derive(Clone, Copy, Debug, Error)]
#[error("a cryptographic operation failed")]
pub struct CryptoError;

impl From<Unspecified> for CryptoError {
    fn from(_: Unspecified) -> Self {
        Self
    }
}

impl RootKey {
    /// Generates a root key.
    ///
    /// # Errors
    /// Returns [`CryptoError`] if the operating system provides no random bytes.
    pub fn generate() -> Result<Self, CryptoError> {
        let mut key = Zeroizing::new([0; LENGTH]);
        SystemRandom::new().fill(key.as_mut())?;
        Ok(Self(key))
    }

    /// Encrypts the root key with a secret.
    ///
    /// # Errors
    /// Returns [`CryptoError`] if the operating system provides no random bytes.
    pub fn wrap(&self, secret: &SecretKey) -> Result<WrappedKey, CryptoError> {
        let secret_id = secret_id(secret)?;
        let ciphertext = seal(wrapping_key(secret)?, secret_id.as_bytes(), self.0.as_slice())?;
        Ok(WrappedKey { secret_id, ciphertext })
    }

    /// Decrypts the root key. Returns `None` if no wrapping is for the secret.
    ///
    /// # Errors
    /// Returns [`CryptoError`] if the wrapping was altered.
    pub fn unwrap_with(
        secret: &SecretKey,
        wrappings: &[WrappedKey],
    ) -> Result<Option<Self>, CryptoError> {
        let secret_id = secret_id(secret)?;
        let Some(wrapped) = wrappings.iter().find(|wrapped| wrapped.secret_id == secret_id) else {
            return Ok(None);
        };
        let key = open(wrapping_key(secret)?, secret_id.as_bytes(), &wrapped.ciphertext)?;
        let key = key.as_slice().try_into().map_err(|_| CryptoError)?;
        Ok(Some(Self(Zeroizing::new(key))))
    }

    #[cfg(test)]
    pub(super) fn from_bytes(key: [u8; LENGTH]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// Derives a key for message authentication.
    pub(super) fn hmac_key(&self, label: &str) -> Result<hmac::Key, CryptoError> {
        Ok(derive(self.0.as_slice()).expand(&[label.as_bytes()], hmac::HMAC_SHA256)?.into())
    }

    /// Encrypts the private part of a signing key. The ciphertext is bound to the key's id.
    pub(super) fn seal_signing_key(&self, id: KeyId, key: &[u8]) -> Result<Vec<u8>, CryptoError> {
        seal(self.sealing_key()?, id.to_string().as_bytes(), key)
    }

    /// Decrypts the private part of a signing key.
    pub(super) fn open_signing_key(
        &self,
        id: KeyId,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        open(self.sealing_key()?, id.to_string().as_bytes(), sealed)
    }

    fn sealing_key(&self) -> Result<UnboundKey, CryptoError> {
        Ok(derive(self.0.as_slice()).expand(&[b"sealing of signing keys"], &AES_256_GCM)?.into())
    }
}

/// Returns the identifier of a secret, which does not reveal it.
///
/// # Errors
/// Returns [`CryptoError`], which no secret causes.
pub fn secret_id(secret: &SecretKey) -> Result<String, CryptoError> {
    Ok(derive_id(secret, "secret id")?.to_string())
}

/// Derives 32 bytes that identify a secret.
pub(super) fn derive_id(secret: &SecretKey, label: &str) -> Result<KeyId, CryptoError> {
    let mut digest = [0; LENGTH];
    derive(secret.expose()).expand(&[label.as_bytes()], hkdf::HKDF_SHA256)?.fill(&mut digest)?;
    Ok(KeyId::from_thumbprint(digest))
}

fn wrapping_key(secret: &SecretKey) -> Result<UnboundKey, CryptoError> {
    Ok(derive(secret.expose()).expand(&[b"wrapping of the root key"], &AES_256_GCM)?.into())
}

fn derive(key: &[u8]) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(key)
}

/// Encrypts with AES-256-GCM. The random nonce precedes the ciphertext.
fn seal(key: UnboundKey, context: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce)?;
    let mut ciphertext = plaintext.to_vec();
    let unique = Nonce::assume_unique_for_key(nonce);
    let key = LessSafeKey::new(key);
    key.seal_in_place_append_tag(unique, Aad::from(context), &mut ciphertext)?;
    Ok([nonce.as_slice(), &ciphertext].concat())
}

/// Decrypts the result of [`seal`] with the same context.
fn open(key: UnboundKey, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LEN).ok_or(CryptoError)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce)?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let key = LessSafeKey::new(key);
    let length = key.open_in_place(nonce, Aad::from(context), &mut buffer)?.len();
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> SecretKey {
        SecretKey::parse(&[byte; 32]).unwrap()
    }

    #[test]
    fn each_secret_unwraps_its_own_wrapping() {
        let root = RootKey::generate().unwrap();
        let wrappings = [root.wrap(&secret(1)).unwrap(), root.wrap(&secret(2)).unwrap()];

        for byte in [1, 2] {
            let unwrapped = RootKey::unwrap_with(&secret(byte), &wrappings).unwrap().unwrap();
            assert_eq!(unwrapped.0, root.0);
        }
        assert!(RootKey::unwrap_with(&secret(3), &wrappings).unwrap().is_none());
    }

    #[test]
    fn altered_or_exchanged_wrapping_is_refused() {
        let root = RootKey::generate().unwrap();
        let wrapped = root.wrap(&secret(1)).unwrap();
        for position in 0..wrapped.ciphertext.len() {
            let mut altered = wrapped.clone();
            altered.ciphertext[position] ^= 1;
            assert!(RootKey::unwrap_with(&secret(1), &[altered]).is_err(), "{position}");
        }
        let other = WrappedKey { secret_id: secret_id(&secret(2)).unwrap(), ..wrapped };
        assert!(RootKey::unwrap_with(&secret(2), &[other]).is_err());
    }

    #[test]
    fn sealed_signing_key_is_bound_to_its_id() {
        let root = RootKey::generate().unwrap();
        let [id, other] = [1, 2].map(|byte| KeyId::from_thumbprint([byte; 32]));

        let sealed = root.seal_signing_key(id, b"private").unwrap();

        assert_eq!(root.open_signing_key(id, &sealed).unwrap().as_slice(), b"private");
        assert!(root.open_signing_key(other, &sealed).is_err());
        assert!(RootKey::generate().unwrap().open_signing_key(id, &sealed).is_err());
    }
}
