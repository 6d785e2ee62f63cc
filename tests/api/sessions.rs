//! What a login opens, how it is renewed, and how it ends.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Process, Reply, TestApp, TestDatabase, claims, eventually, on_both_databases, send,
};

#[track_caller]
fn assert_refused(reply: &Reply) {
    reply.assert_error(401, "invalid_refresh_token", "Invalid refresh token");
    let challenge = r#"Bearer error="invalid_token", error_description="Invalid refresh token""#;
    assert_eq!(reply.header("www-authenticate"), Some(challenge));
}

#[track_caller]
fn assert_revoked(reply: &Reply) {
    reply.assert_error(401, "token_revoked", "Token has been revoked");
}

async fn sessions(app: &TestApp, token: &str) -> Vec<Value> {
    let reply = app.with_token(Method::GET, "/auth/sessions", token).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body["sessions"].as_array().expect("a list").clone()
}

/// Lets the grace of every refresh token pass.
async fn let_the_grace_pass(database: &TestDatabase) {
    database
        .execute(match database {
            TestDatabase::Postgres { .. } => {
                "update sessions set rotated_at = rotated_at - interval '11 seconds'"
            }
            TestDatabase::Sqlite(_) => "update sessions set rotated_at = rotated_at - 11000000",
        })
        .await;
}

