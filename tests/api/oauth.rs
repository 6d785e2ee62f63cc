//! Introspection and revocation by others than the issuer.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, TestApp, TestDatabase, claims, on_both_databases, send, signed};

async fn post_form(
    app: &TestApp,
    path: &str,
    bearer: &str,
    form: &'static str,
    token: &str,
) -> Reply {
    let request = app.request(Method::POST, path).bearer_auth(bearer);
    let form_type = "application/x-www-form-urlencoded";
    send(request.header("content-type", form_type).body(format!("{form}{token}"))).await
}

async fn introspect(app: &TestApp, bearer: &str, token: &str) -> Reply {
    post_form(app, "/oauth/introspect", bearer, "token_type_hint=access_token&token=", token).await
}

async fn revoke(app: &TestApp, bearer: &str, token: &str) -> Reply {
    post_form(app, "/oauth/revoke", bearer, "token=", token).await
}

/// Makes a token that is good for everything out of one that is good for little.
fn as_admin(token: &str) -> String {
    let mut claims = claims(token);
    claims["roles"] = json!(["admin"]);
    claims["permissions"] = json!(["dashboard:read", "tokens:introspect"]);
    signed(&claims)
}

fn inactive() -> Value {
    json!({ "active": false })
}

on_both_databases! {
    async fn a_good_token_is_active_with_its_claims(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let admin = as_admin(&app.token_of("root").await);
        let token = app.token_of("alice").await;

        let reply = introspect(&app, &admin, &token).await;

        let claims = claims(&token);
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        reply.assert(200, &json!({
            "active": true, "token_type": "Bearer", "scope": "dashboard:read",
            "username": "alice", "sub": claims["sub"], "sid": claims["sid"],
            "jti": claims["jti"], "exp": claims["exp"],
        }));
    }

    async fn a_dead_or_foreign_token_is_inactive_and_no_error(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let admin = as_admin(&app.token_of("root").await);
        let pair = app.pair_of("alice").await;
        let logged_out = app.another_token_of("alice").await;
        app.log_out(&logged_out).await;
        let mut expired = claims(&pair.access_token());
        expired["exp"] = json!(1);

        for token in ["", "x", "a.b.c", &logged_out, &signed(&expired), &pair.refresh_token()] {
            introspect(&app, &admin, token).await.assert(200, &inactive());
        }
    }

    async fn introspection_is_for_those_who_may(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let token = app.token_of("alice").await;

        let refused = introspect(&app, &token, &token).await;

        let msg = "You do not have the permission tokens:introspect";
        refused.assert_error(403, "permission_missing", msg);
    }

    async fn a_user_revokes_an_own_token_and_nothing_else_ends(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let first = app.pair_of("alice").await;
        let second = app.refresh(&first.refresh_token()).await;

        let revoked = revoke(&app, &second.access_token(), &first.access_token()).await;

        revoked.assert(200, &json!({ "msg": "Token revoked" }));
        assert_eq!(app.dashboard(&first.access_token()).await.status, 401);
        assert_eq!(app.dashboard(&second.access_token()).await.status, 200);
        assert_eq!(app.refresh(&second.refresh_token()).await.status, 200);
    }

    async fn revoking_a_refresh_token_ends_its_session(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let (this, other) = (app.pair_of("alice").await, app.log_in("alice", "correct horse").await);

        let revoked = revoke(&app, &this.access_token(), &other.refresh_token()).await;

        assert_eq!(revoked.status, 200);
        assert_eq!(app.dashboard(&other.access_token()).await.status, 401);
        assert_eq!(app.refresh(&other.refresh_token()).await.status, 401);
        assert_eq!(app.dashboard(&this.access_token()).await.status, 200);
    }

    async fn tokens_of_others_are_revoked_by_those_who_may_alone(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let (alice, bob) = (app.pair_of("alice").await, app.pair_of("bob").await);
        let admin = as_admin(&app.token_of("root").await);

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

    async fn what_is_no_form_with_a_token_is_refused(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let token = app.token_of("alice").await;

        for invalid in ["", "x", "a.b.c"] {
            assert_eq!(revoke(&app, &token, invalid).await.status, 200, "{invalid}");
        }
        let missing = post_form(&app, "/oauth/revoke", &token, "tok", "en=").await;
        assert_eq!(missing.status, 200, "an empty token is none, and dead");
        let missing = post_form(&app, "/oauth/revoke", &token, "other=", "x").await;
        missing.assert_error(400, "missing_token", "Missing token");
        let json = app.request(Method::POST, "/oauth/revoke").bearer_auth(&token);
        let json = send(json.json(&json!({ "token": token }))).await;
        assert_eq!((json.status.as_u16(), &json.body["code"]), (415, &json!("unsupported_media_type")));
        let large = "x".repeat(20_000);
        assert_eq!(revoke(&app, &token, &large).await.status, 413);
        assert_eq!(send(app.request(Method::POST, "/oauth/revoke")).await.status, 401);
    }
}
