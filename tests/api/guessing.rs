//! Attackers who guess passwords, and owners who log in meanwhile.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Reply, TestApp, TestDatabase, credentials, decode_claims, eventually, on_both_databases, send,
};

on_both_databases![
    failures_of_a_username_are_delayed,
    addresses_of_an_attacker_share_one_counter,
    hundredth_failure_locks_strangers_out_for_a_day,
    unknown_username_is_refused_like_a_known_one,
    parallel_guesses_are_hashed_as_often_as_the_pace_allows,
    pace_holds_across_a_restart,
    known_device_has_a_counter_of_its_own,
    device_token_is_void_after_a_change_of_the_password,
    known_network_has_a_counter_of_its_own,
    network_is_forgotten_after_a_month,
    fleet_with_the_right_password_is_never_delayed,
    guesses_in_a_session_end_it,
    administrator_clears_the_failures,
    new_password_of_an_administrator_clears_the_failures,
    guesses_before_a_registration_do_not_delay_its_owner,
    random_usernames_leave_one_row_a_hash,
    clock_that_is_set_back_prolongs_no_delay,
    attempts_of_a_killed_instance_count_as_failures,
    abandoned_attempts_count_as_none,
    first_login_from_a_network_is_marked,
];

const PASSWORD: &str = "correct horse";
const STRANGER: &str = "203.0.113.66";
const OWNER: &str = "192.0.2.7";

