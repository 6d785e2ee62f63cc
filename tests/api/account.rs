//! What users do with their own accounts.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, TestApp, TestDatabase, claims, on_both_databases, send};

const NEW: &str = "battery staple";

async fn change_password(app: &TestApp, token: &str, current: &str, new: &str) -> Reply {
    let request = app.request(Method::PUT, "/auth/password").bearer_auth(token);
    send(request.json(&json!({ "current_password": current, "new_password": new }))).await
}

async fn delete(app: &TestApp, token: &str, body: &Value) -> Reply {
    send(app.request(Method::DELETE, "/auth/me").bearer_auth(token).json(body)).await
}

on_both_databases! {
    async fn a_user_sees_the_own_account(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        app.register("Alice", "correct horse").await;
        let token = app.another_token_of("alice").await;

        let mut me = app.with_token(Method::GET, "/auth/me", &token).await;

        let created_at = me.body["created_at"].take();
        assert!(created_at.as_str().unwrap().ends_with('Z'), "{created_at}");
        me.assert(200, &json!({
            "id": claims(&token)["sub"],
            "username": "Alice",
            "roles": ["user"],
            "permissions": ["dashboard:read"],
            "created_at": null,
        }));
    }

    async fn a_new_password_ends_every_other_session(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let (this, other) = (app.pair_of("alice").await, app.log_in("alice", "correct horse").await);

        let changed = change_password(&app, &this.access_token(), "correct horse", NEW).await;

        changed.assert(200, &json!({ "msg": "Password changed" }));
        assert_eq!(app.dashboard(&this.access_token()).await.status, 200);
        assert_eq!(app.refresh(&this.refresh_token()).await.status, 200);
        assert_eq!(app.dashboard(&other.access_token()).await.status, 401);
        assert_eq!(app.refresh(&other.refresh_token()).await.status, 401);
        assert_eq!(app.log_in("alice", "correct horse").await.status, 401);
        assert_eq!(app.log_in("alice", NEW).await.status, 200);
        let again = change_password(&app, &this.access_token(), NEW, "correct horse").await;
        assert_eq!(again.status, 200, "{again:?}");
    }

    async fn a_password_is_not_changed_without_the_current_one_nor_to_a_bad_one(
        database: TestDatabase
    ) {
        let app = TestApp::start(&database).await;
        let token = app.token_of("alice").await;

        for wrong in ["wrong battery", "x", NEW] {
            let refused = change_password(&app, &token, wrong, NEW).await;
            refused.assert_error(401, "wrong_password", "Wrong password");
        }
        let short = change_password(&app, &token, "correct horse", "short").await;
        assert_eq!((short.status.as_u16(), &short.body["code"]), (400, &json!("invalid_password")));
        let missing = change_password(&app, &token, "correct horse", "").await;
        missing.assert_error(400, "missing_password", "Missing password");

        assert_eq!(app.log_in("alice", "correct horse").await.status, 200);
        assert_eq!(app.dashboard(&token).await.status, 200);
    }

    async fn of_many_changes_at_once_one_holds(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let token = app.token_of("alice").await;
        let wanted: Vec<String> = (0..8).map(|n| format!("password number {n}")).collect();

        let changes =
            join_all(wanted.iter().map(|new| change_password(&app, &token, "correct horse", new)));
        let logins = join_all((0..8).map(|_| app.log_in("alice", "correct horse")));
        let (changes, logins) = futures_util::future::join(changes, logins).await;

        let won: Vec<_> = changes.iter().zip(&wanted).filter(|(one, _)| one.status == 200).collect();
        assert_eq!(won.len(), 1, "{changes:?}");
        assert_eq!(app.log_in("alice", won[0].1).await.status, 200);
        for login in logins.iter().filter(|reply| reply.status == 200) {
            let reply = app.dashboard(&login.access_token()).await;
            assert_eq!(reply.status, 401, "no session of the old password lives on");
        }
        assert_eq!(app.dashboard(&token).await.status, 200);
    }

    async fn a_deleted_account_is_gone_with_its_sessions_and_its_name_is_free(
        database: TestDatabase
    ) {
        let app = TestApp::start(&database).await;
        let (this, other) = (app.pair_of("alice").await, app.log_in("alice", "correct horse").await);
        let token = this.access_token();
        delete(&app, &token, &json!({})).await
            .assert_error(400, "missing_password", "Missing password");
        delete(&app, &token, &json!({ "password": "wrong battery" })).await
            .assert_error(401, "wrong_password", "Wrong password");

        let deleted = delete(&app, &token, &json!({ "password": "correct horse" })).await;

        assert_eq!((deleted.status.as_u16(), deleted.text.as_str()), (204, ""));
        for pair in [&this, &other] {
            let refused = app.dashboard(&pair.access_token()).await;
            refused.assert_error(401, "token_revoked", "Token has been revoked");
            assert_eq!(app.refresh(&pair.refresh_token()).await.status, 401);
        }
        assert_eq!(app.log_in("alice", "correct horse").await.status, 401);
        assert_eq!(app.register("ALICE", "correct horse").await.status, 201);
        assert_eq!(app.dashboard(&token).await.status, 401, "the name is free, the token is dead");
    }
}
