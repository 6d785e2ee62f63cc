//! Tests of honest tokens, and of their keys.

mod attacks;

use serde_json::{Value, json};
use time::macros::datetime;

use super::*;
use crate::domain::{
    KeyChange, KeyEdit, KeyPeriods, KeyState, MAX_LEEWAY, Permission, Permissions, Requester,
    RoleName, Roles, SecretKey, UserId, Username,
};
use crate::tokens::{Subject, VerifiedTokenCache, generate_key};

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
        cache_size: 1 << 20,
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
    let permissions = Permissions::from_iter([Permission::DASHBOARD_READ]);
    let roles = Roles::from_iter([RoleName::USER]);
    User { permissions, ..User::new(Username::parse("Alice").unwrap(), roles, NOW) }
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
    let signature = tokens.ring().signing_key(NOW).unwrap().sign_message(&message).unwrap();
    format!("{message}.{signature}")
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
