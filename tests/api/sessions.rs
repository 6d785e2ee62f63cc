//! Sessions: refresh, logout, listing and expiry.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor};

use crate::support::{
    Process, Reply, TestApp, TestDatabase, decode_claims, eventually, on_both_databases, send,
};

on_both_databases![
    refresh_renews_tokens_of_the_session,
    refresh_retry_returns_same_successor,
    refresh_token_replay_ends_the_session,
    late_retry_gets_a_new_successor,
    void_successor_ends_the_session,
    retry_ends_the_session_once_the_successor_was_exchanged,
    retry_after_the_retry_period_ends_the_session,
    simultaneous_logouts_write_one_audit_record,
    concurrent_refreshes_across_instances_agree,
    invalid_refresh_token_is_refused,
    logout_ends_all_tokens_of_session,
    logout_everywhere_ends_every_session,
    user_lists_own_sessions,
    session_shows_where_it_was_last_used,
    sessions_are_listed_in_pages,
    only_the_owner_ends_a_session,
    session_expires_after_its_lifetime,
    idle_session_expires_when_configured,
    idle_session_is_listed_while_its_token_is_valid,
    login_beyond_the_limit_ends_the_session_longest_unused,
    login_beyond_the_revocation_limit_is_refused_until_they_expire,
];

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

async fn list_sessions(app: &TestApp, token: &str) -> Vec<Value> {
    let reply = app.send_with_token(Method::GET, "/auth/sessions", token).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body["sessions"].as_array().expect("the sessions are a list").clone()
}

/// Moves the latest exchange of every session into the past.
async fn age_exchanges(database: &TestDatabase, seconds: u32) {
    let statement = match database {
        TestDatabase::Postgres { .. } => format!(
            "update sessions set rotated_at = rotated_at - interval '{seconds} seconds',
                                 exchanged_at = exchanged_at - interval '{seconds} seconds'"
        ),
        TestDatabase::Sqlite(_) => format!(
            "update sessions set rotated_at = rotated_at - {seconds}000000,
                                 exchanged_at = exchanged_at - {seconds}000000"
        ),
    };
    database.execute(&statement).await;
}

async fn refresh_renews_tokens_of_the_session(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let first = app.register_and_open_session("alice").await;

    let second = app.refresh(&first.refresh_token()).await;

    assert_eq!(second.status, 200, "{second:?}");
    assert_eq!(second.header("cache-control"), Some("no-store"));
    assert_eq!(second.body["token_type"], "Bearer");
    assert_eq!(second.body["expires_in"], 3600);
    let first_claims = decode_claims(&first.access_token());
    let second_claims = decode_claims(&second.access_token());
    assert_eq!(first_claims["sid"], second_claims["sid"]);
    assert_ne!(first_claims["jti"], second_claims["jti"]);
    assert_ne!(first.refresh_token(), second.refresh_token());
    for tokens in [&first, &second] {
        assert_eq!(app.dashboard(&tokens.access_token()).await.status, 200);
    }
    assert_eq!(app.refresh(&second.refresh_token()).await.status, 200);
}

