//! Tests of tokens that are forged, malformed or meant for something else.

use proptest::prelude::*;
use ring::hmac;
use serde_json::{Value, json};

use super::super::*;
use super::{
    EXPIRY, NOW, active_key, alice, claims, first_keys, header, sign, tokens, tokens_with,
};
use crate::tokens::{RootKey, VerifiedTokenCache};

/// Returns the reason to refuse claims that are signed rightly.
fn refusal(claims: &Value) -> TokenRefusal {
    let tokens = tokens();
    let token = sign(&tokens, header(&tokens).to_string(), claims.to_string());
    tokens.verify(&token, NOW).unwrap_err()
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
fn token_of_another_type_is_refused() {
    let tokens = tokens();
    for typ in [json!("JWT"), json!("rt+jwt"), json!("xapplication/at+jwt"), Value::Null] {
        let mut header = header(&tokens);
        header["typ"] = typ;
        let token = sign(&tokens, header.to_string(), claims().to_string());
        assert_eq!(tokens.verify(&token, NOW).unwrap_err(), TokenRefusal::WrongType, "{header}");
    }
    let mut header = header(&tokens);
    header["typ"] = json!("Application/AT+JWT");
    assert!(tokens.verify(&sign(&tokens, header.to_string(), claims().to_string()), NOW).is_ok());
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
        for (algorithm, expected) in
            [("HS256", TokenRefusal::AlgorithmNotAllowed), ("ES256", TokenRefusal::BadSignature)]
        {
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
