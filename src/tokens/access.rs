//! [`Tokens`]: access tokens, which are JSON Web Tokens (RFC 9068) signed with ES256 or HS256,
//! refresh tokens, and device tokens.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use strum::EnumIter;
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

use super::claims::{AccessClaims, Claims, ScopeTooLong};
use super::device::DeviceTokens;
use super::key_ring::{KeyRing, RingKey, is_access_token_type};
use super::refresh::RefreshTokens;
use super::root_key::{CryptoError, RootKey};
use super::signatures::VerifiedSignatures;
use crate::config::TokenSettings;
use crate::domain::{
    Audience, AudienceError, Client, Device, Generation, KeyId, KeySet, Permissions, SessionId,
    User, Username,
};

/// Issues and verifies tokens.
pub struct Tokens {
    root: Arc<RootKey>,
    ring: ArcSwap<KeyRing>,
    signatures: VerifiedSignatures,
    refresh: RefreshTokens,
    devices: DeviceTokens,
    settings: TokenSettings,
}

/// A new access token.
#[derive(Debug)]
pub struct IssuedToken {
    /// Token in compact serialization.
    pub access_token: String,
    /// Remaining life.
    pub expires_in: Duration,
}

/// Reason to refuse a token. The texts are those of Flask-JWT-Extended, since clients read them.
#[derive(Clone, Copy, Debug, EnumIter, Error, PartialEq, Eq)]
pub enum TokenRefusal {
    /// Fewer than three parts.
    #[error("Not enough segments")]
    NotEnoughSegments,
    /// The signature does not match.
    #[error("Signature verification failed")]
    BadSignature,
    /// Any algorithm but that of the keys.
    #[error("The specified alg value is not allowed")]
    AlgorithmNotAllowed,
    /// No key of the service has the `kid`.
    #[error("The key of the token is unknown")]
    UnknownKey,
    /// Of another issuer.
    #[error("Invalid issuer")]
    WrongIssuer,
    /// For other services.
    #[error("Audience doesn't match")]
    WrongAudience,
    /// At or after `exp`.
    #[error("Token has expired")]
    Expired,
    /// Before `nbf`.
    #[error("The token is not yet valid (nbf)")]
    NotYetValid,
    /// A token of another type in place of an access token.
    #[error("Only non-refresh tokens are allowed")]
    WrongType,
    /// The token, its session or its key was revoked.
    #[error("Token has been revoked")]
    Revoked,
    /// Malformed, or with wrong claims.
    #[error("Invalid token")]
    Invalid,
}

