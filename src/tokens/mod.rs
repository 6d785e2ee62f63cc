//! Access tokens: JSON Web Tokens (RFC 7519) signed with HMAC-SHA-256, issued and checked here; and the
//! refresh tokens that they are renewed with.

mod claims;
mod key_file;
mod memo;
mod provider;
mod refresh;

use std::borrow::Cow;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Deserialize;
use signature::Verifier;
use thiserror::Error;
use time::OffsetDateTime;

use crate::config::TokenSettings;
use crate::domain::{Generation, SessionId, SigningKey, User};

pub use claims::AccessClaims;
use claims::{Claims, TokenType};
pub use key_file::{KeyFileError, generate_secret, load_or_create};
pub use memo::Memo;
use provider::HmacSha256;
use refresh::RefreshTokens;

/// Issues and checks tokens.
pub struct Tokens {
    signing_key: EncodingKey,
    verifier: HmacSha256,
    refresh: RefreshTokens,
    settings: TokenSettings,
}

/// A token just issued.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token in its compact form.
    pub access_token: String,
    /// How long it lives.
    pub expires_in: Duration,
}

/// Why a token is refused. The texts are those of Flask-JWT-Extended, which clients read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TokenRefusal {
    /// Fewer than three parts.
    #[error("Not enough segments")]
    NotEnoughSegments,
    /// Signed with another key, or altered.
    #[error("Signature verification failed")]
    BadSignature,
    /// Another algorithm than the one we sign with.
    #[error("The specified alg value is not allowed")]
    AlgorithmNotAllowed,
    /// Past `exp`.
    #[error("Token has expired")]
    Expired,
    /// Before `nbf`.
    #[error("The token is not yet valid (nbf)")]
    NotYetValid,
    /// A refresh token where an access token belongs.
    #[error("Only non-refresh tokens are allowed")]
    WrongType,
    /// Logged out.
    #[error("Token has been revoked")]
    Revoked,
    /// Anything else.
    #[error("Invalid token")]
    Invalid,
}