on_both_databases! {
    async fn a_refresh_gives_a_new_pair_of_the_same_session(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let first = app.pair_of("alice").await;

        let second = app.refresh(&first.refresh_token()).await;

        assert_eq!(second.status, 200, "{second:?}");
        assert_eq!(second.header("cache-control"), Some("no-store"));
        assert_eq!(second.body["token_type"], "Bearer");
        assert_eq!(second.body["expires_in"], 3600);
        let (before, after) = (claims(&first.access_token()), claims(&second.access_token()));
        assert_eq!(before["sid"], after["sid"]);
        assert_ne!(before["jti"], after["jti"]);
        assert_ne!(first.refresh_token(), second.refresh_token());
        for pair in [&first, &second] {
            assert_eq!(app.dashboard(&pair.access_token()).await.status, 200);
        }
        assert_eq!(app.refresh(&second.refresh_token()).await.status, 200);
    }

    async fn a_retry_within_the_grace_gets_the_same_successor(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let first = app.pair_of("alice").await.refresh_token();

        let replies = join_all((0..20).map(|_| app.refresh(&first))).await;

        for reply in &replies {
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!(reply.refresh_token(), replies[0].refresh_token());
        }
        assert_eq!(app.refresh(&replies[0].refresh_token()).await.status, 200);
        assert_eq!(app.metric(r#"portcullis_refreshes_total{outcome="success"}"#).await, 21);
    }

    async fn an_old_refresh_token_ends_the_session_of_whoever_has_it(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let stolen = app.pair_of("alice").await;
        let renewed = app.refresh(&stolen.refresh_token()).await;
        let again = app.refresh(&renewed.refresh_token()).await;

        assert_refused(&app.refresh(&stolen.refresh_token()).await);

        for pair in [&stolen, &renewed, &again] {
            assert_revoked(&app.dashboard(&pair.access_token()).await);
            assert_refused(&app.refresh(&pair.refresh_token()).await);
        }
        assert_eq!(app.metric("portcullis_refresh_tokens_reused_total").await, 1);
        assert_eq!(app.log_in("alice", "correct horse").await.status, 200);
    }

    async fn a_retry_after_the_grace_ends_the_session(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let first = app.pair_of("alice").await;
        let second = app.refresh(&first.refresh_token()).await;
        let_the_grace_pass(&database).await;

        assert_refused(&app.refresh(&first.refresh_token()).await);

        assert_revoked(&app.dashboard(&second.access_token()).await);
        assert_refused(&app.refresh(&second.refresh_token()).await);
    }

    async fn twenty_refreshes_at_once_over_two_instances_are_one(database: TestDatabase) {
        let instances = join_all((0..2).map(|_| Process::start(&database))).await;
        let apps = [&instances[0].app, &instances[1].app];
        let first = apps[0].pair_of("alice").await.refresh_token();

        let replies = join_all((0..20).map(|n| apps[n % 2].refresh(&first))).await;

        let successor = replies[0].refresh_token();
        for reply in &replies {
            assert_eq!((reply.status.as_u16(), reply.refresh_token()), (200, successor.clone()));
        }
        let third = apps[1].refresh(&successor).await;
        assert_eq!(third.status, 200);
        assert_refused(&apps[0].refresh(&first).await);
        for app in apps {
            assert_refused(&app.refresh(&third.refresh_token()).await);
            eventually("a refusal", async || {
                app.dashboard(&third.access_token()).await.status == 401
            }).await;
        }
        let warning = "a refresh token was used again: its session ends";
        eventually("a warning", async || instances[0].log().contains(warning)).await;
        let log = instances[0].log();
        let line = log.lines().find(|line| line.contains(warning)).unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["client.address"], "127.0.0.1", "{line}");
        assert!(line["span"]["request.id"].is_string(), "{line}");
    }

    async fn what_is_no_refresh_token_is_refused(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let pair = app.pair_of("alice").await;

        for token in ["", "x", &pair.access_token(), &pair.refresh_token()[1..]] {
            assert_refused(&app.refresh(token).await);
        }
        let missing = app.post("/auth/refresh", &json!({})).await;
        missing.assert_error(400, "missing_refresh_token", "Missing refresh token");
        let as_access = app.dashboard(&pair.refresh_token()).await;
        as_access.assert_error(401, "not_enough_segments", "Not enough segments");
    }

    async fn a_logout_ends_the_session_with_all_its_tokens(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let first = app.pair_of("alice").await;
        let second = app.refresh(&first.refresh_token()).await;
        let other = app.log_in("alice", "correct horse").await;

        assert_eq!(app.log_out(&second.access_token()).await.status, 200);

        for pair in [&first, &second] {
            assert_revoked(&app.dashboard(&pair.access_token()).await);
            assert_refused(&app.refresh(&pair.refresh_token()).await);
        }
        assert_eq!(app.dashboard(&other.access_token()).await.status, 200);
        assert_eq!(app.refresh(&other.refresh_token()).await.status, 200);
        assert_eq!(app.metric("portcullis_refresh_tokens_reused_total").await, 0);
    }

    async fn logging_out_everywhere_ends_every_session_of_the_user(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let mut pairs = vec![app.pair_of("alice").await];
        for _ in 0..3 {
            pairs.push(app.log_in("alice", "correct horse").await);
        }
        let bob = app.pair_of("bob").await;

        let token = pairs[1].access_token();
        let reply = app.with_token(Method::POST, "/auth/logout-all", &token).await;

        reply.assert(200, &json!({ "msg": "Logged out everywhere" }));
        for pair in &pairs {
            assert_revoked(&app.dashboard(&pair.access_token()).await);
            assert_refused(&app.refresh(&pair.refresh_token()).await);
        }
        assert_eq!(app.refresh(&bob.refresh_token()).await.status, 200);
    }

    async fn a_user_sees_the_own_sessions_and_which_is_current(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let first = app.pair_of("alice").await;
        let login = app.request(Method::POST, "/auth/login").header("user-agent", "curl/8.5\tx");
        let body = json!({ "username": "alice", "password": "correct horse" });
        let second = send(login.json(&body)).await.access_token();
        app.pair_of("bob").await;

        let listed = sessions(&app, &second).await;

        assert_eq!(listed.len(), 2, "{listed:?}");
        let (current, other): (Vec<_>, Vec<_>) =
            listed.iter().partition(|session| session["current"] == true);
        assert_eq!(current[0]["id"], claims(&second)["sid"]);
        assert_eq!(current[0]["user_agent"], "curl/8.5x");
        assert_eq!(current[0]["ip"], "127.0.0.1");
        assert_eq!(other[0]["id"], claims(&first.access_token())["sid"]);
        for time in ["created_at", "last_used_at", "expires_at"] {
            assert!(current[0][time].as_str().unwrap().ends_with('Z'), "{current:?}");
        }
    }

    async fn a_session_is_ended_by_its_owner_alone(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let (alice, bob) = (app.pair_of("alice").await, app.pair_of("bob").await);
        let claims = claims(&alice.access_token());
        let path = format!("/auth/sessions/{}", claims["sid"].as_str().unwrap());

        let refused = app.with_token(Method::DELETE, &path, &bob.access_token()).await;
        refused.assert_error(404, "not_found", "Not found");
        assert_eq!(app.dashboard(&alice.access_token()).await.status, 200);

        let ended = app.with_token(Method::DELETE, &path, &alice.access_token()).await;
        assert_eq!((ended.status.as_u16(), ended.text.as_str()), (204, ""));
        assert_revoked(&app.dashboard(&alice.access_token()).await);
        assert_refused(&app.refresh(&alice.refresh_token()).await);

        let bob = bob.access_token();
        let malformed = app.with_token(Method::DELETE, "/auth/sessions/x", &bob).await;
        malformed.assert_error(404, "not_found", "Not found");
    }

    async fn a_session_ends_by_itself(database: TestDatabase) {
        let app = TestApp::start_with(&database, |config| {
            config.tokens.session_lifetime = Duration::from_mins(90);
            config.tokens.lifetime = Duration::from_hours(1);
        }).await;
        let first = app.pair_of("alice").await;
        app.clock.advance(Duration::from_hours(1));
        let second = app.refresh(&first.refresh_token()).await;
        let left = second.body["expires_in"].as_u64().unwrap();
        assert!(left <= 30 * 60, "no token outlives its session: {left}");

        app.clock.advance(Duration::from_mins(31));

        assert_refused(&app.refresh(&second.refresh_token()).await);
        app.dashboard(&second.access_token()).await.assert_error(
            401, "token_expired", "Token has expired"
        );
        assert_eq!(app.metric("portcullis_refresh_tokens_reused_total").await, 0);
    }

    async fn an_idle_session_ends_where_that_is_asked_for(database: TestDatabase) {
        let app = TestApp::start_with(&database, |config| {
            config.tokens.session_idle_timeout = Some(Duration::from_hours(2));
        }).await;
        let first = app.pair_of("alice").await;
        app.clock.advance(Duration::from_mins(119));
        let second = app.refresh(&first.refresh_token()).await;
        assert_eq!(second.status, 200);

        app.clock.advance(Duration::from_mins(121));

        assert_refused(&app.refresh(&second.refresh_token()).await);
    }
}