/// Failure to sign a token.
#[derive(Debug, Error)]
pub enum IssueError {
    /// No key may sign a token with this expiry yet.
    #[error("no signing key may sign at the moment")]
    NoKey,
    /// The account has too many permissions.
    #[error(transparent)]
    ScopeTooLong(#[from] ScopeTooLong),
    /// The signature failed.
    #[error("failed to sign a token")]
    Sign(#[from] jsonwebtoken::errors::Error),
}

impl Tokens {
    /// Creates an issuer and verifier.
    ///
    /// # Errors
    /// Returns [`CryptoError`], which no root key causes.
    pub fn new(
        root: Arc<RootKey>,
        ring: KeyRing,
        settings: TokenSettings,
    ) -> Result<Self, CryptoError> {
        let refresh = RefreshTokens::new(&root)?;
        let devices = DeviceTokens::new(&root)?;
        // HMAC takes no longer than a look into the cache.
        let share_of_signatures = if ring.is_stored() { settings.cache_size / 4 } else { 0 };
        Ok(Self {
            root,
            ring: ArcSwap::from_pointee(ring),
            signatures: VerifiedSignatures::new(share_of_signatures),
            refresh,
            devices,
            settings,
        })
    }

    /// Returns the largest memory of the [`VerifiedTokenCache`](super::VerifiedTokenCache)s, in bytes:
    /// all threads together.
    #[must_use]
    pub fn token_cache_size(&self) -> usize {
        self.settings.cache_size - self.signatures.size()
    }

    /// Returns the keys.
    #[must_use]
    pub fn ring(&self) -> Guard<Arc<KeyRing>> {
        self.ring.load()
    }

    /// Replaces the keys by stored ones that are newer, unless a secret signs. Older ones come from
    /// a read that a later one has overtaken.
    pub fn apply(&self, keys: &KeySet) {
        self.replace_if(keys, |ring| ring.stored().version < keys.version);
    }

    /// Replaces the keys by stored ones that were read when `former` were current. Their version
    /// may be lower: the database may have been restored.
    pub fn replace(&self, former: &Arc<KeyRing>, keys: &KeySet) {
        let is_newer = |ring: &Arc<KeyRing>| ring.stored().version < keys.version;
        self.replace_if(keys, |ring| Arc::ptr_eq(ring, former) || is_newer(ring));
    }

    fn replace_if(&self, keys: &KeySet, is_outdated: impl Fn(&Arc<KeyRing>) -> bool) {
        if self.ring().is_stored() {
            let new = Arc::new(KeyRing::es256(keys, &self.root));
            self.ring.rcu(|ring| Arc::clone(if is_outdated(ring) { &new } else { ring }));
        }
    }

    /// Returns `true` if a key may sign a token of a whole life.
    #[must_use]
    pub fn can_issue(&self, now: OffsetDateTime) -> bool {
        self.ring().signing_key(now + self.settings.lifetime).is_some()
    }

    /// Restricts the default audience to the requested names.
    ///
    /// # Errors
    /// Returns [`AudienceError`] if the list is empty or contains another name.
    pub fn parse_audience(&self, names: &[String]) -> Result<Audience, AudienceError> {
        self.settings.audience.restrict(names, &self.settings.issuer)
    }

    /// Issues an access token of a session, for the default audience unless another one is given.
    ///
    /// # Errors
    /// Returns [`IssueError`].
    pub fn issue(
        &self,
        user: &User,
        session_id: SessionId,
        audience: Option<&Audience>,
        expires_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<IssuedToken, IssueError> {
        let issuer = self.settings.issuer.as_str();
        let audience = audience.unwrap_or(&self.settings.audience);
        let claims = Claims::of_user(user, session_id, issuer, audience, now, expires_at)?;
        self.sign(&claims, expires_at, now)
    }

    /// Returns the issuer (`iss`) of the tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// Returns the expiry of a new token of a client.
    #[must_use]
    pub fn expiry_of_client_token(&self, client: &Client, now: OffsetDateTime) -> OffsetDateTime {
        let expiry = now + self.settings.lifetime;
        client.rights.expires_at.map_or(expiry, |client_expiry| client_expiry.min(expiry))
    }

    /// Issues an access token of a client itself, with some of its permissions.
    ///
    /// # Errors
    /// Returns [`IssueError`].
    pub fn issue_to_client(
        &self,
        client: &Client,
        session_id: SessionId,
        scope: &Permissions,
        expires_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<IssuedToken, IssueError> {
        let issuer = self.settings.issuer.as_str();
        let audience = client.rights.audience.as_ref().unwrap_or(&self.settings.audience);
        let claims =
            Claims::of_client(client.id, session_id, scope, issuer, audience, now, expires_at)?;
        self.sign(&claims, expires_at, now)
    }

    fn sign(
        &self,
        claims: &Claims<'_>,
        expires_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<IssuedToken, IssueError> {
        let expires_in = Duration::try_from(expires_at - now).unwrap_or_default();
        let ring = self.ring();
        let key = ring.signing_key(expires_at).ok_or(IssueError::NoKey)?;
        Ok(IssuedToken { access_token: key.sign(claims)?, expires_in })
    }

    /// Verifies a token, except for its revocation and its audience, and returns its claims.
    ///
    /// The key decides the algorithm. Nothing in the token chooses an algorithm, or brings a key
    /// (RFC 8725 section 3.1).
    ///
    /// # Errors
    /// Returns the first [`TokenRefusal`]; the signature is checked before any claim.
    pub fn verify(&self, token: &str, now: OffsetDateTime) -> Result<AccessClaims, TokenRefusal> {
        let (message, signature) = token.rsplit_once('.').ok_or(TokenRefusal::NotEnoughSegments)?;
        let (header, payload) = message.split_once('.').ok_or(TokenRefusal::NotEnoughSegments)?;
        let ring = self.ring();
        let key = match ring.find_by_header(header) {
            Some(key) => key,
            None => find_key(&ring, header)?,
        };
        let check = || Ok(key.is_signed(message, &decode_segment(signature)?));
        if !self.signatures.verify(token, check)? {
            return Err(TokenRefusal::BadSignature);
        }
        self.check_claims(key.id, payload, now)
    }

    /// Checks whether verified claims still hold: their key is known, and it is their time.
    ///
    /// # Errors
    /// Returns [`TokenRefusal::UnknownKey`], [`TokenRefusal::NotYetValid`] or
    /// [`TokenRefusal::Expired`].
    pub(super) fn check_again(
        &self,
        claims: &AccessClaims,
        now: OffsetDateTime,
    ) -> Result<(), TokenRefusal> {
        self.ring().find(claims.key_id).ok_or(TokenRefusal::UnknownKey)?;
        self.check_times(claims, now)
    }

    /// Returns the refresh token of one generation of a session.
    #[must_use]
    pub fn refresh_token(&self, session_id: SessionId, generation: Generation) -> String {
        self.refresh.issue(session_id, generation)
    }

    /// Returns the session and the generation of a refresh token, or `None` if it is not authentic.
    #[must_use]
    pub fn verify_refresh_token(&self, token: &str) -> Option<(SessionId, Generation)> {
        self.refresh.verify(token)
    }

    /// Returns a device token for an account. A device that is known keeps its identity.
    #[must_use]
    pub fn device_token(&self, device: Option<Device>, user: &User, now: OffsetDateTime) -> String {
        let id = device.map_or_else(Uuid::new_v4, |device| device.id);
        self.devices.issue(id, user, now)
    }

    /// Returns the device of a token, or `None` if the token is not valid for the username.
    #[must_use]
    pub fn verify_device_token(
        &self,
        token: &str,
        username: &Username,
        now: OffsetDateTime,
    ) -> Option<Device> {
        self.devices.verify(token, username, now)
    }

    /// Parses the claims of a token whose signature is right, and checks them.
    fn check_claims(
        &self,
        key_id: KeyId,
        payload: &str,
        now: OffsetDateTime,
    ) -> Result<AccessClaims, TokenRefusal> {
        let json = decode_segment(payload)?;
        let claims: Claims<'_> = parse_object(&json)?;
        if claims.iss != self.settings.issuer {
            return Err(TokenRefusal::WrongIssuer);
        }
        let expires_at = claims.exp.min(self.latest_expiry(&claims));
        let claims = claims.into_access_claims(key_id, &self.settings.issuer, expires_at);
        let claims = claims.ok_or(TokenRefusal::Invalid)?;
        self.check_times(&claims, now)?;
        Ok(claims)
    }

    /// Returns the latest expiry that the present settings allow, for a token from before a setting
    /// with a shorter life.
    fn latest_expiry(&self, claims: &Claims<'_>) -> i64 {
        let lifetime = i64::try_from(self.settings.lifetime.as_secs()).unwrap_or(i64::MAX);
        claims.iat.saturating_add(lifetime)
    }

    fn check_times(&self, claims: &AccessClaims, now: OffsetDateTime) -> Result<(), TokenRefusal> {
        let leeway = i64::try_from(self.settings.leeway.as_secs()).unwrap_or(i64::MAX);
        let now = now.unix_timestamp();
        let (earliest, latest) = (now.saturating_sub(leeway), now.saturating_add(leeway));
        if claims.not_before.is_some_and(|not_before| not_before > latest) {
            return Err(TokenRefusal::NotYetValid);
        }
        if claims.expires_at.unix_timestamp() <= earliest {
            return Err(TokenRefusal::Expired);
        }
        Ok(())
    }
}

/// Header of a token. `jwk`, `jku`, `x5u` and the like are ignored.
#[derive(Deserialize)]
struct JoseHeader<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    typ: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    /// Extensions that a recipient must understand or refuse (RFC 7515 section 4.1.11).
    #[serde(rename = "crit", default, deserialize_with = "present")]
    has_crit: bool,
    /// Encoding of the payload (RFC 7797), which other recipients would read differently.
    #[serde(rename = "b64", default, deserialize_with = "present")]
    has_b64: bool,
}

/// Checks a header that this service does not write, and finds the key that it names.
fn find_key<'a>(ring: &'a KeyRing, header: &str) -> Result<&'a RingKey, TokenRefusal> {
    let json = decode_segment(header)?;
    let header: JoseHeader<'_> = parse_object(&json)?;
    let is_allowed = match ring.algorithm() {
        Algorithm::ES256 => header.alg == "ES256",
        _ => header.alg == "HS256",
    };
    if !is_allowed {
        return Err(TokenRefusal::AlgorithmNotAllowed);
    }
    if header.has_crit || header.has_b64 {
        return Err(TokenRefusal::Invalid);
    }
    if !header.typ.is_some_and(|typ| is_access_token_type(&typ)) {
        return Err(TokenRefusal::WrongType);
    }
    let kid = header.kid.and_then(|kid| kid.parse().ok());
    kid.and_then(|kid| ring.find(kid)).ok_or(TokenRefusal::UnknownKey)
}

/// Values of [`algorithm_label`].
pub const ALGORITHM_LABELS: [&str; 3] = ["ES256", "HS256", "other"];

/// Returns the algorithm in the header of a token, for the metrics.
#[must_use]
pub fn algorithm_label(token: &str) -> &'static str {
    let label = read_header(token, |header| {
        ALGORITHM_LABELS.into_iter().find(|label| header.alg == *label)
    });
    label.unwrap_or("other")
}

/// Returns the `kid` in the header of a token, if it can be one of a key.
#[must_use]
pub fn key_id(token: &str) -> Option<KeyId> {
    read_header(token, |header| header.kid?.parse().ok())
}

/// Reads the header of a token that is not verified.
fn read_header<T>(token: &str, read: impl FnOnce(JoseHeader<'_>) -> Option<T>) -> Option<T> {
    let json = decode_segment(token.split('.').next()?).ok()?;
    read(parse_object(&json).ok()?)
}

/// Parses a JSON object. `serde` would also read a struct from an array of its fields, and would
/// not look at the encoding of the fields that it skips.
fn parse_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, TokenRefusal> {
    let text = str::from_utf8(json).map_err(|_| TokenRefusal::Invalid)?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(TokenRefusal::Invalid);
    }
    serde_json::from_str(text).map_err(|_| TokenRefusal::Invalid)
}

/// Returns `true` for a field with any value, `null` included.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

fn decode_segment(segment: &str) -> Result<Vec<u8>, TokenRefusal> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| TokenRefusal::Invalid)
}

#[cfg(test)]
pub(super) mod tests;