/// A token that could not be issued.
#[derive(Debug, Error)]
#[error("a token could not be signed")]
pub struct IssueError(#[from] jsonwebtoken::errors::Error);

impl Tokens {
    /// Prepares issuing and checking with one key.
    #[must_use]
    pub fn new(key: &SigningKey, settings: TokenSettings) -> Self {
        provider::install();
        Self {
            signing_key: EncodingKey::from_secret(key.expose()),
            // Kept, since `jsonwebtoken` would prepare the key again for each token.
            verifier: HmacSha256::with(key.expose()),
            refresh: RefreshTokens::new(key),
            settings,
        }
    }

    /// Issues an access token for a session of the user, which it does not outlive.
    ///
    /// # Errors
    /// When the claims cannot be written or signed, which no input causes.
    pub fn issue(
        &self,
        user: &User,
        session: SessionId,
        session_expires_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Result<IssuedToken, IssueError> {
        let expires_at = session_expires_at.min(now + self.settings.lifetime);
        let expires_in = Duration::try_from(expires_at - now).unwrap_or_default();
        let claims = Claims::of(user, session, &self.settings.issuer, now, expires_at);
        let header = Header::new(Algorithm::HS256);
        let access_token = jsonwebtoken::encode(&header, &claims, &self.signing_key)?;
        Ok(IssuedToken { access_token, expires_in })
    }

    /// Checks everything about a token but whether it was revoked, and returns its claims.
    ///
    /// The algorithm is pinned: nothing that the token says chooses a key or an algorithm
    /// (RFC 8725 section 3.1).
    ///
    /// # Errors
    /// The first reason to refuse it, the signature before any claim.
    pub fn verify(&self, token: &str, now: OffsetDateTime) -> Result<AccessClaims, TokenRefusal> {
        let (message, signature) = token.rsplit_once('.').ok_or(TokenRefusal::NotEnoughSegments)?;
        let (header, payload) = message.split_once('.').ok_or(TokenRefusal::NotEnoughSegments)?;
        require_our_algorithm(header)?;
        self.require_our_signature(signature, message)?;
        self.read(payload, now)
    }

    /// Computes the refresh token of one generation of a session.
    #[must_use]
    pub fn refresh_token(&self, session: SessionId, generation: Generation) -> String {
        self.refresh.issue(session, generation)
    }

    /// Returns the session and the generation that a refresh token was issued for, or `None` when it
    /// is not one of ours.
    #[must_use]
    pub fn verify_refresh_token(&self, token: &str) -> Option<(SessionId, Generation)> {
        self.refresh.verify(token)
    }

    fn require_our_signature(&self, signature: &str, message: &str) -> Result<(), TokenRefusal> {
        let signature = decode_segment(signature)?;
        let verified = self.verifier.verify(message.as_bytes(), &signature);
        verified.map_err(|_| TokenRefusal::BadSignature)
    }

    /// Reads what a token says that is signed, if it is good now.
    fn read(&self, payload: &str, now: OffsetDateTime) -> Result<AccessClaims, TokenRefusal> {
        let json = decode_segment(payload)?;
        let claims: Claims<'_> =
            serde_json::from_slice(&json).map_err(|_| TokenRefusal::Invalid)?;
        // Judged here, told after the times, as Flask-JWT-Extended does: an expired refresh token has expired.
        let kind = self.check_kind(&claims);
        let expires_at = claims.exp.min(self.longest_life_of(&claims));
        let claims = claims.into_access_claims(expires_at).ok_or(TokenRefusal::Invalid)?;
        self.check_times(&claims, now)?;
        kind.map(|()| claims)
    }

    /// Returns when a token would expire that was issued now. One from before the settings gave it a
    /// shorter life must not outlive the revocation of its session, which goes by the settings.
    fn longest_life_of(&self, claims: &Claims<'_>) -> i64 {
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

    fn check_kind(&self, claims: &Claims<'_>) -> Result<(), TokenRefusal> {
        if claims.iss != self.settings.issuer {
            return Err(TokenRefusal::Invalid);
        }
        match claims.token_type {
            TokenType::Access => Ok(()),
            TokenType::Refresh => Err(TokenRefusal::WrongType),
        }
    }
}

/// The part of a header that matters. `kid`, `jwk`, `x5u` and their like are not even read.
#[derive(Deserialize)]
struct JoseHeader<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
}

/// The header that `jsonwebtoken` writes, `{"typ":"JWT","alg":"HS256"}`.
const OUR_HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9";

fn require_our_algorithm(header: &str) -> Result<(), TokenRefusal> {
    if header == OUR_HEADER {
        return Ok(());
    }
    let json = decode_segment(header)?;
    let header: JoseHeader<'_> =
        serde_json::from_slice(&json).map_err(|_| TokenRefusal::Invalid)?;
    if header.alg == "HS256" { Ok(()) } else { Err(TokenRefusal::AlgorithmNotAllowed) }
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
    use crate::domain::{Permission, Role, Roles, UserId, UserVersion, Username};

    pub(super) const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);
    pub(super) const FAR: OffsetDateTime = datetime!(2027-01-01 00:00:00 UTC);
    const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    pub(super) fn tokens() -> Tokens {
        let settings = TokenSettings {
            issuer: "portcullis".to_owned(),
            lifetime: Duration::from_hours(1),
            session_lifetime: Duration::from_hours(24),
            session_idle_timeout: None,
            leeway: Duration::from_secs(5),
        };
        Tokens::new(&SigningKey::parse(&[7; 32]).unwrap(), settings)
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

    /// Signs whatever it is given with the right key.
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
    fn an_issued_token_verifies_and_says_who_bears_it() {
        let (tokens, user, session) = (tokens(), alice(), SessionId::random());

        let issued = tokens.issue(&user, session, FAR, NOW).unwrap();
        let claims = tokens.verify(&issued.access_token, NOW).unwrap();

        assert!(issued.access_token.starts_with(OUR_HEADER));
        assert_eq!(issued.expires_in, Duration::from_hours(1));
        assert_eq!(claims.user_id, user.id);
        assert_eq!(claims.username, "Alice");
        assert_eq!(claims.session_id, session);
        assert!(claims.permissions.contains(Permission::DashboardRead));
        assert!(!claims.permissions.contains(Permission::UsersRead));
    }

    #[test]
    fn a_token_lives_until_its_expiry_and_the_leeway() {
        let tokens = tokens();
        let token = tokens.issue(&alice(), SessionId::random(), FAR, NOW).unwrap().access_token;
        let expiry = NOW + Duration::from_hours(1);

        let claims = tokens.verify(&token, expiry + Duration::from_secs(4)).unwrap();
        let refused = tokens.verify(&token, expiry + Duration::from_secs(5)).unwrap_err();

        assert_eq!(refused, TokenRefusal::Expired);
        assert_eq!(claims.expires_at, expiry);
        assert_eq!(tokens.settings.last_expiry(NOW), expiry + Duration::from_secs(5));
    }

    #[test]
    fn a_token_does_not_outlive_its_session() {
        let end = NOW + Duration::from_mins(10);

        let issued = tokens().issue(&alice(), SessionId::random(), end, NOW).unwrap();

        assert_eq!(issued.expires_in, Duration::from_mins(10));
        assert_eq!(tokens().verify(&issued.access_token, NOW).unwrap().expires_at, end);
    }

    #[test]
    fn a_token_from_a_clock_slightly_ahead_is_good() {
        let tokens = tokens();
        let token = tokens.issue(&alice(), SessionId::random(), FAR, NOW).unwrap().access_token;

        assert!(tokens.verify(&token, NOW - Duration::from_secs(5)).is_ok());
        let refused = tokens.verify(&token, NOW - Duration::from_secs(6)).unwrap_err();
        assert_eq!(refused, TokenRefusal::NotYetValid);
    }

    #[test]
    fn a_token_from_when_tokens_lived_longer_expires_as_one_issued_now() {
        let mut claims = claims();
        claims["exp"] = json!(253_402_300_799_i64);
        let token = signed(HEADER, &claims.to_string());
        let expiry = NOW + Duration::from_hours(1);

        assert_eq!(tokens().verify(&token, NOW).unwrap().expires_at, expiry);
        let refused = tokens().verify(&token, expiry + Duration::from_secs(5)).unwrap_err();
        assert_eq!(refused, TokenRefusal::Expired);
    }

    #[test]
    fn every_required_claim_is_required() {
        for name in ["exp", "jti", "sid", "sub", "type", "iss"] {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(name);
            assert_eq!(refusal(&claims), TokenRefusal::Invalid, "without {name}");
        }
    }

    #[test]
    fn a_claim_of_the_wrong_kind_is_refused() {
        let wrong = [
            ("sub", json!("alice")),
            ("exp", json!("tomorrow")),
            ("iss", json!("somebody-else")),
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
    fn a_refresh_token_is_no_access_token() {
        let mut claims = claims();
        claims["type"] = json!("refresh");

        assert_eq!(refusal(&claims), TokenRefusal::WrongType);
    }

    #[test]
    fn the_algorithm_is_ours_whatever_the_token_says() {
        let payload = claims().to_string();
        for algorithm in ["none", "None", "HS512", "RS256", "hs256"] {
            let token = signed(&format!(r#"{{"alg":"{algorithm}"}}"#), &payload);
            let refused = tokens().verify(&token, NOW).unwrap_err();
            assert_eq!(refused, TokenRefusal::AlgorithmNotAllowed, "{algorithm}");
        }
    }

    #[test]
    fn a_key_that_the_token_brings_is_not_looked_at() {
        let payload = claims().to_string();
        let header = r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"},"kid":"../../dev/null"}"#;

        assert!(tokens().verify(&signed(header, &payload), NOW).is_ok());
    }

    #[test]
    fn what_is_not_a_token_is_refused_by_its_first_fault() {
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
        fn no_text_is_accepted_or_makes_verifying_panic(text in any::<String>()) {
            prop_assert!(tokens().verify(&text, NOW).is_err());
        }

        #[test]
        fn a_token_with_any_byte_altered_is_refused(position in 0..1000_usize, byte in b'!'..b'~') {
            let (tokens, memo) = (tokens(), Memo::default());
            let good = tokens.issue(&alice(), SessionId::random(), FAR, NOW).unwrap().access_token;
            memo.verify(&tokens, &good, NOW).unwrap();
            let mut altered = good.clone().into_bytes();
            let position = position % altered.len();
            prop_assume!(altered[position] != byte);
            altered[position] = byte;
            let altered = String::from_utf8(altered).unwrap();
            prop_assert!(tokens.verify(&altered, NOW).is_err(), "{}", altered);
            prop_assert!(memo.verify(&tokens, &altered, NOW).is_err(), "{}", altered);
        }
    }
}
