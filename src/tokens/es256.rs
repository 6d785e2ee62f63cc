//! Key pairs for ES256: ECDSA on P-256 with SHA-256 (RFC 7518 section 3.4).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde::Serialize;

use super::root_key::{CryptoError, RootKey};
use crate::domain::{KeyId, NewKey};

/// First byte of an uncompressed point (SEC 1 section 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// Length of a coordinate in bytes.
const COORDINATE: usize = 32;

/// Public key as a JWK (RFC 7517).
#[derive(Serialize)]
pub(super) struct Jwk {
    #[serde(flatten)]
    point: Point,
    kid: String,
    alg: &'static str,
    #[serde(rename = "use")]
    key_use: &'static str,
}

/// The members that determine a key, in the order of their thumbprint (RFC 7638 section 3.2).
#[derive(Serialize)]
struct Point {
    crv: &'static str,
    kty: &'static str,
    x: String,
    y: String,
}

/// Generates a key pair. Its private part is encrypted for the root key.
///
/// # Errors
/// Returns [`CryptoError`] if the operating system provides no random bytes.
pub fn generate_key(root: &RootKey) -> Result<NewKey, CryptoError> {
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random)?;
    let pair =
        EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).map_err(|_| CryptoError)?;
    let public_key = pair.public_key().as_ref().to_vec();
    let id = Point::parse(&public_key).ok_or(CryptoError)?.thumbprint();
    let sealed_private_key = root.seal_signing_key(id, pkcs8.as_ref())?;
    Ok(NewKey { id, public_key, sealed_private_key })
}

impl Jwk {
    /// Returns `None` unless the key is an uncompressed point.
    pub(super) fn new(public_key: &[u8]) -> Option<Self> {
        let point = Point::parse(public_key)?;
        let kid = point.thumbprint().to_string();
        Some(Self { point, kid, alg: "ES256", key_use: "sig" })
    }
}

impl Point {
    fn parse(public_key: &[u8]) -> Option<Self> {
        let (&UNCOMPRESSED, coordinates) = public_key.split_first()? else { return None };
        if coordinates.len() != 2 * COORDINATE {
            return None;
        }
        let (x, y) = coordinates.split_at(COORDINATE);
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        Some(Self { crv: "P-256", kty: "EC", x, y })
    }

    fn thumbprint(&self) -> KeyId {
        let Self { crv, kty, x, y } = self;
        let json = format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#);
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest(&SHA256, json.as_bytes()).as_ref());
        KeyId::from_thumbprint(thumbprint)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Key of RFC 7515, appendix A.3. Its thumbprint was computed with another implementation.
    #[test]
    fn rfc_key_has_known_jwk() {
        let [x, y] = [
            "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        ];
        let [x_bytes, y_bytes] = [x, y].map(|text| URL_SAFE_NO_PAD.decode(text).unwrap());
        let public_key = [&[UNCOMPRESSED], x_bytes.as_slice(), &y_bytes].concat();

        let jwk = serde_json::to_value(Jwk::new(&public_key).unwrap()).unwrap();

        assert_eq!(
            jwk,
            json!({
                "kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256", "use": "sig",
                "kid": "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U",
            })
        );
        assert!(Jwk::new(&public_key[1..]).is_none());
        assert!(Jwk::new(&[]).is_none());
    }
}
