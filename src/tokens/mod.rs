//! Access tokens: JSON Web Tokens (RFC 7519) signed with HMAC-SHA-256. Refresh tokens.

mod cache;
mod claims;
mod key_file;
mod provider;
mod refresh;
#[cfg(test)]
mod vectors;

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use signature::Verifier;
use thiserror::Error;
use time::OffsetDateTime;

use crate::config::TokenSettings;
use crate::domain::{Generation, SessionId, SigningKey, User};

pub use cache::VerifiedTokenCache;
pub use claims::AccessClaims;
use claims::{Claims, TokenType};
pub use key_file::{KeyFileError, generate_secret, load_or_create};
use provider::HmacSha256;
use refresh::RefreshTokens;

/// Issues and verifies tokens.
pub struct Tokens {
    signing_key: EncodingKey,
    verifier: HmacSha256,
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
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TokenRefusal {
    /// Fewer than three parts.
    #[error("Not enough segments")]
    NotEnoughSegments,
    /// The signature does not match.
    #[error("Signature verification failed")]
    BadSignature,
    /// Any algorithm but HS256.
    #[error("The specified alg value is not allowed")]
    AlgorithmNotAllowed,
    /// At or after `exp`.
    #[error("Token has expired")]
    Expired,
    /// Before `nbf`.
    #[error("The token is not yet valid (nbf)")]
    NotYetValid,
    /// A refresh token in place of an access token.
    #[error("Only non-refresh tokens are allowed")]
    WrongType,
    /// The token or its session was revoked.
    #[error("Token has been revoked")]
    Revoked,
    /// Malformed, or with wrong claims.
    #[error("Invalid token")]
    Invalid,
}

/// Failure to sign a token.
#[derive(Debug, Error)]
#[error("failed to sign a token")]
pub struct IssueError(#[from] jsonwebtoken::errors::Error);

/// Failure to derive a key.
#[derive(Debug, Error)]
#[error("failed to derive the key of the refresh tokens")]
pub struct KeyDerivationError;

impl Tokens {
    /// Creates an issuer and verifier with one key.
    ///
    /// # Errors
    /// Returns [`KeyDerivationError`], which no key of valid length causes.
    pub fn new(key: &SigningKey, settings: TokenSettings) -> Result<Self, KeyDerivationError> {
        provider::install();
        Ok(Self {
            signing_key: EncodingKey::from_secret(key.expose()),
            // Prepared once: `jsonwebtoken` would prepare the key for each token.
            verifier: HmacSha256::from_key(key.expose()),
            refresh: RefreshTokens::new(key).map_err(|_| KeyDerivationError)?,
            settings,
        })
    }

    /// Issues an access token of a session.
    ///
    /// # Errors
    /// Returns [`IssueError`], which no input causes.
    pub fn issue(
        &self,
        user: &User,
        session_id: SessionId,
        expires_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<IssuedToken, IssueError> {
        let expires_in = Duration::try_from(expires_at - now).unwrap_or_default();
        let claims = Claims::new(user, session_id, &self.settings.issuer, now, expires_at);
        let header = Header::new(Algorithm::HS256);
        let access_token = jsonwebtoken::encode(&header, &claims, &self.signing_key)?;
        Ok(IssuedToken { access_token, expires_in })
    }

    /// Verifies a token, except for its revocation, and returns its claims.
    ///
    /// The algorithm is fixed: nothing in the token chooses a key or an algorithm (RFC 8725 section
    /// 3.1).
    ///
    /// # Errors
    /// Returns the first [`TokenRefusal`]; the signature is checked before any claim.
    pub fn verify(&self, token: &str, now: OffsetDateTime) -> Result<AccessClaims, TokenRefusal> {
        let (message, signature) = token.rsplit_once('.').ok_or(TokenRefusal::NotEnoughSegments)?;
        let (header, payload) = message.split_once('.').ok_or(TokenRefusal::NotEnoughSegments)?;
        check_algorithm(header)?;
        self.check_signature(signature, message)?;
        self.check_claims(payload, now)
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

    fn check_signature(&self, signature: &str, message: &str) -> Result<(), TokenRefusal> {
        let signature = decode_segment(signature)?;
        let verified = self.verifier.verify(message.as_bytes(), &signature);
        verified.map_err(|_| TokenRefusal::BadSignature)
    }

    /// Parses the claims of a token whose signature is right, and checks them.
    fn check_claims(
        &self,
        payload: &str,
        now: OffsetDateTime,
    ) -> Result<AccessClaims, TokenRefusal> {
        let json = decode_segment(payload)?;
        let claims: Claims<'_> = parse_object(&json)?;
        // Reported after the times, like Flask-JWT-Extended: an expired refresh token is expired
        // first.
        let issuer_and_type = self.check_issuer_and_type(&claims);
        let expires_at = claims.exp.min(self.latest_expiry(&claims));
        let claims = claims.into_access_claims(expires_at).ok_or(TokenRefusal::Invalid)?;
        self.check_times(&claims, now)?;
        issuer_and_type.map(|()| claims)
    }

    /// Returns the latest expiry that the present settings allow. A token from before a setting
    /// with a shorter life must not outlive the revocation of its session, which goes by the
    /// present setting.
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

    fn check_issuer_and_type(&self, claims: &Claims<'_>) -> Result<(), TokenRefusal> {
        if claims.iss != self.settings.issuer {
            return Err(TokenRefusal::Invalid);
        }
        match claims.token_type {
            TokenType::Access => Ok(()),
            TokenType::Refresh => Err(TokenRefusal::WrongType),
        }
    }
}

/// Header of a token. `kid`, `jwk`, `x5u` and the like are ignored.
#[derive(Deserialize)]
struct JoseHeader<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    /// Extensions that a recipient must understand or refuse (RFC 7515 section 4.1.11).
    #[serde(rename = "crit", default, deserialize_with = "present")]
    has_crit: bool,
    /// Encoding of the payload (RFC 7797), which other recipients would read differently.
    #[serde(rename = "b64", default, deserialize_with = "present")]
    has_b64: bool,
}

/// Header that `jsonwebtoken` writes: `{"typ":"JWT","alg":"HS256"}`.
const USUAL_HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9";

fn check_algorithm(header: &str) -> Result<(), TokenRefusal> {
    if header == USUAL_HEADER {
        return Ok(());
    }
    let json = decode_segment(header)?;
    let header: JoseHeader<'_> = parse_object(&json)?;
    if header.alg != "HS256" {
        return Err(TokenRefusal::AlgorithmNotAllowed);
    }
    if header.has_crit || header.has_b64 { Err(TokenRefusal::Invalid) } else { Ok(()) }
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
mod tests {
    use jsonwebtoken::crypto;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;
    use crate::domain::{MAX_LEEWAY, Permission, Role, Roles, UserId, UserVersion, Username};

    pub(super) const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);
    /// One lifetime after [`NOW`].
    pub(super) const EXPIRY: OffsetDateTime = datetime!(2026-01-02 04:04:05 UTC);
    const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    pub(super) fn tokens() -> Tokens {
        let settings = TokenSettings {
            issuer: "portcullis".to_owned(),
            lifetime: Duration::from_hours(1),
            session_lifetime: Duration::from_hours(24),
            session_idle_timeout: None,
            sessions_per_user: 1_000,
            leeway: Duration::from_secs(5),
        };
        Tokens::new(&SigningKey::parse(&[7; 32]).unwrap(), settings).unwrap()
    }

    pub(super) fn alice() -> User {
        User {
            id: UserId::random(),
            username: Username::parse("Alice").unwrap(),
            roles: Roles::from_iter([Role::User]),
            created_at: NOW,
            disabled_at: None,
            version: UserVersion::FIRST,
        }
    }

    fn claims() -> Value {
        let id = UserId::random().to_string();
        let now = NOW.unix_timestamp();
        json!({
            "iss": "portcullis", "sub": id, "username": "alice", "roles": ["user"],
            "permissions": ["dashboard:read"], "sid": id, "jti": id,
            "iat": now, "nbf": now, "exp": now + 60, "type": "access",
        })
    }

    /// Signs a header and a payload with the right key.
    fn signed(header: &str, payload: &str) -> String {
        let message = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let key = EncodingKey::from_secret(&[7; 32]);
        let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }

    fn refusal(claims: &Value) -> TokenRefusal {
        let tokens = tokens();
        tokens.verify(&signed(HEADER, &claims.to_string()), NOW).unwrap_err()
    }

    #[test]
    fn issued_token_verifies() {
        let tokens = tokens();
        let user = alice();
        let session = SessionId::random();

        let issued = tokens.issue(&user, session, EXPIRY, NOW).unwrap();
        let claims = tokens.verify(&issued.access_token, NOW).unwrap();

        assert!(issued.access_token.starts_with(USUAL_HEADER));
        assert_eq!(issued.expires_in, Duration::from_hours(1));
        assert_eq!(claims.user_id, user.id);
        assert_eq!(claims.username, "Alice");
        assert_eq!(claims.session_id, session);
        assert!(claims.permissions.contains(Permission::DashboardRead));
        assert!(!claims.permissions.contains(Permission::UsersRead));
    }

    #[test]
    fn token_expires_after_the_leeway() {
        let tokens = tokens();
        let token = tokens.issue(&alice(), SessionId::random(), EXPIRY, NOW).unwrap().access_token;
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
        let token = tokens.issue(&alice(), SessionId::random(), EXPIRY, NOW).unwrap().access_token;

        assert!(tokens.verify(&token, NOW - Duration::from_secs(5)).is_ok());
        let refused = tokens.verify(&token, NOW - Duration::from_secs(6)).unwrap_err();
        assert_eq!(refused, TokenRefusal::NotYetValid);
    }

    #[test]
    fn shorter_lifetime_applies_to_older_tokens() {
        let mut claims = claims();
        claims["exp"] = json!(253_402_300_799_i64);
        let token = signed(HEADER, &claims.to_string());
        let expiry = NOW + Duration::from_hours(1);

        assert_eq!(tokens().verify(&token, NOW).unwrap().expires_at, expiry);
        let refused = tokens().verify(&token, expiry + Duration::from_secs(5)).unwrap_err();
        assert_eq!(refused, TokenRefusal::Expired);
    }

    #[test]
    fn missing_claim_is_refused() {
        for name in ["exp", "jti", "sid", "sub", "type", "iss"] {
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
            ("iss", json!("another-issuer")),
            ("type", json!("identity")),
            ("permissions", json!("everything")),
        ];
        for (name, value) in wrong {
            let mut claims = claims();
            claims[name] = value;
            assert_eq!(refusal(&claims), TokenRefusal::Invalid, "{claims}");
        }
    }

    #[test]
    fn refresh_token_is_not_an_access_token() {
        let mut claims = claims();
        claims["type"] = json!("refresh");

        assert_eq!(refusal(&claims), TokenRefusal::WrongType);
    }

    #[test]
    fn token_cannot_choose_the_algorithm() {
        let payload = claims().to_string();
        for algorithm in ["none", "None", "HS512", "RS256", "hs256"] {
            let token = signed(&format!(r#"{{"alg":"{algorithm}"}}"#), &payload);
            let refused = tokens().verify(&token, NOW).unwrap_err();
            assert_eq!(refused, TokenRefusal::AlgorithmNotAllowed, "{algorithm}");
        }
    }

    #[test]
    fn embedded_key_is_ignored() {
        let payload = claims().to_string();
        let header = r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"},"kid":"../../dev/null"}"#;

        assert!(tokens().verify(&signed(header, &payload), NOW).is_ok());
    }

    #[test]
    fn header_that_must_be_understood_is_refused() {
        let payload = claims().to_string();
        for extension in [
            r#""crit":["exp"]"#,
            r#""crit":[]"#,
            r#""crit":null"#,
            r#""crit":["b64"],"b64":true"#,
            r#""b64":false"#,
            r#""b64":true"#,
        ] {
            let header = format!(r#"{{"alg":"HS256",{extension}}}"#);
            let refused = tokens().verify(&signed(&header, &payload), NOW).unwrap_err();
            assert_eq!(refused, TokenRefusal::Invalid, "{header}");
        }
    }

    #[test]
    fn header_and_claims_must_be_json_objects() {
        let claims = claims();
        let fields = ["iss", "sub", "username", "permissions", "sid", "jti", "iat", "nbf", "exp"];
        let mut list: Vec<_> = fields.iter().map(|name| claims[name].clone()).collect();
        list.push(claims["type"].clone());
        let cases = [
            (r#"["HS256"]"#.to_owned(), claims.to_string()),
            (r#"["HS256",true,true]"#.to_owned(), claims.to_string()),
            (r#""HS256""#.to_owned(), claims.to_string()),
            (HEADER.to_owned(), Value::from(list).to_string()),
            (HEADER.to_owned(), format!(" {claims} []")),
            (r#"{"alg":"HS256","alg":"HS256"}"#.to_owned(), claims.to_string()),
            (HEADER.to_owned(), claims.to_string().replacen('{', r#"{"exp":9999999999,"#, 1)),
            (HEADER.to_owned(), claims.to_string().replacen('{', "\u{feff}{", 1)),
        ];
        for (header, payload) in cases {
            let refused = tokens().verify(&signed(&header, &payload), NOW).unwrap_err();
            assert_eq!(refused, TokenRefusal::Invalid, "{header} {payload}");
        }
        assert!(
            tokens().verify(&signed(&format!("\n{HEADER}"), &format!(" {claims}")), NOW).is_ok()
        );
    }

    #[test]
    fn text_that_is_not_utf_8_is_refused_even_in_skipped_fields() {
        let good = signed(HEADER, &claims().to_string());
        let (message, _) = good.rsplit_once('.').unwrap();
        let (_, payload) = message.split_once('.').unwrap();
        let header = URL_SAFE_NO_PAD.encode(b"{\"alg\":\"HS256\",\"kid\":\"\xff\"}");
        let message = format!("{header}.{payload}");
        let key = EncodingKey::from_secret(&[7; 32]);
        let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();

        let refused = tokens().verify(&format!("{message}.{signature}"), NOW).unwrap_err();

        assert_eq!(refused, TokenRefusal::Invalid);
    }

    #[test]
    fn malformed_token_is_refused_by_its_first_fault() {
        let good = signed(HEADER, &claims().to_string());
        let cases = [
            (String::new(), TokenRefusal::NotEnoughSegments),
            ("a.b".to_owned(), TokenRefusal::NotEnoughSegments),
            ("a.b.c".to_owned(), TokenRefusal::Invalid),
            (format!("{good}.eHg"), TokenRefusal::BadSignature),
            (format!("{good}="), TokenRefusal::Invalid),
            (signed("[]", "{}"), TokenRefusal::Invalid),
            (signed(HEADER, "not json"), TokenRefusal::Invalid),
        ];
        for (token, expected) in cases {
            assert_eq!(tokens().verify(&token, NOW).unwrap_err(), expected, "{token}");
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
            let cache = VerifiedTokenCache::new(1024 * 1024);
            let good = tokens.issue(&alice(), SessionId::random(), EXPIRY, NOW).unwrap().access_token;
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
