//! Registering, logging in, the dashboard, logging out.

use std::num::NonZeroU32;

use serde_json::{Value, json};

use crate::support::{TestApp, TestDatabase, credentials, eventually, on_both_databases};

on_both_databases! {
    async fn a_user_registers_logs_in_sees_the_dashboard_and_logs_out(database: TestDatabase) {
        let app = TestApp::start(&database).await;

        let registered = app.register("testuser", "testpass").await;
        registered.assert(201, &json!({ "msg": "User registered successfully" }));

        let logged_in = app.log_in("testuser", "testpass").await;
        let token = logged_in.access_token();
        let body = json!({
            "access_token": token,
            "refresh_token": logged_in.refresh_token(),
            "token_type": "Bearer",
            "expires_in": 3600,
        });
        logged_in.assert(200, &body);
        assert_eq!(logged_in.header("cache-control"), Some("no-store"));

        let welcome = json!({ "message": "Welcome testuser, this is your dashboard" });
        app.dashboard(&token).await.assert(200, &welcome);

        app.log_out(&token).await.assert(200, &json!({ "msg": "Successfully logged out" }));

        let refused = app.dashboard(&token).await;
        refused.assert_error(401, "token_revoked", "Token has been revoked");
        let again = app.log_out(&token).await;
        again.assert_error(401, "token_revoked", "Token has been revoked");
    }

    async fn a_name_in_another_case_is_the_same_account(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        app.register("Alice", "correct horse").await;

        let refused = app.register("aLICE", "another password").await;
        refused.assert_error(409, "user_exists", "User already exists");

        let token = app.log_in("alice", "correct horse").await.access_token();
        let dashboard = app.dashboard(&token).await;
        assert_eq!(dashboard.body["message"], "Welcome Alice, this is your dashboard");
    }

    async fn of_many_registrations_of_one_name_at_once_one_succeeds(database: TestDatabase) {
        let app = TestApp::start(&database).await;

        let attempts = (0..8).map(|_| app.register("alice", "correct horse"));
        let replies = futures_util::future::join_all(attempts).await;

        let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    }

    async fn missing_credentials_are_named(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let bodies = [
            json!({}),
            json!({ "username": "alice" }),
            json!({ "password": "correct horse" }),
            json!({ "username": null, "password": null }),
            credentials("", "correct horse"),
            credentials("alice", ""),
        ];

        for route in ["/auth/register", "/auth/login"] {
            for body in &bodies {
                let reply = app.post(route, body).await;
                reply.assert_error(400, "missing_credentials", "Missing username or password");
            }
        }
    }

    async fn a_registration_is_told_the_rule_that_it_broke(database: TestDatabase) {
        let app = TestApp::start(&database).await;

        app.register("alice", "2short!").await.assert_error(
            400,
            "invalid_password",
            "Password must be at least 8 characters long",
        );
        app.register("alice", &"x".repeat(257)).await.assert_error(
            400,
            "invalid_password",
            "Password must be at most 256 characters long",
        );
        app.register(&"x".repeat(151), "correct horse").await.assert_error(
            400,
            "invalid_username",
            "Username must be at most 150 characters long",
        );
        app.register("alice in wonderland", "correct horse").await.assert_error(
            400,
            "invalid_username",
            "Username must be made of letters, digits and ASCII punctuation, without spaces",
        );
    }

    async fn whatever_is_wrong_a_refused_login_costs_one_hash(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        app.register("alice", "correct horse").await;
        let hashes = r#"portcullis_hash_jobs_total{outcome="completed"}"#;

        let attempts = [
            ("alice", "wrong password"),
            ("nobody", "correct horse"),
            ("not a name", "correct horse"),
            ("alice", "short"),
            ("alice", &"x".repeat(1000)),
        ];
        for (username, password) in attempts {
            let before = app.metric(hashes).await;
            let refused = app.log_in(username, password).await;
            refused.assert_error(401, "invalid_credentials", "Invalid username or password");
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
            assert_eq!(app.metric(hashes).await - before, 1, "{username}");
        }
    }

    async fn a_login_brings_an_old_hash_to_the_configured_cost(database: TestDatabase) {
        let cheap = TestApp::start(&database).await;
        cheap.register("alice", "correct horse").await;
        let dear = TestApp::start_with(&database, |config| {
            config.hashing.iterations = NonZeroU32::new(2_000).unwrap();
        }).await;
        let hashes = r#"portcullis_hash_jobs_total{outcome="completed"}"#;

        dear.log_in("alice", "correct horse").await.access_token();
        eventually("verified, then hashed anew", async || dear.metric(hashes).await == 2).await;
        eventually("verified alone", async || {
            let before = dear.metric(hashes).await;
            dear.log_in("alice", "correct horse").await.access_token();
            dear.metric("portcullis_hash_queue_depth").await == 0
                && dear.metric(hashes).await == before + 1
        })
        .await;
    }

    async fn a_logout_ends_one_token_and_no_other(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let first = app.token_of("alice").await;
        let second = app.another_token_of("alice").await;

        app.log_out(&first).await;

        assert_eq!(app.dashboard(&first).await.status, 401);
        assert_eq!(app.dashboard(&second).await.status, 200);
    }

    async fn logouts_that_arrive_together_share_commits(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        app.register("alice", "correct horse").await;
        let logins = (0..200).map(|_| app.another_token_of("alice"));
        let tokens = futures_util::future::join_all(logins).await;

        let logouts = tokens.iter().map(|token| app.log_out(token));
        let replies = futures_util::future::join_all(logouts).await;

        assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
        assert_eq!(app.metric("portcullis_revocations_committed_total").await, 200);
        assert!(app.metric("portcullis_revocation_commit_batch_size_count").await < 150);
    }

    async fn a_logout_holds_after_a_restart(database: TestDatabase) {
        let before = TestApp::start(&database).await;
        let ended = before.token_of("alice").await;
        let alive = before.another_token_of("alice").await;
        before.log_out(&ended).await;

        let after = TestApp::start(&database).await;

        after.dashboard(&ended).await.assert_error(401, "token_revoked", "Token has been revoked");
        assert_eq!(after.dashboard(&alive).await.status, 200);
        assert_eq!(after.metric("portcullis_revocations_held").await, 1);
    }

    async fn unknown_fields_are_ignored(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let mut body: Value = credentials("alice", "correct horse");
        body["email"] = json!("alice@example.com");

        assert_eq!(app.post("/auth/register", &body).await.status, 201);
    }
}