async fn refresh_retry_returns_same_successor(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let first = app.register_and_open_session("alice").await.refresh_token();

    let replies = join_all((0..20).map(|_| app.refresh(&first))).await;

    for reply in &replies {
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.refresh_token(), replies[0].refresh_token());
    }
    assert_eq!(app.refresh(&replies[0].refresh_token()).await.status, 200);
    assert_eq!(app.metric(r#"portcullis_refreshes_total{outcome="success"}"#).await, 21);
}

async fn refresh_token_replay_ends_the_session(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let stolen = app.register_and_open_session("alice").await;
    let renewed = app.refresh(&stolen.refresh_token()).await;
    let latest = app.refresh(&renewed.refresh_token()).await;

    assert_refused(&app.refresh(&stolen.refresh_token()).await);

    for tokens in [&stolen, &renewed, &latest] {
        assert_revoked(&app.dashboard(&tokens.access_token()).await);
        assert_refused(&app.refresh(&tokens.refresh_token()).await);
    }
    assert_eq!(app.metric("portcullis_refresh_tokens_reused_total").await, 1);
    assert_eq!(app.log_in("alice", "correct horse").await.status, 200);
}

async fn late_retry_gets_a_new_successor(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let first = app.register_and_open_session("alice").await;
    let lost = app.refresh(&first.refresh_token()).await;

    age_exchanges(&database, 11).await;
    let retried = app.refresh(&first.refresh_token()).await;
    let repeated = app.refresh(&first.refresh_token()).await;
    age_exchanges(&database, 200).await;
    let latest = app.refresh(&first.refresh_token()).await;

    assert_eq!(retried.status, 200, "{retried:?}");
    assert_ne!(retried.refresh_token(), lost.refresh_token());
    assert_eq!(repeated.refresh_token(), retried.refresh_token());
    assert_ne!(latest.refresh_token(), retried.refresh_token());
    assert_eq!(app.refresh(&latest.refresh_token()).await.status, 200);
    assert_eq!(app.metric("portcullis_refresh_tokens_retried_total").await, 3);
    assert_eq!(app.metric("portcullis_refresh_tokens_reused_total").await, 0);
}

async fn void_successor_ends_the_session(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let first = app.register_and_open_session("alice").await;
    let void = app.refresh(&first.refresh_token()).await;
    age_exchanges(&database, 11).await;
    let latest = app.refresh(&first.refresh_token()).await;

    assert_refused(&app.refresh(&void.refresh_token()).await);

    assert_revoked(&app.dashboard(&latest.access_token()).await);
    assert_refused(&app.refresh(&latest.refresh_token()).await);
}

async fn retry_ends_the_session_once_the_successor_was_exchanged(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let first = app.register_and_open_session("alice").await;
    let second = app.refresh(&first.refresh_token()).await;
    let third = app.refresh(&second.refresh_token()).await;

    assert_refused(&app.refresh(&first.refresh_token()).await);

    assert_revoked(&app.dashboard(&third.access_token()).await);
}

async fn retry_after_the_retry_period_ends_the_session(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let first = app.register_and_open_session("alice").await;
    let second = app.refresh(&first.refresh_token()).await;
    age_exchanges(&database, 301).await;

    assert_refused(&app.refresh(&first.refresh_token()).await);

    assert_revoked(&app.dashboard(&second.access_token()).await);
    assert_refused(&app.refresh(&second.refresh_token()).await);
}

async fn simultaneous_logouts_write_one_audit_record(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;

    let logouts = join_all((0..6).map(|_| app.log_out(&token))).await;

    assert!(logouts.iter().any(|reply| reply.status == 200), "{logouts:?}");
    let admin = app.register_admin(&database).await;
    let path = "/admin/audit?action=session.ended";
    let log = app.send_with_token(Method::GET, path, &admin).await;
    assert_eq!(log.body["records"].as_array().unwrap().len(), 1, "{log:?}");
}

async fn concurrent_refreshes_across_instances_agree(database: TestDatabase) {
    let instances = join_all((0..2).map(|_| Process::start(&database))).await;
    let apps = [&instances[0].app, &instances[1].app];
    let first = apps[0].register_and_open_session("alice").await.refresh_token();

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
        eventually("the token is refused", async || {
            app.dashboard(&third.access_token()).await.status == 401
        })
        .await;
    }
    let warning = "refresh token replayed; ending its session";
    eventually("the replay is logged", async || instances[0].log().contains(warning)).await;
    let log = instances[0].log();
    let line = log.lines().find(|line| line.contains(warning)).unwrap();
    let record: Value = serde_json::from_str(line).unwrap();
    assert_eq!(record["client.address"], "127.0.0.1", "{record}");
    assert!(record["request.id"].is_string(), "{record}");
}

