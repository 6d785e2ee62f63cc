//! Accounts whose password hash was made by another system.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use portcullis::config::DatabaseSettings;
use portcullis::domain::{HashCost, PasswordHash, Username};
use portcullis::hashing::PasswordHasher;
use portcullis::store::{self, SchemaPolicy, Store};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Reply, TestApp, TestDatabase, credentials, eventually, on_both_databases, send, try_send,
};

on_both_databases![
    login_replaces_the_hash_of_another_system,
    replacement_keeps_a_higher_cost,
    unusable_hash_matches_no_password,
    hash_that_cannot_be_read_fails_no_list,
    long_password_of_another_system_logs_in,
    session_doors_accept_the_password_of_another_system,
    refusals_wait_for_the_slowest_hash_in_the_database,
    guess_whose_client_leaves_before_the_refusal_counts,
];

/// Hash made by a library of another system.
struct Vector {
    system: String,
    password: String,
    hash: PasswordHash,
}

/// Returns the vectors with low costs; `tests/moving/hash_vectors.py` makes them.
fn cheap_vectors() -> Vec<Vector> {
    let lines = include_str!("../moving/hash_vectors.jsonl").lines();
    let vectors = lines.filter_map(|line| {
        let vector: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| vector[name].as_str().map(str::to_owned);
        let hash = text("hash")?.parse().unwrap();
        Some(Vector { system: text("system")?, password: text("password")?, hash })
    });
    vectors.filter(|vector| vector.hash.cost().is_some_and(is_cheap)).collect()
}

fn is_cheap(cost: HashCost) -> bool {
    match cost {
        HashCost::Pbkdf2 { iterations, .. } => iterations.get() <= 1_000,
        HashCost::Bcrypt { cost } => cost == 4,
        HashCost::Scrypt { .. } | HashCost::Argon2 { .. } => cost.work() <= 16 << 20,
    }
}

/// Registers an account and gives it a hash.
async fn import(app: &TestApp, database: &TestDatabase, username: &str, hash: &str, cost: &str) {
    app.register(username, "correct horse").await;
    let update = format!(
        "update users set password_hash = '{hash}', hash_cost = '{cost}'
         where username = '{username}'"
    );
    database.execute(update).await;
}

async fn import_vector(app: &TestApp, database: &TestDatabase, username: &str, vector: &Vector) {
    let cost = vector.hash.cost().unwrap().to_string();
    import(app, database, username, &vector.hash.to_string(), &cost).await;
}

async fn open_store(database: &TestDatabase) -> Arc<dyn Store> {
    let settings = DatabaseSettings {
        database: database.config(),
        max_connections: 2,
        acquire_timeout: Duration::from_secs(3),
    };
    store::open(&settings, SchemaPolicy::Require, &|_| {}).await.expect("the database opens")
}

async fn stored_hash(store: &dyn Store, username: &str) -> PasswordHash {
    let username = Username::parse(username).unwrap();
    store.find_credentials(&username).await.unwrap().expect("the account exists").password_hash
}

fn assert_refused(reply: &Reply) {
    reply.assert_error(401, "invalid_credentials", "Invalid username or password");
}

async fn login_replaces_the_hash_of_another_system(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let store = open_store(&database).await;
    let is_chosen = |vector: &&Vector| {
        ["abc123", "Cafe\u{301} a\u{300} l’e\u{301}te\u{301}"].contains(&vector.password.as_str())
    };
    let vectors = cheap_vectors();

    for (number, vector) in vectors.iter().filter(is_chosen).enumerate() {
        let (username, system) = (format!("user-{number}"), &vector.system);
        import_vector(&app, &database, &username, vector).await;

        assert_refused(&app.log_in(&username, "wrong password").await);
        let logged_in = app.log_in(&username, &vector.password).await;
        assert_eq!(logged_in.status, 200, "{system}: {logged_in:?}");

        let is_replaced = async || stored_hash(&*store, &username).await.is_own();
        eventually("the hash is replaced", is_replaced).await;
        let cost = stored_hash(&*store, &username).await.cost().unwrap();
        assert_eq!(cost.to_string(), "pbkdf2-sha256:1000", "{system}");
        assert_eq!(app.log_in(&username, &vector.password).await.status, 200, "{system}");
        assert_refused(&app.log_in(&username, "wrong password").await);
    }
    assert_refused(&app.log_in("unknown", "wrong password").await);
}

async fn replacement_keeps_a_higher_cost(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let store = open_store(&database).await;
    let password = portcullis::domain::Password::parse("correct horse").unwrap();
    let own = |iterations| {
        let hasher = PasswordHasher::new(NonZeroU32::new(iterations).unwrap());
        hasher.hash(&password).unwrap()
    };
    let django = own(5_000).to_django().unwrap();
    import(&app, &database, "costlier", &own(7_000).to_string(), "pbkdf2-sha256:7000").await;
    import(&app, &database, "django", &django, "pbkdf2-sha256:5000").await;
    import(&app, &database, "cheaper", &own(10).to_string(), "pbkdf2-sha256:10").await;
    let before = stored_hash(&*store, "costlier").await;

    for (username, cost) in [("costlier", 7_000), ("django", 5_000), ("cheaper", 1_000)] {
        assert_eq!(app.log_in(username, "correct horse").await.status, 200);
        let cost: HashCost = format!("pbkdf2-sha256:{cost}").parse().unwrap();
        let has_cost = async || {
            let hash = stored_hash(&*store, username).await;
            hash.is_own() && hash.cost() == Some(cost)
        };
        eventually("the hash has the higher of both costs", has_cost).await;
    }
    assert_eq!(stored_hash(&*store, "costlier").await, before, "the setting is lower");
}

