//! OAuth token introspection and revocation.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, TestApp, TestDatabase, decode_claims, forge, on_both_databases, send};

on_both_databases![
    introspection_returns_claims_of_active_token,
    introspection_reports_unusable_tokens_as_inactive,
    introspection_requires_permission,
    access_token_revocation_keeps_the_session,
    many_token_revocations_end_the_session,
    refresh_token_revocation_ends_the_session,
    refresh_token_ends_its_session_without_an_access_token,
    revoking_tokens_of_others_requires_permission,
    malformed_revocation_request_is_refused,
];

async fn post_form(app: &TestApp, path: &str, bearer: &str, form: String) -> Reply {
    let request = app
        .request(Method::POST, path)
        .bearer_auth(bearer)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    send(request).await
}

async fn introspect(app: &TestApp, bearer: &str, token: &str) -> Reply {
    let form = format!("token_type_hint=access_token&token={token}");
    post_form(app, "/oauth/introspect", bearer, form).await
}

async fn revoke(app: &TestApp, bearer: &str, token: &str) -> Reply {
    post_form(app, "/oauth/revoke", bearer, format!("token={token}")).await
}

/// Signs a copy of a token that has administrator permissions.
fn with_admin_permissions(token: &str) -> String {
    let scope = json!("dashboard:read tokens:introspect tokens:revoke");
    forge(token, &[("roles", json!(["admin"])), ("scope", scope)])
}

fn inactive() -> Value {
    json!({ "active": false })
}

async fn introspection_returns_claims_of_active_token(database: TestDatabase) {
    let app = TestApp::start_with_shared_secret(&database).await;
    let admin = with_admin_permissions(&app.register_and_log_in("root").await);
    let token = app.register_and_log_in("alice").await;

    let reply = introspect(&app, &admin, &token).await;

    let claims = decode_claims(&token);
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    reply.assert(
        200,
        &json!({
            "active": true, "token_type": "Bearer", "iss": "portcullis",
            "aud": ["portcullis", "orders"], "client_id": "portcullis", "roles": ["user"],
            "scope": "dashboard:read", "username": "alice", "sub": claims["sub"],
            "sid": claims["sid"], "jti": claims["jti"], "iat": claims["iat"],
            "nbf": claims["nbf"], "exp": claims["exp"], "external_id": null, "metadata": {},
        }),
    );
}

async fn introspection_reports_unusable_tokens_as_inactive(database: TestDatabase) {
    let app = TestApp::start_with_shared_secret(&database).await;
    let admin = with_admin_permissions(&app.register_and_log_in("root").await);
    let session = app.register_and_open_session("alice").await;
    let logged_out = app.log_in_for_token("alice").await;
    app.log_out(&logged_out).await;
    let expired = forge(&session.access_token(), &[("exp", json!(1))]);

    for token in ["", "x", "a.b.c", &logged_out, &expired, &session.refresh_token()] {
        introspect(&app, &admin, token).await.assert(200, &inactive());
    }
}

async fn introspection_requires_permission(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;

    let refused = introspect(&app, &token, &token).await;

    let msg = "You do not have the permission tokens:introspect";
    let expected = json!({
        "msg": msg, "code": "permission_missing", "error": "insufficient_scope",
        "error_description": msg,
    });
    refused.assert(403, &expected);
}

async fn access_token_revocation_keeps_the_session(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let first = app.register_and_open_session("alice").await;
    let second = app.refresh(&first.refresh_token()).await;

    let revoked = revoke(&app, &second.access_token(), &first.access_token()).await;

    revoked.assert(200, &json!({ "msg": "Token revoked" }));
    assert_eq!(app.dashboard(&first.access_token()).await.status, 401);
    assert_eq!(app.dashboard(&second.access_token()).await.status, 200);
    assert_eq!(app.refresh(&second.refresh_token()).await.status, 200);
}

async fn many_token_revocations_end_the_session(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let bearer = app.register_and_log_in("alice").await;
    let mut tokens = app.log_in("alice", "correct horse").await;
    for _ in 0..20 {
        assert_eq!(revoke(&app, &bearer, &tokens.access_token()).await.status, 200);
        tokens = app.refresh(&tokens.refresh_token()).await;
        assert_eq!(tokens.status, 200, "{tokens:?}");
    }

    assert_eq!(revoke(&app, &bearer, &tokens.access_token()).await.status, 200);

    assert_eq!(app.refresh(&tokens.refresh_token()).await.status, 401);
    assert_eq!(app.dashboard(&tokens.access_token()).await.status, 401);
    assert_eq!(app.metric("portcullis_revocations_held").await, 21);
}