async fn invalid_refresh_token_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let tokens = app.register_and_open_session("alice").await;

    for token in ["", "x", &tokens.access_token(), &tokens.refresh_token()[1..]] {
        assert_refused(&app.refresh(token).await);
    }
    let missing = app.post("/auth/refresh", &json!({})).await;
    missing.assert_error(400, "missing_refresh_token", "Missing refresh token");
    let as_access = app.dashboard(&tokens.refresh_token()).await;
    as_access.assert_error(401, "not_enough_segments", "Not enough segments");
}

async fn logout_ends_all_tokens_of_session(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let first = app.register_and_open_session("alice").await;
    let second = app.refresh(&first.refresh_token()).await;
    let other = app.log_in("alice", "correct horse").await;

    assert_eq!(app.log_out(&second.access_token()).await.status, 200);

    for tokens in [&first, &second] {
        assert_revoked(&app.dashboard(&tokens.access_token()).await);
        assert_refused(&app.refresh(&tokens.refresh_token()).await);
    }
    assert_eq!(app.dashboard(&other.access_token()).await.status, 200);
    assert_eq!(app.refresh(&other.refresh_token()).await.status, 200);
    assert_eq!(app.metric("portcullis_refresh_tokens_reused_total").await, 0);
}

async fn logout_everywhere_ends_every_session(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let mut sessions = vec![app.register_and_open_session("alice").await];
    for _ in 0..3 {
        sessions.push(app.log_in("alice", "correct horse").await);
    }
    let bob = app.register_and_open_session("bob").await;

    let token = sessions[1].access_token();
    let reply = app.send_with_token(Method::POST, "/auth/logout-all", &token).await;

    reply.assert(200, &json!({ "msg": "Logged out everywhere" }));
    for tokens in &sessions {
        assert_revoked(&app.dashboard(&tokens.access_token()).await);
        assert_refused(&app.refresh(&tokens.refresh_token()).await);
    }
    assert_eq!(app.refresh(&bob.refresh_token()).await.status, 200);
}

async fn user_lists_own_sessions(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let first = app.register_and_open_session("alice").await;
    let login = app.request(Method::POST, "/auth/login").header("user-agent", "curl/8.5\tx");
    let body = json!({ "username": "alice", "password": "correct horse" });
    let second = send(login.json(&body)).await.access_token();
    app.register_and_open_session("bob").await;

    let listed = list_sessions(&app, &second).await;

    assert_eq!(listed.len(), 2, "{listed:?}");
    let (current, other): (Vec<_>, Vec<_>) =
        listed.iter().partition(|session| session["current"] == true);
    assert_eq!(current[0]["id"], decode_claims(&second)["sid"]);
    assert_eq!(current[0]["user_agent"], "curl/8.5x");
    assert_eq!(current[0]["ip"], "127.0.0.1");
    assert_eq!(other[0]["id"], decode_claims(&first.access_token())["sid"]);
    for time in ["created_at", "last_used_at", "expires_at"] {
        assert!(current[0][time].as_str().unwrap().ends_with('Z'), "{current:?}");
    }
}

async fn session_shows_where_it_was_last_used(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let root = app.register_admin(&database).await;
    app.register("alice", "correct horse").await;
    let send_from = async |address: &str, agent: &str, path: &str, body: &Value| {
        let request = app.request(Method::POST, path).header("x-forwarded-for", address);
        send(request.header("user-agent", agent).json(body)).await
    };
    let refresh_from = async |address: &str, agent: &str, tokens: &Reply| {
        let body = json!({ "refresh_token": tokens.refresh_token() });
        let refreshed = send_from(address, agent, "/auth/refresh", &body).await;
        assert_eq!(refreshed.status, 200, "{refreshed:?}");
        refreshed
    };
    let shown = async |token: &str| {
        let session = list_sessions(&app, token).await.remove(0);
        ["ip", "user_agent", "last_ip", "last_user_agent"].map(|key| session[key].clone())
    };

    let credentials = json!({ "username": "alice", "password": "correct horse" });
    let opened = send_from("192.0.2.1", "phone/1", "/auth/login", &credentials).await;
    let token = opened.access_token();
    assert_eq!(shown(&token).await, ["192.0.2.1", "phone/1", "192.0.2.1", "phone/1"]);
    let refreshed = refresh_from("192.0.2.2", "phone/2", &opened).await;
    refresh_from("192.0.2.3", "phone/3", &opened).await;
    assert_eq!(shown(&token).await, ["192.0.2.1", "phone/1", "192.0.2.2", "phone/2"]);
    refresh_from("192.0.2.4", "phone/4", &refreshed).await;

    let path = format!("/admin/users/{}/sessions", decode_claims(&token)["sub"].as_str().unwrap());
    let listed = app.send_with_token(Method::GET, &path, &root).await;
    let session = &listed.body["sessions"][0];
    assert_eq!(
        (&session["ip"], &session["last_ip"], &session["last_user_agent"]),
        (&json!("192.0.2.1"), &json!("192.0.2.4"), &json!("phone/4"))
    );
}

