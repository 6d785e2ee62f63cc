//! [`Tokens`]: access tokens, which are JSON Web Tokens (RFC 9068) signed with ES256 or HS256, and
//! refresh tokens.

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

use super::claims::{AccessClaims, Claims};
use super::key_ring::{KeyRing, RingKey, is_access_token_type};
use super::provider;
use super::refresh::RefreshTokens;
use super::root_key::{CryptoError, RootKey};
use crate::config::TokenSettings;
use crate::domain::{Audience, AudienceError, Generation, KeyId, KeySet, SessionId, User};

/// Issues and verifies tokens.
pub struct Tokens {
    root: Arc<RootKey>,
    ring: ArcSwap<KeyRing>,
    refresh: RefreshTokens,
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
        provider::install();
        let refresh = RefreshTokens::new(&root)?;
        Ok(Self { root, ring: ArcSwap::from_pointee(ring), refresh, settings })
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
        let expires_in = Duration::try_from(expires_at - now).unwrap_or_default();
        let issuer = self.settings.issuer.as_str();
        let audience = audience.unwrap_or(&self.settings.audience);
        let claims = Claims::of_user(user, session_id, issuer, audience, now, expires_at);
        let ring = self.ring();
        let key = ring.signing_key(expires_at).ok_or(IssueError::NoKey)?;
        Ok(IssuedToken { access_token: key.sign(&claims)?, expires_in })
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
        if !key.is_signed(message, &decode_segment(signature)?) {
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
pub(super) mod tests {
    use proptest::prelude::*;
    use ring::hmac;
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::super::{Subject, VerifiedTokenCache, generate_key};
    use super::*;
    use crate::domain::{
        KeyChange, KeyEdit, KeyPeriods, KeyState, MAX_LEEWAY, Permission, Permissions, Requester,
        RoleName, Roles, SecretKey, UserId, UserVersion, Username,
    };

    pub(in crate::tokens) const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);
    /// One lifetime after [`NOW`].
    pub(in crate::tokens) const EXPIRY: OffsetDateTime = datetime!(2026-01-02 04:04:05 UTC);

    /// Returns the first keys of a database.
    pub(in crate::tokens) fn first_keys(root: &RootKey) -> KeySet {
        let periods = KeyPeriods {
            publication: Duration::from_mins(10),
            token_lifetime: Duration::from_hours(1),
        };
        let edit = KeyEdit::Provide([(); 2].map(|()| generate_key(root).unwrap()));
        let change = KeyChange { edit, periods, at: NOW, requester: Requester::SERVICE };
        change.decide(KeySet::default(), NOW).unwrap().unwrap().set
    }

    pub(crate) fn settings() -> TokenSettings {
        TokenSettings {
            issuer: "portcullis".to_owned(),
            audience: Audience::new(vec!["orders".to_owned()]),
            lifetime: Duration::from_hours(1),
            session_lifetime: Duration::from_hours(24),
            session_idle_timeout: None,
            sessions_per_user: 1_000,
            leeway: Duration::from_secs(5),
        }
    }

    /// Returns tokens with new keys for ES256.
    pub(in crate::tokens) fn tokens() -> Tokens {
        let root = RootKey::generate().unwrap();
        let keys = first_keys(&root);
        tokens_with(root, &keys)
    }

    fn tokens_with(root: RootKey, keys: &KeySet) -> Tokens {
        let ring = KeyRing::es256(keys, &root);
        Tokens::new(Arc::new(root), ring, settings()).unwrap()
    }

    /// Returns tokens for HS256.
    fn hs256_tokens(secret: u8, previous: Option<u8>) -> Tokens {
        let key = |byte| SecretKey::parse(&[byte; 32]).unwrap();
        let ring = KeyRing::hs256(&key(secret), previous.map(key).as_ref());
        Tokens::new(Arc::new(RootKey::generate().unwrap()), ring.unwrap(), settings()).unwrap()
    }

    pub(in crate::tokens) fn alice() -> User {
        User {
            id: UserId::random(),
            username: Username::parse("Alice").unwrap(),
            roles: Roles::from_iter([RoleName::USER]),
            permissions: Permissions::from_iter([Permission::DASHBOARD_READ]),
            created_at: NOW,
            disabled_at: None,
            version: UserVersion::FIRST,
        }
    }

    fn claims() -> Value {
        let id = UserId::random().to_string();
        let now = NOW.unix_timestamp();
        json!({
            "iss": "portcullis", "aud": ["portcullis"], "sub": id, "client_id": "portcullis",
            "username": "alice", "roles": ["user"], "scope": "dashboard:read", "sid": id, "jti": id,
            "iat": now, "nbf": now, "exp": now + 60,
        })
    }

    /// Returns the header that names the active key.
    fn header(tokens: &Tokens) -> Value {
        let kid = active_key(tokens);
        json!({ "typ": "at+jwt", "alg": "ES256", "kid": kid })
    }

    fn active_key(tokens: &Tokens) -> KeyId {
        tokens.ring().stored().find(KeyState::Active).unwrap().id
    }

    /// Signs a header and a payload with the active key.
    fn sign(tokens: &Tokens, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let [header, payload] = [header.as_ref(), payload.as_ref()];
        let message = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = tokens.ring().signing_key(NOW).unwrap().sign_message(&message);
        format!("{message}.{signature}")
    }

    /// Returns the reason to refuse claims that are signed rightly.
    fn refusal(claims: &Value) -> TokenRefusal {
        let tokens = tokens();
        let token = sign(&tokens, header(&tokens).to_string(), claims.to_string());
        tokens.verify(&token, NOW).unwrap_err()
    }

    #[test]
    fn issued_token_verifies() {
        let tokens = tokens();
        let user = alice();
        let session = SessionId::random();

        let issued = tokens.issue(&user, session, None, EXPIRY, NOW).unwrap();
        let claims = tokens.verify(&issued.access_token, NOW).unwrap();

        let header = issued.access_token.split('.').next().unwrap();
        assert!(tokens.ring().find_by_header(header).is_some(), "the header is the usual one");
        assert_eq!(issued.expires_in, Duration::from_hours(1));
        let subject = Subject::User { id: user.id, username: "Alice".to_owned() };
        assert_eq!(claims.subject, subject);
        assert_eq!(claims.roles, user.roles);
        assert!(claims.is_for_service);
        assert_eq!(claims.session_id, session);
        assert!(claims.permissions.contains(&Permission::DASHBOARD_READ));
        assert!(!claims.permissions.contains(&Permission::USERS_READ));
    }

    #[test]
    fn token_expires_after_the_leeway() {
        let tokens = tokens();
        let token =
            tokens.issue(&alice(), SessionId::random(), None, EXPIRY, NOW).unwrap().access_token;
        let expiry = EXPIRY;

        let claims = tokens.verify(&token, expiry + Duration::from_secs(4)).unwrap();
        let refused = tokens.verify(&token, expiry + Duration::from_secs(5)).unwrap_err();

        assert_eq!(refused, TokenRefusal::Expired);
        assert_eq!(claims.expires_at, expiry);
        assert_eq!(tokens.settings.last_expiry(NOW), expiry + MAX_LEEWAY);
    }

    #[test]
    fn token_of_a_clock_slightly_ahead_is_valid() {
        let tokens = tokens();
        let token =
            tokens.issue(&alice(), SessionId::random(), None, EXPIRY, NOW).unwrap().access_token;

        assert!(tokens.verify(&token, NOW - Duration::from_secs(5)).is_ok());
        let refused = tokens.verify(&token, NOW - Duration::from_secs(6)).unwrap_err();
        assert_eq!(refused, TokenRefusal::NotYetValid);
    }

    #[test]
    fn shorter_lifetime_applies_to_older_tokens() {
        let mut claims = claims();
        claims["exp"] = json!(253_402_300_799_i64);
        let tokens = tokens();
        let token = sign(&tokens, header(&tokens).to_string(), claims.to_string());
        let expiry = NOW + Duration::from_hours(1);

        assert_eq!(tokens.verify(&token, NOW).unwrap().expires_at, expiry);
        let refused = tokens.verify(&token, expiry + Duration::from_secs(5)).unwrap_err();
        assert_eq!(refused, TokenRefusal::Expired);
    }

    #[test]
    fn missing_claim_is_refused() {
        for name in ["exp", "jti", "sid", "sub", "aud", "scope", "iss"] {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            assert_eq!(refusal(&claims), TokenRefusal::Invalid, "without {name}");
        }
    }

    #[test]
    fn claim_of_wrong_type_is_refused() {
        let wrong = [
            ("sub", json!("alice")),
            ("exp", json!("tomorrow")),
            ("aud", json!(7)),
            ("scope", json!(["dashboard:read"])),
        ];
        for (name, value) in wrong {
            let mut claims = claims();
            claims[name] = value;
            assert_eq!(refusal(&claims), TokenRefusal::Invalid, "{claims}");
        }
    }

    #[test]
    fn token_of_another_issuer_is_refused() {
        let mut claims = claims();
        claims["iss"] = json!("https://another.example");

        assert_eq!(refusal(&claims), TokenRefusal::WrongIssuer);
    }

    #[test]
    fn audience_tells_whether_the_token_is_for_the_service() {
        let tokens = tokens();
        let cases = [
            (json!(["orders", "portcullis"]), true),
            (json!("portcullis"), true),
            (json!(["orders"]), false),
            (json!([]), false),
        ];
        for (audience, expected) in cases {
            let mut claims = claims();
            claims["aud"] = audience;
            let token = sign(&tokens, header(&tokens).to_string(), claims.to_string());
            assert_eq!(tokens.verify(&token, NOW).unwrap().is_for_service, expected, "{claims}");
        }
    }

    #[test]
    fn token_of_another_type_is_refused() {
        let tokens = tokens();
        for typ in [json!("JWT"), json!("rt+jwt"), json!("xapplication/at+jwt"), Value::Null] {
            let mut header = header(&tokens);
            header["typ"] = typ;
            let token = sign(&tokens, header.to_string(), claims().to_string());
            assert_eq!(
                tokens.verify(&token, NOW).unwrap_err(),
                TokenRefusal::WrongType,
                "{header}"
            );
        }
        let mut header = header(&tokens);
        header["typ"] = json!("Application/AT+JWT");
        assert!(
            tokens.verify(&sign(&tokens, header.to_string(), claims().to_string()), NOW).is_ok()
        );
    }

    #[test]
    fn token_cannot_choose_the_algorithm() {
        let tokens = tokens();
        for algorithm in ["none", "None", "HS256", "HS512", "RS256", "ES384", "es256"] {
            let mut header = header(&tokens);
            header["alg"] = json!(algorithm);
            let token = sign(&tokens, header.to_string(), claims().to_string());
            let refused = tokens.verify(&token, NOW).unwrap_err();
            assert_eq!(refused, TokenRefusal::AlgorithmNotAllowed, "{algorithm}");
        }
    }

    /// A verifier that lets the token choose takes the public key for the secret of an HMAC.
    #[test]
    fn public_key_is_no_secret() {
        let root = RootKey::generate().unwrap();
        let keys = first_keys(&root);
        let tokens = tokens_with(root, &keys);
        let public_key = &keys.keys[0].public_key;
        let encodings = [
            public_key.clone(),
            public_key[1..].to_vec(),
            URL_SAFE_NO_PAD.encode(public_key).into_bytes(),
            tokens.ring().jwks().body.clone().into_bytes(),
            keys.keys[0].id.to_string().into_bytes(),
        ];
        for secret in encodings {
            for (algorithm, expected) in [
                ("HS256", TokenRefusal::AlgorithmNotAllowed),
                ("ES256", TokenRefusal::BadSignature),
            ] {
                let mut header = header(&tokens);
                header["alg"] = json!(algorithm);
                let parts = [header.to_string(), claims().to_string()];
                let message = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
                let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
                let tag = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
                let refused = tokens.verify(&format!("{message}.{tag}"), NOW).unwrap_err();
                assert_eq!(refused, expected, "{algorithm}");
            }
        }
    }

    #[test]
    fn embedded_key_is_ignored() {
        let [tokens, other] = [(); 2].map(|()| self::tokens());
        let mut header = header(&other);
        header["jwk"] =
            serde_json::from_str::<Value>(&other.ring().jwks().body).unwrap()["keys"][0].clone();
        header["jku"] = json!("https://another.example/jwks.json");
        header["x5u"] = json!("https://another.example/cert.pem");
        let unknown = sign(&other, header.to_string(), claims().to_string());
        header["kid"] = json!(active_key(&tokens));
        let forged = sign(&other, header.to_string(), claims().to_string());

        assert_eq!(tokens.verify(&unknown, NOW).unwrap_err(), TokenRefusal::UnknownKey);
        assert_eq!(tokens.verify(&forged, NOW).unwrap_err(), TokenRefusal::BadSignature);
    }

    #[test]
    fn header_without_a_known_key_is_refused() {
        let tokens = tokens();
        for kid in [Value::Null, json!("../../dev/null"), json!("")] {
            let mut header = header(&tokens);
            header["kid"] = kid;
            let token = sign(&tokens, header.to_string(), claims().to_string());
            assert_eq!(tokens.verify(&token, NOW).unwrap_err(), TokenRefusal::UnknownKey);
        }
    }

    #[test]
    fn secret_of_hs256_verifies_its_own_tokens_alone() {
        let tokens = hs256_tokens(7, Some(6));
        let token = |tokens: &Tokens| {
            tokens.issue(&alice(), SessionId::random(), None, EXPIRY, NOW).unwrap().access_token
        };
        assert!(tokens.verify(&token(&tokens), NOW).is_ok());
        assert!(tokens.verify(&token(&hs256_tokens(6, None)), NOW).is_ok());
        let other = tokens.verify(&token(&hs256_tokens(8, None)), NOW).unwrap_err();
        assert_eq!(other, TokenRefusal::UnknownKey);
        let es256 = tokens.verify(&token(&self::tokens()), NOW).unwrap_err();
        assert_eq!(es256, TokenRefusal::AlgorithmNotAllowed);
    }

    #[test]
    fn removed_key_verifies_nothing() {
        let root = RootKey::generate().unwrap();
        let mut keys = first_keys(&root);
        let tokens = tokens_with(root, &keys);
        let cache = VerifiedTokenCache::new(1 << 20);
        let token =
            tokens.issue(&alice(), SessionId::random(), None, EXPIRY, NOW).unwrap().access_token;
        cache.verify(&tokens, &token, NOW).unwrap();

        keys.keys.remove(0);
        keys.version += 1;
        tokens.apply(&keys);

        assert_eq!(tokens.verify(&token, NOW).unwrap_err(), TokenRefusal::UnknownKey);
        assert_eq!(cache.verify(&tokens, &token, NOW).unwrap_err(), TokenRefusal::UnknownKey);
    }

    #[test]
    fn read_that_was_overtaken_replaces_no_keys() {
        let root = RootKey::generate().unwrap();
        let former = first_keys(&root);
        let tokens = tokens_with(root, &former);
        let before = Arc::clone(&tokens.ring());
        let mut newer = former.clone();
        newer.keys.remove(0);
        newer.version += 1;
        tokens.apply(&newer);

        tokens.apply(&former);
        tokens.replace(&before, &former);

        assert_eq!(*tokens.ring().stored(), newer);
    }

    #[test]
    fn keys_of_a_restored_database_replace_the_newer_ones() {
        let root = RootKey::generate().unwrap();
        let restored = first_keys(&root);
        let newer = KeySet { version: restored.version + 1, ..restored.clone() };
        let tokens = tokens_with(root, &newer);
        let before = Arc::clone(&tokens.ring());

        tokens.replace(&before, &restored);

        assert_eq!(*tokens.ring().stored(), restored);
    }

    #[test]
    fn key_signs_no_longer_than_the_database_knows() {
        let root = RootKey::generate().unwrap();
        let mut keys = first_keys(&root);
        keys.keys[0].signs_until = EXPIRY - Duration::from_secs(1);
        let tokens = tokens_with(root, &keys);
        let issue = || tokens.issue(&alice(), SessionId::random(), None, EXPIRY, NOW);

        assert!(matches!(issue(), Err(IssueError::NoKey)));
        keys.keys[0].signs_until = EXPIRY;
        keys.version += 1;
        tokens.apply(&keys);
        assert!(issue().is_ok());
    }

    #[test]
    fn former_key_signs_until_the_active_one_may() {
        let root = RootKey::generate().unwrap();
        let mut keys = first_keys(&root);
        keys.keys[0].state = KeyState::Retiring;
        keys.keys[1].state = KeyState::Active;
        keys.keys[1].signs_until = NOW;
        let tokens = tokens_with(root, &keys);
        let key_of_new_token = || {
            let token = tokens.issue(&alice(), SessionId::random(), None, EXPIRY, NOW).unwrap();
            tokens.verify(&token.access_token, NOW).unwrap().key_id
        };

        assert_eq!(key_of_new_token(), keys.keys[0].id);
        keys.keys[1].signs_until = EXPIRY;
        keys.version += 1;
        tokens.apply(&keys);
        assert_eq!(key_of_new_token(), keys.keys[1].id);
    }

    #[test]
    fn header_that_must_be_understood_is_refused() {
        let tokens = tokens();
        for (name, value) in [
            ("crit", json!(["exp"])),
            ("crit", json!([])),
            ("crit", Value::Null),
            ("b64", json!(false)),
            ("b64", json!(true)),
        ] {
            let mut header = header(&tokens);
            header[name] = value;
            let token = sign(&tokens, header.to_string(), claims().to_string());
            assert_eq!(tokens.verify(&token, NOW).unwrap_err(), TokenRefusal::Invalid, "{header}");
        }
    }

    #[test]
    fn header_and_claims_must_be_json_objects() {
        let tokens = tokens();
        let header = header(&tokens).to_string();
        let claims = claims();
        let kid = active_key(&tokens);
        let fields = ["iss", "aud", "sub", "username", "scope", "sid", "jti", "iat", "nbf", "exp"];
        let list: Vec<_> = fields.iter().map(|name| claims[name].clone()).collect();
        let claims = claims.to_string();
        let cases = [
            (json!(["ES256", "at+jwt", kid]).to_string(), claims.clone()),
            (json!(["ES256", "at+jwt", kid, true, true]).to_string(), claims.clone()),
            (json!("ES256").to_string(), claims.clone()),
            (header.clone(), Value::from(list).to_string()),
            (header.clone(), format!(" {claims} []")),
            (header.replacen('{', r#"{"alg":"ES256","#, 1), claims.clone()),
            (header.clone(), claims.replacen('{', r#"{"exp":9999999999,"#, 1)),
            (header.clone(), claims.replacen('{', "\u{feff}{", 1)),
        ];
        for (header, payload) in cases {
            let refused = tokens.verify(&sign(&tokens, &header, &payload), NOW).unwrap_err();
            assert_eq!(refused, TokenRefusal::Invalid, "{header} {payload}");
        }
        let spaced = sign(&tokens, format!("\n{header}"), format!(" {claims}"));
        assert!(tokens.verify(&spaced, NOW).is_ok());
    }

    #[test]
    fn text_that_is_not_utf_8_is_refused_even_in_skipped_fields() {
        let tokens = tokens();
        let mut text = header(&tokens).to_string().into_bytes();
        text.splice(1..1, b"\"x\":\"\xff\",".iter().copied());

        let refused = tokens.verify(&sign(&tokens, text, claims().to_string()), NOW).unwrap_err();

        assert_eq!(refused, TokenRefusal::Invalid);
    }

    #[test]
    fn malformed_token_is_refused_by_its_first_fault() {
        let tokens = tokens();
        let header = header(&tokens).to_string();
        let good = sign(&tokens, &header, claims().to_string());
        let cases = [
            (String::new(), TokenRefusal::NotEnoughSegments),
            ("a.b".to_owned(), TokenRefusal::NotEnoughSegments),
            ("a.b.c".to_owned(), TokenRefusal::Invalid),
            (format!("{good}.eHg"), TokenRefusal::BadSignature),
            (format!("{good}="), TokenRefusal::Invalid),
            (sign(&tokens, "[]", "{}"), TokenRefusal::Invalid),
            (sign(&tokens, &header, "not json"), TokenRefusal::Invalid),
        ];
        for (token, expected) in cases {
            assert_eq!(tokens.verify(&token, NOW).unwrap_err(), expected, "{token}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_refused(text in any::<String>()) {
            prop_assert!(tokens().verify(&text, NOW).is_err());
        }

        #[test]
        fn altered_token_is_refused(position in 0..1000_usize, byte in b'!'..b'~') {
            let tokens = tokens();
            let cache = VerifiedTokenCache::new(1 << 20);
            let good = tokens.issue(&alice(), SessionId::random(), None, EXPIRY, NOW).unwrap().access_token;
            cache.verify(&tokens, &good, NOW).unwrap();
            let mut altered = good.clone().into_bytes();
            let position = position % altered.len();
            prop_assume!(altered[position] != byte);
            altered[position] = byte;
            let altered = String::from_utf8(altered).unwrap();
            prop_assert!(tokens.verify(&altered, NOW).is_err(), "{}", altered);
            prop_assert!(cache.verify(&tokens, &altered, NOW).is_err(), "{}", altered);
        }
    }
}
