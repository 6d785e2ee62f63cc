//! HMAC-SHA-256 and ECDSA on P-256 by `ring` for `jsonwebtoken`, through its [`CryptoProvider`]
//! extension point: the service uses one cryptographic library.

use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};
use signature::{Error, Signer, Verifier};

static RING: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| match algorithm {
        Algorithm::HS256 => Ok(Box::new(HmacSha256::from_key(key.as_bytes()))),
        Algorithm::ES256 => Ok(Box::new(EcdsaP256Signer::from_pkcs8(key.as_bytes())?)),
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    },
    verifier_factory: |algorithm, key| match algorithm {
        Algorithm::HS256 => Ok(Box::new(HmacSha256::from_key(key.try_get_as_bytes()?))),
        Algorithm::ES256 => Ok(Box::new(EcdsaP256::new(key.try_get_as_bytes()?))),
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    },
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes `jsonwebtoken` sign and verify through `ring`.
pub(super) fn install() {
    // Fails only if a provider is installed: this one, by an earlier call.
    let _ = RING.install_default();
}

/// Signs and verifies with HS256.
pub(super) struct HmacSha256(hmac::Key);

/// Verifies with ES256. A signature is two numbers of 32 bytes each (RFC 7518 section 3.4).
pub(super) struct EcdsaP256(UnparsedPublicKey<Vec<u8>>);

/// Signs with ES256.
struct EcdsaP256Signer {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl HmacSha256 {
    pub(super) fn from_key(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }
}

impl EcdsaP256 {
    /// Takes an uncompressed point. Another key verifies nothing.
    pub(super) fn new(public_key: &[u8]) -> Self {
        Self(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public_key.to_vec()))
    }
}

impl EcdsaP256Signer {
    fn from_pkcs8(key: &[u8]) -> Result<Self> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &random)
            .map_err(|_| ErrorKind::InvalidEcdsaKey)?;
        Ok(Self { pair, random })
    }
}

impl Signer<Vec<u8>> for HmacSha256 {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl Signer<Vec<u8>> for EcdsaP256Signer {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        let signature = self.pair.sign(&self.random, message).map_err(|_| Error::new())?;
        Ok(signature.as_ref().to_vec())
    }
}

impl Verifier<Vec<u8>> for HmacSha256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        hmac::verify(&self.0, message, signature).map_err(|_| Error::new())
    }
}

impl Verifier<Vec<u8>> for EcdsaP256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.0.verify(message, signature).map_err(|_| Error::new())
    }
}

impl JwtSigner for HmacSha256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtSigner for EcdsaP256Signer {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

impl JwtVerifier for HmacSha256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for EcdsaP256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{DecodingKey, EncodingKey, crypto};

    use super::*;

    /// RFC 7515, appendix A.1.
    const KEY: &str =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    const MESSAGE: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
        eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SIGNATURE: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn key() -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(KEY).unwrap()
    }

    #[test]
    fn rfc_example_is_signed() {
        install();
        let key = EncodingKey::from_secret(&key());

        assert_eq!(crypto::sign(MESSAGE.as_bytes(), &key, Algorithm::HS256).unwrap(), SIGNATURE);
    }

    #[test]
    fn rfc_example_verifies_unless_altered() {
        install();
        let key = DecodingKey::from_secret(&key());
        let verify = |signature: &str, message: &str| {
            crypto::verify(signature, message.as_bytes(), &key, Algorithm::HS256).unwrap()
        };

        assert!(verify(SIGNATURE, MESSAGE));
        assert!(!verify(SIGNATURE, &MESSAGE.replace("eyJpc3M", "eyJpc3N")));
        assert!(!verify(&SIGNATURE.replace("dBj", "dBk"), MESSAGE));
    }

    #[test]
    fn other_algorithms_are_refused() {
        install();
        let key = EncodingKey::from_secret(&key());

        for algorithm in [Algorithm::HS384, Algorithm::HS512, Algorithm::RS256, Algorithm::EdDSA] {
            assert!(crypto::sign(MESSAGE.as_bytes(), &key, algorithm).is_err(), "{algorithm:?}");
        }
    }
}