async fn sessions_are_listed_in_pages(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;
    for _ in 0..4 {
        app.log_in("alice", "correct horse").await;
    }
    let get = async |query: &str| {
        let path = format!("/auth/sessions{query}");
        app.send_with_token(Method::GET, &path, &token).await
    };

    let all = list_sessions(&app, &token).await;
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = get(&format!("?limit=2&after={after}")).await;
        paged.extend(page.body["sessions"].as_array().unwrap().clone());
        // The last session of a page may end before the next page is read.
        if paged.len() == 2 {
            let path = format!("/auth/sessions/{}", paged[1]["id"].as_str().unwrap());
            assert_eq!(app.send_with_token(Method::DELETE, &path, &token).await.status, 204);
        }
        let Some(next) = page.body["next"].as_str() else { break };
        after = next.to_owned();
    }

    assert_eq!(paged, all);
    assert_eq!(all.len(), 5);
    assert_eq!(all[4]["current"], true, "the oldest session is the last one");
    for query in ["?limit=0", "?limit=201", "?after=x", "?after=1.x", "?before=1"] {
        get(query).await.assert_code(400, "invalid_query");
    }
}

async fn only_the_owner_ends_a_session(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let alice = app.register_and_open_session("alice").await;
    let bob = app.register_and_open_session("bob").await;
    let claims = decode_claims(&alice.access_token());
    let path = format!("/auth/sessions/{}", claims["sid"].as_str().unwrap());

    let refused = app.send_with_token(Method::DELETE, &path, &bob.access_token()).await;
    refused.assert_error(404, "not_found", "Not found");
    assert_eq!(app.dashboard(&alice.access_token()).await.status, 200);

    let ended = app.send_with_token(Method::DELETE, &path, &alice.access_token()).await;
    assert_eq!((ended.status.as_u16(), ended.text.as_str()), (204, ""));
    assert_revoked(&app.dashboard(&alice.access_token()).await);
    assert_refused(&app.refresh(&alice.refresh_token()).await);

    let bobs_token = bob.access_token();
    let malformed = app.send_with_token(Method::DELETE, "/auth/sessions/x", &bobs_token).await;
    malformed.assert_error(404, "not_found", "Not found");
}

async fn session_expires_after_its_lifetime(database: TestDatabase) {
    let app = TestApp::start_with_own_clock(&database, |config| {
        config.tokens.session_lifetime = Duration::from_mins(90);
        config.tokens.lifetime = Duration::from_hours(1);
    })
    .await;
    let first = app.register_and_open_session("alice").await;
    app.clock.advance(Duration::from_hours(1));
    let second = app.refresh(&first.refresh_token()).await;
    let expires_in = second.body["expires_in"].as_u64().unwrap();
    assert!(expires_in <= 30 * 60, "a token never outlives its session: {expires_in}");

    app.clock.advance(Duration::from_mins(31));

    assert_refused(&app.refresh(&second.refresh_token()).await);
    app.dashboard(&second.access_token()).await.assert_error(
        401,
        "token_expired",
        "Token has expired",
    );
    assert_eq!(app.metric("portcullis_refresh_tokens_reused_total").await, 0);
}

