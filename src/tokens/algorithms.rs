//! HS256 and ES256 as signers and verifiers of `jsonwebtoken`, computed by `ring`: the service uses
//! one cryptographic library.

use jsonwebtoken::Algorithm;
use jsonwebtoken::crypto::{JwtSigner, JwtVerifier};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};
use signature::{Error, Signer, Verifier};

use super::root_key::CryptoError;

/// Signs and verifies with HS256.
pub(super) struct HmacSha256(hmac::Key);

/// Verifies with ES256. A signature is two numbers of 32 bytes each (RFC 7518 section 3.4).
pub(super) struct EcdsaP256(UnparsedPublicKey<Vec<u8>>);

/// Signs with ES256. The private key is parsed once, not for each token.
pub(super) struct EcdsaP256Signer {
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
    pub(super) fn from_pkcs8(key: &[u8]) -> Result<Self, CryptoError> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &random);
        Ok(Self { pair: pair.map_err(|_| CryptoError)?, random })
    }
}

impl Signer<Vec<u8>> for HmacSha256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl Signer<Vec<u8>> for EcdsaP256Signer {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.pair.sign(&self.random, message).map_err(|_| Error::new())?;
        Ok(signature.as_ref().to_vec())
    }
}

impl Verifier<Vec<u8>> for HmacSha256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        hmac::verify(&self.0, message, signature).map_err(|_| Error::new())
    }
}

impl Verifier<Vec<u8>> for EcdsaP256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
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

    use super::*;

    /// RFC 7515, appendix A.1.
    const KEY: &str =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    const MESSAGE: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
        eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SIGNATURE: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn key() -> HmacSha256 {
        HmacSha256::from_key(&URL_SAFE_NO_PAD.decode(KEY).unwrap())
    }

    #[test]
    fn rfc_example_is_signed() {
        let signature = key().try_sign(MESSAGE.as_bytes()).unwrap();

        assert_eq!(URL_SAFE_NO_PAD.encode(signature), SIGNATURE);
    }

    #[test]
    fn rfc_example_verifies_unless_altered() {
        let verify = |signature: &str, message: &str| {
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            key().verify(message.as_bytes(), &signature).is_ok()
        };

        assert!(verify(SIGNATURE, MESSAGE));
        assert!(!verify(SIGNATURE, &MESSAGE.replace("eyJpc3M", "eyJpc3N")));
        assert!(!verify(&SIGNATURE.replace("dBj", "dBk"), MESSAGE));
    }
}