async fn refresh_token_revocation_ends_the_session(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let current = app.register_and_open_session("alice").await;
    let other = app.log_in("alice", "correct horse").await;

    let revoked = revoke(&app, &current.access_token(), &other.refresh_token()).await;

    assert_eq!(revoked.status, 200);
    assert_eq!(app.dashboard(&other.access_token()).await.status, 401);
    assert_eq!(app.refresh(&other.refresh_token()).await.status, 401);
    assert_eq!(app.dashboard(&current.access_token()).await.status, 200);
}

async fn refresh_token_ends_its_session_without_an_access_token(database: TestDatabase) {
    let app = TestApp::start_with_shared_secret(&database).await;
    let revoke_alone = async |token: &str| {
        let request = app.request(Method::POST, "/oauth/revoke");
        let form = "application/x-www-form-urlencoded";
        send(request.header("content-type", form).body(format!("token={token}"))).await
    };
    let anonymous = app.register_and_open_session("alice").await;
    let expired = app.log_in("alice", "correct horse").await;
    let other = app.log_in("alice", "correct horse").await;
    let expired_token = forge(&expired.access_token(), &[("exp", json!(1))]);

    let replies = [
        revoke_alone(&anonymous.refresh_token()).await,
        revoke_alone(&anonymous.refresh_token()).await,
        revoke(&app, &expired_token, &expired.refresh_token()).await,
    ];

    for reply in replies {
        reply.assert(200, &json!({ "msg": "Token revoked" }));
    }
    for session in [&anonymous, &expired] {
        assert_eq!(app.dashboard(&session.access_token()).await.status, 401);
        assert_eq!(app.refresh(&session.refresh_token()).await.status, 401);
    }
    for token in ["", "x", &other.access_token(), &other.refresh_token()[1..]] {
        let refused = revoke_alone(token).await;
        refused.assert_code(401, "missing_authorization");
    }
    let refused = revoke(&app, &expired_token, &other.access_token()).await;
    refused.assert_code(401, "token_expired");
    assert_eq!(app.dashboard(&other.access_token()).await.status, 200);
}

async fn revoking_tokens_of_others_requires_permission(database: TestDatabase) {
    let app = TestApp::start_with_shared_secret(&database).await;
    let alice = app.register_and_open_session("alice").await;
    let bob = app.register_and_open_session("bob").await;
    let admin = with_admin_permissions(&app.register_and_log_in("root").await);

    let refused = revoke(&app, &bob.access_token(), &alice.access_token()).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    let refused = revoke(&app, &bob.access_token(), &alice.refresh_token()).await;
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(app.dashboard(&alice.access_token()).await.status, 200);
    assert_eq!(app.refresh(&alice.refresh_token()).await.status, 200);

    assert_eq!(revoke(&app, &admin, &alice.access_token()).await.status, 200);
    assert_eq!(app.dashboard(&alice.access_token()).await.status, 401);
    assert_eq!(revoke(&app, &admin, &bob.refresh_token()).await.status, 200);
    assert_eq!(app.dashboard(&bob.access_token()).await.status, 401);
}

async fn malformed_revocation_request_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;

    // RFC 7009: an invalid token, and so an empty one, is not an error.
    for invalid in ["", "x", "a.b.c"] {
        assert_eq!(revoke(&app, &token, invalid).await.status, 200, "{invalid}");
    }
    let missing = post_form(&app, "/oauth/revoke", &token, "other=x".to_owned()).await;
    missing.assert_code(400, "missing_token");
    let json_request = app
        .request(Method::POST, "/oauth/revoke")
        .bearer_auth(&token)
        .json(&json!({ "token": token }));
    send(json_request).await.assert_code(415, "unsupported_media_type");
    let oversized = "x".repeat(20_000);
    assert_eq!(revoke(&app, &token, &oversized).await.status, 413);
    assert_eq!(send(app.request(Method::POST, "/oauth/revoke")).await.status, 401);
}