/// Starts an application that takes the addresses of clients from the tests.
async fn start(database: &TestDatabase) -> TestApp {
    TestApp::start_with(database, |config| {
        config.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await
}

/// Logs in from an address, with the members of `more` in the body.
async fn log_in(app: &TestApp, address: &str, password: &str, more: &[(&str, &str)]) -> Reply {
    let mut body = credentials("alice", password);
    for (name, value) in more {
        body[*name] = json!(value);
    }
    let request = app.request(Method::POST, "/auth/login").header("x-forwarded-for", address);
    send(request.json(&body)).await
}

async fn guess(app: &TestApp, address: &str) -> Reply {
    log_in(app, address, "wrong guess", &[]).await
}

/// Lets time pass for the failure counters and the known networks.
async fn pass(database: &TestDatabase, seconds: i64) {
    let (latest, next, login) = match database {
        TestDatabase::Postgres { .. } => {
            let earlier = |column| format!("{column} - interval '{seconds} seconds'");
            (earlier("latest_at"), earlier("next_at"), earlier("latest_login_at"))
        }
        TestDatabase::Sqlite(_) => {
            let earlier = |column| format!("{column} - {seconds} * 1000000");
            (earlier("latest_at"), earlier("next_at"), earlier("latest_login_at"))
        }
    };
    database
        .execute(format!("update failure_counters set latest_at = {latest}, next_at = {next}"))
        .await;
    database.execute(format!("update known_networks set latest_login_at = {login}")).await;
}

/// Makes the number of guesses that are not delayed.
async fn use_up_free_guesses(app: &TestApp) {
    for _ in 0..5 {
        guess(app, STRANGER).await.assert_code(401, "invalid_credentials");
    }
}

fn assert_delayed(reply: &Reply, seconds: u64) {
    reply.assert_error(429, "too_many_attempts", "Too many attempts, try again later");
    assert_eq!(reply.header("retry-after"), Some(seconds.to_string().as_str()));
}

fn device_token_of(login: &Reply) -> String {
    login.body["device_token"].as_str().unwrap().to_owned()
}

async fn hashes(app: &TestApp) -> u64 {
    app.metric(r#"portcullis_hash_jobs_total{outcome="completed"}"#).await
}

async fn failures_of_a_username_are_delayed(database: TestDatabase) {
    let app = start(&database).await;
    app.register("alice", PASSWORD).await;
    use_up_free_guesses(&app).await;

    for delay in [1, 3, 5, 10, 30, 60, 60] {
        assert_delayed(&guess(&app, STRANGER).await, delay);
        assert_delayed(&log_in(&app, STRANGER, PASSWORD, &[]).await, delay);
        pass(&database, delay.try_into().unwrap()).await;
        guess(&app, STRANGER).await.assert_code(401, "invalid_credentials");
    }

    pass(&database, 60).await;
    assert_eq!(log_in(&app, STRANGER, PASSWORD, &[]).await.status, 200);
    // The login has reset the counter; its network is known now.
    use_up_free_guesses(&app).await;
    let refused = |reason: &str| {
        format!(r#"portcullis_passwords_refused_total{{door="login",reason="{reason}"}}"#)
    };
    assert_eq!(app.metric(&refused("wrong_password")).await, 17);
    assert_eq!(app.metric(&refused("too_many_attempts")).await, 14);
    assert_eq!(app.metric(r#"portcullis_logins_total{outcome="too_many_attempts"}"#).await, 14);
}

async fn addresses_of_an_attacker_share_one_counter(database: TestDatabase) {
    let app = start(&database).await;
    app.register("alice", PASSWORD).await;
    let device_token = device_token_of(&log_in(&app, OWNER, PASSWORD, &[]).await);
    let before = hashes(&app).await;

    for address in 0..250 {
        guess(&app, &format!("203.0.113.{address}")).await;
    }

    // All of them within the second of the first delay, or a few more on a slow machine.
    let guesses = hashes(&app).await - before;
    assert!((5..=12).contains(&guesses), "{guesses} guesses were hashed");
    assert_eq!(log_in(&app, OWNER, PASSWORD, &[]).await.status, 200);
    let elsewhere = log_in(&app, STRANGER, PASSWORD, &[("device_token", &device_token)]).await;
    assert_eq!(elsewhere.status, 200, "{elsewhere:?}");
}

async fn hundredth_failure_locks_strangers_out_for_a_day(database: TestDatabase) {
    let app = start(&database).await;
    app.register("alice", PASSWORD).await;
    assert_eq!(log_in(&app, OWNER, PASSWORD, &[]).await.status, 200);
    guess(&app, STRANGER).await.assert_code(401, "invalid_credentials");
    database.execute("update failure_counters set failures = 99 where failures = 1").await;

    guess(&app, STRANGER).await.assert_code(401, "invalid_credentials");

    let locked = log_in(&app, "203.0.113.1", PASSWORD, &[]).await;
    locked.assert_code(429, "too_many_attempts");
    let wait: u64 = locked.header("retry-after").unwrap().parse().unwrap();
    assert!((86_390..=86_400).contains(&wait), "{wait}");
    assert_eq!(log_in(&app, OWNER, PASSWORD, &[]).await.status, 200);
    pass(&database, 86_401).await;
    use_up_free_guesses(&app).await;
}

async fn unknown_username_is_refused_like_a_known_one(database: TestDatabase) {
    let app = start(&database).await;

    use_up_free_guesses(&app).await;

    assert_delayed(&guess(&app, STRANGER).await, 1);
}

async fn parallel_guesses_are_hashed_as_often_as_the_pace_allows(database: TestDatabase) {
    let instances = [start(&database).await, start(&database).await];
    instances[0].register("alice", PASSWORD).await;
    let hashes = async || hashes(&instances[0]).await + hashes(&instances[1]).await;
    let before = hashes().await;

    let guesses = (0..50).map(|i| guess(&instances[i % 2], STRANGER));
    let replies = join_all(guesses).await;

    let checked = replies.iter().filter(|reply| reply.status == 401).count();
    assert!(replies.iter().all(|reply| reply.status == 401 || reply.status == 429), "{replies:?}");
    assert_eq!(hashes().await - before, checked as u64);
    // More only if the first delay passes meanwhile.
    assert!((5..=7).contains(&checked), "{checked} guesses were hashed");
}

async fn pace_holds_across_a_restart(database: TestDatabase) {
    let app = start(&database).await;
    app.register("alice", PASSWORD).await;
    assert_eq!(log_in(&app, OWNER, PASSWORD, &[]).await.status, 200);
    use_up_free_guesses(&app).await;
    database.execute("update failure_counters set failures = 10 where failures = 5").await;
    pass(&database, 1).await;
    guess(&app, STRANGER).await.assert_code(401, "invalid_credentials");
    drop(app);

    let restarted = start(&database).await;

    assert_delayed(&guess(&restarted, STRANGER).await, 60);
    assert_eq!(log_in(&restarted, OWNER, PASSWORD, &[]).await.status, 200);
}

async fn known_device_has_a_counter_of_its_own(database: TestDatabase) {
    let app = start(&database).await;
    app.register("alice", PASSWORD).await;
    let login = log_in(&app, "192.0.2.1", PASSWORD, &[]).await;
    let device_token = device_token_of(&login);
    let with_device = [("device_token", device_token.as_str())];
    use_up_free_guesses(&app).await;
    assert_delayed(&guess(&app, STRANGER).await, 1);

    let second = log_in(&app, "198.51.100.1", PASSWORD, &with_device).await;

    assert_eq!(second.status, 200, "{second:?}");
    let forged = "A".repeat(107);
    let forged = log_in(&app, STRANGER, PASSWORD, &[("device_token", &forged)]).await;
    assert_delayed(&forged, 1);
    // A thief of the token has no more guesses than a stranger.
    for _ in 0..5 {
        let guess = log_in(&app, STRANGER, "wrong guess", &with_device).await;
        guess.assert_code(401, "invalid_credentials");
    }
    assert_delayed(&log_in(&app, STRANGER, "wrong guess", &with_device).await, 1);
    // The next login of the device has kept its identity.
    let renewed = device_token_of(&second);
    assert_delayed(&log_in(&app, STRANGER, PASSWORD, &[("device_token", &renewed)]).await, 1);
}

async fn device_token_is_void_after_a_change_of_the_password(database: TestDatabase) {
    let app = start(&database).await;
    app.register("alice", PASSWORD).await;
    let login = log_in(&app, "192.0.2.1", PASSWORD, &[]).await;
    let device_token = device_token_of(&login);
    let change = json!({ "current_password": PASSWORD, "new_password": "battery staple" });
    let request = app.request(Method::PUT, "/auth/password").bearer_auth(login.access_token());
    assert_eq!(send(request.json(&change)).await.status, 200);
    use_up_free_guesses(&app).await;

    let login = log_in(&app, OWNER, "battery staple", &[("device_token", &device_token)]).await;

    assert_delayed(&login, 1);
}

async fn known_network_has_a_counter_of_its_own(database: TestDatabase) {
    let app = start(&database).await;
    app.register("alice", PASSWORD).await;
    assert_eq!(log_in(&app, OWNER, PASSWORD, &[]).await.status, 200);
    assert_eq!(log_in(&app, "2001:db8:1:2ff::1", PASSWORD, &[]).await.status, 200);
    use_up_free_guesses(&app).await;
    assert_delayed(&guess(&app, STRANGER).await, 1);

    assert_eq!(log_in(&app, OWNER, PASSWORD, &[]).await.status, 200);
    let same_customer = log_in(&app, "2001:db8:1:200::2", PASSWORD, &[]).await;
    assert_eq!(same_customer.status, 200);
    assert_delayed(&log_in(&app, "2001:db8:1:300::1", PASSWORD, &[]).await, 1);
    for _ in 0..5 {
        guess(&app, OWNER).await.assert_code(401, "invalid_credentials");
    }
    assert_delayed(&log_in(&app, OWNER, PASSWORD, &[]).await, 1);
}

async fn network_is_forgotten_after_a_month(database: TestDatabase) {
    let app = start(&database).await;
    app.register("alice", PASSWORD).await;
    assert_eq!(log_in(&app, OWNER, PASSWORD, &[]).await.status, 200);
    pass(&database, 31 * 86_400).await;
    use_up_free_guesses(&app).await;

    assert_delayed(&log_in(&app, OWNER, PASSWORD, &[]).await, 1);
}

async fn fleet_with_the_right_password_is_never_delayed(database: TestDatabase) {
    let instances = [start(&database).await, start(&database).await];
    instances[0].register("alice", PASSWORD).await;

    let logins = (0..40).map(|i| log_in(&instances[i % 2], STRANGER, PASSWORD, &[]));
    let replies = join_all(logins).await;

    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
}

async fn guesses_in_a_session_end_it(database: TestDatabase) {
    let app = start(&database).await;
    let token = app.register_and_log_in("alice").await;
    let change = async || {
        let body = json!({ "current_password": "wrong", "new_password": "battery staple" });
        send(app.request(Method::PUT, "/auth/password").bearer_auth(&token).json(&body)).await
    };
    let delete = async || {
        let body = json!({ "password": "wrong" });
        send(app.request(Method::DELETE, "/auth/me").bearer_auth(&token).json(&body)).await
    };

    for attempt in 0..9 {
        let refused = if attempt % 2 == 0 { change().await } else { delete().await };
        refused.assert_code(401, "wrong_password");
        if attempt >= 4 {
            change().await.assert_code(429, "too_many_attempts");
            pass(&database, 60).await;
        }
    }
    assert_eq!(app.dashboard(&token).await.status, 200);
    delete().await.assert_code(401, "wrong_password");

    app.dashboard(&token).await.assert_code(401, "token_revoked");
    assert_eq!(app.log_in("alice", PASSWORD).await.status, 200);
}

async fn administrator_clears_the_failures(database: TestDatabase) {
    let app = start(&database).await;
    let root = app.register_admin(&database).await;
    let alice = decode_claims(&app.register_and_log_in("alice").await);
    let path = format!("/admin/users/{}/throttle", alice["sub"].as_str().unwrap());
    use_up_free_guesses(&app).await;
    assert_delayed(&guess(&app, STRANGER).await, 1);
    eventually("the delay is recorded", async || {
        let path = "/admin/audit?action=login.refused";
        let log = app.send_with_token(Method::GET, path, &root).await;
        log.body["records"][0]["detail"] == "alice: too many attempts"
    })
    .await;

    let cleared = app.send_with_token(Method::DELETE, &path, &root).await;

    assert_eq!(cleared.status, 204, "{cleared:?}");
    assert_eq!(log_in(&app, STRANGER, PASSWORD, &[]).await.status, 200);
    let log = app.send_with_token(Method::GET, "/admin/audit?action=user.unthrottled", &root).await;
    assert_eq!(log.body["records"][0]["subject"], alice["sub"]);
    let unknown = "/admin/users/00000000-0000-0000-0000-000000000001/throttle";
    app.send_with_token(Method::DELETE, unknown, &root).await.assert_code(404, "not_found");
    let token = app.log_in_for_token("alice").await;
    app.send_with_token(Method::DELETE, &path, &token).await.assert_code(403, "permission_missing");
}

async fn new_password_of_an_administrator_clears_the_failures(database: TestDatabase) {
    let app = start(&database).await;
    let root = app.register_admin(&database).await;
    let alice = decode_claims(&app.register_and_log_in("alice").await);
    let path = format!("/admin/users/{}/password", alice["sub"].as_str().unwrap());
    use_up_free_guesses(&app).await;
    assert_delayed(&guess(&app, STRANGER).await, 1);

    let request = app.request(Method::PUT, &path).bearer_auth(&root);
    let set = send(request.json(&json!({ "password": "battery staple" }))).await;

    assert_eq!(set.status, 200, "{set:?}");
    assert_eq!(log_in(&app, STRANGER, "battery staple", &[]).await.status, 200);
}

async fn guesses_before_a_registration_do_not_delay_its_owner(database: TestDatabase) {
    let app = start(&database).await;
    use_up_free_guesses(&app).await;
    assert_delayed(&guess(&app, STRANGER).await, 1);

    app.register("alice", PASSWORD).await;

    assert_eq!(log_in(&app, OWNER, PASSWORD, &[]).await.status, 200);
}

async fn random_usernames_leave_one_row_a_hash(database: TestDatabase) {
    let app = start(&database).await;
    let names: Vec<_> = (0..30).map(|number| format!("user{number}")).collect();

    for name in names.iter().chain(&names) {
        app.log_in(name, "wrong guess").await.assert_code(401, "invalid_credentials");
    }

    // A row too many would violate the condition, and the statement would fail.
    database.execute("create table rows as select count(*) as count from failure_counters").await;
    database.execute("insert into rows select 1 / (30 / count) from rows where count > 30").await;
}

async fn clock_that_is_set_back_prolongs_no_delay(database: TestDatabase) {
    let app = start(&database).await;
    app.register("alice", PASSWORD).await;
    use_up_free_guesses(&app).await;
    assert_delayed(&guess(&app, STRANGER).await, 1);

    pass(&database, -3600).await;

    guess(&app, STRANGER).await.assert_code(401, "invalid_credentials");
    assert_delayed(&guess(&app, STRANGER).await, 3);
}

async fn attempts_of_a_killed_instance_count_as_failures(database: TestDatabase) {
    let app = start(&database).await;
    app.register("alice", PASSWORD).await;
    guess(&app, STRANGER).await.assert_code(401, "invalid_credentials");
    database.execute("update failure_counters set in_flight = 4").await;

    pass(&database, 121).await;

    guess(&app, STRANGER).await.assert_code(401, "invalid_credentials");
    assert_delayed(&guess(&app, STRANGER).await, 3);
}

async fn abandoned_attempts_count_as_none(database: TestDatabase) {
    let app = TestApp::start_with(&database, |config| {
        config.hashing.threads = 1;
        config.hashing.iterations = std::num::NonZeroU32::new(2_000_000).unwrap();
    })
    .await;
    let depth_is = async |depth: u64| app.metric("portcullis_hash_queue_depth").await == depth;
    let guesses: Vec<_> = (0..4)
        .map(|_| {
            let request = app.request(Method::POST, "/auth/login");
            actix_web::rt::spawn(request.json(&credentials("alice", "wrong guess")).send())
        })
        .collect();
    eventually("four guesses are queued", || depth_is(4)).await;

    guesses.iter().for_each(tokio::task::JoinHandle::abort);

    eventually("the queue is empty", || depth_is(0)).await;
    for _ in 0..5 {
        app.log_in("alice", "wrong guess").await.assert_code(401, "invalid_credentials");
    }
}

async fn first_login_from_a_network_is_marked(database: TestDatabase) {
    let app = start(&database).await;
    let root = app.register_admin(&database).await;
    app.register("alice", PASSWORD).await;

    for address in [OWNER, OWNER, "198.51.100.1"] {
        assert_eq!(log_in(&app, address, PASSWORD, &[]).await.status, 200);
    }

    let log = app.send_with_token(Method::GET, "/admin/audit?action=session.opened", &root).await;
    let details: Vec<_> = log.body["records"].as_array().unwrap()[..3]
        .iter()
        .map(|record| (&record["ip"], &record["detail"]))
        .collect();
    let new = json!("new network");
    assert_eq!(
        details,
        [(&json!("198.51.100.1"), &new), (&json!(OWNER), &Value::Null), (&json!(OWNER), &new),]
    );
}

/// A deferred trigger sees the setting with which its transaction is committed.
#[actix_web::test]
async fn attempts_do_not_wait_for_the_disk_but_sessions_and_revocations_do() {
    let test = async |database: TestDatabase| {
        let TestDatabase::Postgres { name, .. } = &database else { panic!("not Postgres") };
        database.execute(format!("alter database {name} set synchronous_commit = on")).await;
        let app = start(&database).await;
        database
            .execute(
                "create table commits (subject text, setting text);
                 create function note_commit() returns trigger language plpgsql as $$
                 begin
                     insert into commits
                     values (tg_table_name, current_setting('synchronous_commit'));
                     return null;
                 end $$",
            )
            .await;
        for table in ["failure_counters", "known_networks", "sessions", "revocations"] {
            let trigger = format!(
                "create constraint trigger note_commit after insert or update on {table}
                 deferrable initially deferred for each row execute function note_commit()"
            );
            database.execute(trigger).await;
        }

        app.register("alice", PASSWORD).await;
        guess(&app, STRANGER).await;
        let token = log_in(&app, OWNER, PASSWORD, &[]).await.access_token();
        app.log_out(&token).await;

        let select = "select distinct subject, setting from commits order by 1";
        let mut connection = database.connect().await;
        let commits: Vec<(String, String)> =
            sqlx::query_as(select).fetch_all(&mut connection).await.unwrap();
        let commits: Vec<_> = commits.iter().map(|(of, is)| (of.as_str(), is.as_str())).collect();
        let expected = [
            ("failure_counters", "off"),
            ("known_networks", "off"),
            ("revocations", "on"),
            ("sessions", "on"),
        ];
        assert_eq!(commits, expected);
    };
    TestDatabase::postgres().await.run(test).await;
}
