//! Replies of a protected route to valid and invalid tokens. Unit tests in `src/tokens` cover token
//! verification in detail.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Reply, TestApp, TestDatabase, credentials, decode_claims, forge, on_both_databases, send,
};

on_both_databases![
    missing_token_error_names_the_cause,
    invalid_token_error_names_the_cause,
    token_without_permission_is_forbidden,
    access_token_carries_claims_of_owner,
    access_token_expires_after_leeway,
    login_restricts_the_audience_of_the_session,
    revocations_beyond_capacity_use_the_fallback,
];

const MISSING_BEARER: &str = "Missing 'Bearer' type in 'Authorization' header. \
                              Expected 'Authorization: Bearer <JWT>'";
const BAD_HEADER: &str = "Bad Authorization header. Expected 'Authorization: Bearer <JWT>'";

async fn get_dashboard_with_header(app: &TestApp, value: &str) -> Reply {
    send(app.request(Method::GET, "/protected/dashboard").header("authorization", value)).await
}

async fn missing_token_error_names_the_cause(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    let cases = [
        ("", "missing_authorization", "Missing Authorization Header"),
        ("Basic YTpi", "missing_bearer", MISSING_BEARER),
        ("Bearer", "bad_authorization", BAD_HEADER),
        ("Bearer a b", "bad_authorization", BAD_HEADER),
    ];
    for (header, code, msg) in cases {
        let refused = get_dashboard_with_header(&app, header).await;
        refused.assert_error(401, code, msg);
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    }
    let refused = app.get("/protected/dashboard").await;
    refused.assert_error(401, "missing_authorization", "Missing Authorization Header");
}

async fn invalid_token_error_names_the_cause(database: TestDatabase) {
    let app = TestApp::start_with_shared_secret(&database).await;
    let valid = app.register_and_log_in("alice").await;
    let with_claim = |name: &str, value: Value| forge(&valid, &[(name, value)]);
    let (header, rest) = valid.split_once('.').unwrap();
    let with_header = |name: &str, value: Value| {
        let mut header: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        header[name] = value;
        format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
    };
    let unsigned = format!("{}.e30.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#));

    let forged = format!("{}AAAA", &valid[..valid.len() - 4]);
    let expired = with_claim("exp", json!(1));
    let early = with_claim("nbf", json!(99_999_999_999_u64));
    let of_another_type = with_header("typ", json!("JWT"));
    let of_another_key = with_header("kid", json!("another"));
    let foreign = with_claim("iss", json!("another"));
    let for_others = with_claim("aud", json!(["orders"]));
    let cases = [
        ("nonsense".to_owned(), "not_enough_segments", "Not enough segments"),
        ("a.b.c".to_owned(), "invalid_token", "Invalid token"),
        (forged, "bad_signature", "Signature verification failed"),
        (unsigned, "algorithm_not_allowed", "The specified alg value is not allowed"),
        (expired, "token_expired", "Token has expired"),
        (early, "token_not_yet_valid", "The token is not yet valid (nbf)"),
        (of_another_type, "wrong_token_type", "Only non-refresh tokens are allowed"),
        (of_another_key, "unknown_key", "The key of the token is unknown"),
        (foreign, "wrong_issuer", "Invalid issuer"),
        (for_others, "wrong_audience", "Audience doesn't match"),
    ];
    for (token, code, msg) in cases {
        let refused = app.dashboard(&token).await;
        refused.assert_error(401, code, msg);
        let challenge = format!(r#"Bearer error="invalid_token", error_description="{msg}""#);
        assert_eq!(refused.header("www-authenticate"), Some(challenge.as_str()));
    }
}

async fn token_without_permission_is_forbidden(database: TestDatabase) {
    let app = TestApp::start_with_shared_secret(&database).await;
    let token = app.register_and_log_in("alice").await;

    let refused = app.dashboard(&forge(&token, &[("scope", json!("orders:read"))])).await;

    let msg = "You do not have the permission dashboard:read";
    refused.assert_error(403, "permission_missing", msg);
    let challenge = r#"Bearer error="insufficient_scope", scope="dashboard:read""#;
    assert_eq!(refused.header("www-authenticate"), Some(challenge));
}

async fn access_token_carries_claims_of_owner(database: TestDatabase) {
    let app = TestApp::start(&database).await;

    let claims = decode_claims(&app.register_and_log_in("Alice").await);

    let names: Vec<&str> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = "aud client_id exp iat iss jti nbf roles scope sid sub username";
    assert_eq!(names.join(" "), expected);
    assert_eq!(claims["iss"], "portcullis");
    assert_eq!(claims["username"], "Alice");
    assert_eq!(claims["roles"], json!(["user"]));
    assert_eq!(claims["scope"], "dashboard:read");
    assert_eq!(claims["aud"], json!(["portcullis", "orders"]));
    assert_eq!(claims["client_id"], "portcullis");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
}

async fn login_restricts_the_audience_of_the_session(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let by_default = app.register_and_log_in("alice").await;
    let log_in = async |audience: Value| {
        let mut body = credentials("alice", "correct horse");
        body["audience"] = audience;
        app.post("/auth/login", &body).await
    };

    let session = log_in(json!(["orders"])).await;
    let renewed = app.refresh(&session.refresh_token()).await;

    assert_eq!(decode_claims(&by_default)["aud"], json!(["portcullis", "orders"]));
    for token in [session.access_token(), renewed.access_token()] {
        assert_eq!(decode_claims(&token)["aud"], json!(["orders"]));
        app.dashboard(&token).await.assert_code(401, "wrong_audience");
    }
    for refused in [json!([]), json!(["payments"]), json!(["orders", "payments"])] {
        log_in(refused).await.assert_error(
            400,
            "invalid_audience",
            "Audiences must be among these: portcullis, orders",
        );
    }
    log_in(json!("orders")).await.assert_code(400, "invalid_body");
}

async fn access_token_expires_after_leeway(database: TestDatabase) {
    let app = TestApp::start_with_own_clock(&database, |_| {}).await;
    let token = app.register_and_log_in("alice").await;

    app.clock.advance(Duration::from_hours(1));
    assert_eq!(app.dashboard(&token).await.status, 200);
    app.clock.advance(Duration::from_secs(6));
    app.dashboard(&token).await.assert_error(401, "token_expired", "Token has expired");
}

async fn revocations_beyond_capacity_use_the_fallback(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| config.revocations.capacity = 2).await;
    let valid = app.register_and_log_in("alice").await;
    let mut revoked = Vec::new();
    for _ in 0..8 {
        let token = app.log_in_for_token("alice").await;
        app.log_out(&token).await;
        revoked.push(token);
    }

    for token in &revoked {
        app.dashboard(token).await.assert_error(401, "token_revoked", "Token has been revoked");
    }
    assert_eq!(app.dashboard(&valid).await.status, 200);
    assert_eq!(app.metric("portcullis_revocation_replica_complete").await, 0);
    assert!(
        app.metric(r#"portcullis_revocation_checks_total{result="fallback_clear"}"#).await >= 1
    );
}