async fn unusable_hash_matches_no_password(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    app.register("alice", "correct horse").await;
    let update = "update users set password_hash = '!unusable', hash_cost = null";
    database.execute(update).await;

    for password in ["!unusable", "unusable", "!", "correct horse"] {
        assert_refused(&app.log_in("alice", password).await);
    }
}

async fn hash_that_cannot_be_read_fails_no_list(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let root = app.register_admin(&database).await;
    let too_costly = "pbkdf2:sha256:5000001$salt$000102030405060708090a0b0c0d0e0f";
    import(&app, &database, "costly", too_costly, "pbkdf2-sha256:5000001").await;
    import(&app, &database, "plain", "correct horse", "plain").await;

    let listed = app.send_with_token(Method::GET, "/admin/users", &root).await;

    assert_eq!(listed.status, 200, "{listed:?}");
    let users = listed.body["users"].as_array().unwrap();
    let broken = |user: &Value| (user["username"].clone(), user["broken"].clone());
    let unreadable = json!("users.password_hash");
    assert_eq!(
        users.iter().map(broken).collect::<Vec<_>>(),
        [
            (json!("costly"), unreadable.clone()),
            (json!("plain"), unreadable),
            (json!("root"), Value::Null),
        ]
    );
    assert_eq!(app.log_in("root", "correct horse").await.status, 200);
    assert_refused(&app.log_in("unknown", "correct horse").await);
}

async fn long_password_of_another_system_logs_in(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let vectors = cheap_vectors();
    let is_long = |vector: &&Vector| vector.password.chars().count() == 300;

    for vector in vectors.iter().filter(is_long) {
        let username = vector.system.replace(' ', "-");
        import_vector(&app, &database, &username, vector).await;

        let logged_in = app.log_in(&username, &vector.password).await;
        assert_eq!(logged_in.status, 200, "{username}: {logged_in:?}");
        assert_refused(&app.log_in(&username, &vector.password[1..]).await);
    }
    let new = app.register("alice", &"a".repeat(257)).await;
    new.assert_code(400, "invalid_password");
}

async fn session_doors_accept_the_password_of_another_system(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let token = app.register_and_log_in("alice").await;
    let vector = cheap_vectors().into_iter().find(|vector| vector.system == "bcrypt").unwrap();
    let cost = vector.hash.cost().unwrap();
    let imports =
        format!("update users set password_hash = '{}', hash_cost = '{cost}'", vector.hash);
    database.execute(imports).await;
    let change = async |current: &str| {
        let body = json!({ "current_password": current, "new_password": "battery staple" });
        send(app.request(Method::PUT, "/auth/password").bearer_auth(&token).json(&body)).await
    };

    change("correct horse").await.assert_code(401, "wrong_password");
    assert_eq!(change(&vector.password).await.status, 200);
    assert_eq!(app.log_in("alice", "battery staple").await.status, 200);
}

/// Starts an instance on a database with a costly hash: refusals wait for two seconds, half of the
/// request timeout.
async fn start_beside_a_costly_hash(database: &TestDatabase) -> TestApp {
    let first = TestApp::start(database).await;
    for username in ["alice", "bob", "carol"] {
        first.register(username, "correct horse").await;
    }
    let costliest = "update users set hash_cost = 'pbkdf2-sha256:5000000' where username = 'bob'";
    database.execute(costliest).await;
    let set_timeout = |config: &mut portcullis::config::Config| {
        config.http.request_timeout = Duration::from_secs(4);
    };
    let app = TestApp::start_with(database, set_timeout).await;
    let waits = async || outlasts_logins(&app, "unknown", "wrong password").await;
    eventually("the costs have been read", waits).await;
    app
}

/// Returns `true` if several logins, one after the other, succeed before a password is refused.
async fn outlasts_logins(app: &TestApp, username: &str, password: &str) -> bool {
    let refused = app.log_in(username, password);
    let logins = async {
        for _ in 0..5 {
            assert_eq!(app.log_in("carol", "correct horse").await.status, 200);
        }
    };
    tokio::select! {
        biased;
        reply = refused => { assert_refused(&reply); false }
        () = logins => true,
    }
}

async fn refusals_wait_for_the_slowest_hash_in_the_database(database: TestDatabase) {
    let app = start_beside_a_costly_hash(&database).await;

    for username in ["alice", "bob", "not\u{200b}a\u{200b}name", "unknown"] {
        let waits = async || outlasts_logins(&app, username, "wrong password").await;
        eventually("the refusal waits", waits).await;
    }
    assert_refused(&app.log_in("unknown", "wrong password").await);
    let disable = "update users set disabled_at = created_at where username = 'alice'";
    database.execute(disable).await;
    let waits = async || outlasts_logins(&app, "alice", "correct horse").await;
    eventually("the refusal of a right password waits", waits).await;
}

/// A right password is accepted before a wrong one is refused, so that a client could leave
/// between the two.
async fn guess_whose_client_leaves_before_the_refusal_counts(database: TestDatabase) {
    let app = start_beside_a_costly_hash(&database).await;
    let guess = credentials("alice", "wrong password");

    let is_throttled = async || {
        for _ in 0..6 {
            let request = app.request(Method::POST, "/auth/login").json(&guess);
            // Long enough for the hash, on most attempts, and too short for the refusal.
            let _ = try_send(request.timeout(Duration::from_millis(300))).await;
        }
        app.log_in("alice", "correct horse").await.status == 429
    };
    eventually("the guesses are counted", is_throttled).await;
}