async fn idle_session_expires_when_configured(database: TestDatabase) {
    let app = TestApp::start_with_own_clock(&database, |config| {
        config.tokens.session_idle_timeout = Some(Duration::from_hours(2));
    })
    .await;
    let first = app.register_and_open_session("alice").await;
    app.clock.advance(Duration::from_mins(119));
    let second = app.refresh(&first.refresh_token()).await;
    assert_eq!(second.status, 200);

    app.clock.advance(Duration::from_mins(121));

    assert_refused(&app.refresh(&second.refresh_token()).await);
}

async fn idle_session_is_listed_while_its_token_is_valid(database: TestDatabase) {
    let app = TestApp::start_with_own_clock(&database, |config| {
        config.tokens.session_idle_timeout = Some(Duration::from_mins(1));
    })
    .await;
    let tokens = app.register_and_open_session("alice").await;
    app.clock.advance(Duration::from_mins(2));

    let sessions = list_sessions(&app, &tokens.access_token()).await;
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    let path = format!("/auth/sessions/{}", sessions[0]["id"].as_str().unwrap());
    let ended = app.send_with_token(Method::DELETE, &path, &tokens.access_token()).await;

    assert_eq!(ended.status, 204, "{ended:?}");
    assert_revoked(&app.dashboard(&tokens.access_token()).await);
}

async fn login_beyond_the_limit_ends_the_session_longest_unused(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| config.tokens.sessions_per_user = 2).await;
    let first = app.register_and_open_session("alice").await;
    let second = app.log_in("alice", "correct horse").await;
    let first = app.refresh(&first.refresh_token()).await;

    let third = app.log_in("alice", "correct horse").await;

    assert_revoked(&app.dashboard(&second.access_token()).await);
    for tokens in [&first, &third] {
        assert_eq!(app.dashboard(&tokens.access_token()).await.status, 200);
    }
    assert_eq!(list_sessions(&app, &third.access_token()).await.len(), 2);
}

/// Adds live revocations of an account.
async fn add_revocations(database: &TestDatabase, username: &str, count: u32) {
    let statement = match database {
        TestDatabase::Postgres { .. } => format!(
            "insert into revocations (id, expires_at, user_id)
             select gen_random_uuid(), now() + interval '30 minutes', id
             from users, generate_series(1, {count}) where username = '{username}'"
        ),
        TestDatabase::Sqlite(_) => format!(
            "insert into revocations (id, expires_at, user_id)
             with recursive n (i) as (select 1 union all select i + 1 from n where i < {count})
             select randomblob(16), (unixepoch() + 1800) * 1000000, id
             from users, n where username = '{username}'"
        ),
    };
    database.execute(&statement).await;
}

async fn login_beyond_the_revocation_limit_is_refused_until_they_expire(database: TestDatabase) {
    let app = TestApp::start_with_own_clock(&database, |_| {}).await;
    let sessions = [
        app.register_and_open_session("alice").await,
        app.log_in("alice", "correct horse").await,
        app.log_in("alice", "correct horse").await,
    ];
    app.register("bob", "correct horse").await;
    add_revocations(&database, "alice", 2_000).await;
    let log_in = async |name| app.log_in(name, "correct horse").await;

    assert_eq!(log_in("alice").await.status, 200);
    assert_eq!(app.log_out(&sessions[0].access_token()).await.status, 200);
    let refused = log_in("alice").await;

    refused.assert_code(429, "too_many_revocations");
    let retry_after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1_000..=1_800).contains(&retry_after), "{retry_after}");
    assert_eq!(app.metric(r#"portcullis_logins_total{outcome="too_many_revocations"}"#).await, 1);
    assert_eq!(log_in("bob").await.status, 200, "the limit is one for each account");
    assert_eq!(app.refresh(&sessions[1].refresh_token()).await.status, 200);
    let token = sessions[2].access_token();
    let ended = app.send_with_token(Method::POST, "/auth/logout-all", &token).await;
    assert_eq!(ended.status, 200, "sessions can always be ended");
    assert_revoked(&app.dashboard(&token).await);
    // The sessions that ended since count, too; the revocations before them expire in turn.
    // A read of the feed, such as that after a logout, sets the clock to the database's time again.
    eventually("the login is accepted", async || {
        app.clock.advance(Duration::from_secs(retry_after + 1));
        log_in("alice").await.status == 200
    })
    .await;
}

/// Locks the row of a session until the connection ends its transaction.
pub async fn lock_session(database: &TestDatabase, access_token: &str) -> PgConnection {
    let session_id = decode_claims(access_token)["sid"].as_str().unwrap().to_owned();
    let mut connection = database.connect().await;
    let lock = format!("begin; select from sessions where id = '{session_id}' for update");
    connection.execute(AssertSqlSafe(lock)).await.unwrap();
    connection
}

/// Waits until a statement waits for the lock of a row.
pub async fn lock_is_waited_for(database: &TestDatabase) {
    let select = "select count(*) from pg_stat_activity
                  where datname = current_database() and wait_event_type = 'Lock'";
    eventually("a lock is waited for", async || {
        let mut connection = database.connect().await;
        let count: i64 = sqlx::query_scalar(select).fetch_one(&mut connection).await.unwrap();
        count > 0
    })
    .await;
}

#[actix_web::test]
async fn locked_session_delays_only_its_own_refresh() {
    let test = async |database: TestDatabase| {
        let app = TestApp::start(&database).await;
        let alice = app.register_and_open_session("alice").await;
        let mut bob = app.register_and_open_session("bob").await;
        let mut lock = lock_session(&database, &alice.access_token()).await;

        let waiting = actix_web::rt::spawn({
            let (app, token) = (app.clone(), alice.refresh_token());
            async move { app.refresh(&token).await }
        });
        lock_is_waited_for(&database).await;
        for _ in 0..3 {
            bob = app.refresh(&bob.refresh_token()).await;
            assert_eq!(bob.status, 200, "{bob:?}");
        }

        assert!(!waiting.is_finished());
        lock.execute("rollback").await.unwrap();
        let refreshed = waiting.await.unwrap();
        assert_eq!(refreshed.status, 200, "{refreshed:?}");
        assert_eq!(app.refresh(&refreshed.refresh_token()).await.status, 200);
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn locked_session_delays_only_its_own_logout() {
    let test = async |database: TestDatabase| {
        let app = TestApp::start(&database).await;
        let root = app.register_admin(&database).await;
        let alice = app.register_and_open_session("alice").await.access_token();
        let others = [app.register_and_log_in("bob").await, app.register_and_log_in("carol").await];
        let mut lock = lock_session(&database, &alice).await;

        let waiting = actix_web::rt::spawn({
            let (app, token) = (app.clone(), alice.clone());
            async move { app.log_out(&token).await }
        });
        lock_is_waited_for(&database).await;
        for token in &others {
            assert_eq!(app.log_out(token).await.status, 200);
        }

        assert!(!waiting.is_finished());
        assert_eq!(app.dashboard(&alice).await.status, 200);
        lock.execute("rollback").await.unwrap();
        let ended = waiting.await.unwrap();
        assert_eq!(ended.status, 200, "{ended:?}");
        assert_revoked(&app.dashboard(&alice).await);
        let log = app.send_with_token(Method::GET, "/admin/audit?action=session.ended", &root);
        assert_eq!(log.await.body["records"].as_array().unwrap().len(), 3);
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn session_ended_by_the_lock_holder_is_over() {
    let test = async |database: TestDatabase| {
        let app = TestApp::start(&database).await;
        let alice = app.register_and_open_session("alice").await;
        let mut lock = lock_session(&database, &alice.access_token()).await;

        let waiting = actix_web::rt::spawn({
            let (app, token) = (app.clone(), alice.refresh_token());
            async move { app.refresh(&token).await }
        });
        lock_is_waited_for(&database).await;
        lock.execute("delete from sessions; commit").await.unwrap();

        assert_refused(&waiting.await.unwrap());
    };
    TestDatabase::postgres().await.run(test).await;
}
