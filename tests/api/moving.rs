//! Accounts that move between systems: external ids and metadata, import and export.

use std::process::Stdio;

use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::{
    Outcome, Process, Reply, TestApp, TestDatabase, credentials, eventually, on_both_databases,
    run_command, send,
};

on_both_databases![
    external_id_and_metadata_are_set_and_shown,
    external_id_is_unique,
    malformed_details_are_refused,
    imported_account_logs_in,
    import_leaves_existing_accounts_as_they_are,
    account_of_a_stranger_is_not_taken_for_the_imported_one,
    row_that_repeats_an_earlier_one_is_refused,
    text_of_the_file_is_escaped_in_the_report,
    rows_that_cannot_be_imported_are_reported,
    dry_run_changes_nothing,
    killed_import_goes_on,
    exported_accounts_log_in_elsewhere,
    report_about_an_account_has_all_but_the_hash,
];

/// Reason for a row whose username an account has that may not be the same.
const MAY_BE_ANOTHER: &str = "the username belongs to an account that may be of another person; if it is not, leave the row \
     out or give it the id of the account";

/// Returns what the command prints about the numbers of rows.
fn summary(outcome: &Outcome) -> &str {
    outcome.stderr.lines().find(|line| line.contains(" refused")).unwrap_or_default()
}

fn command(database: &TestDatabase, arguments: &[&str]) -> Command {
    let mut command = Process::command(database);
    command.env_remove("JWT_SECRET_KEY").args(arguments);
    command
}

async fn run(database: &TestDatabase, arguments: &[&str], input: &str) -> Outcome {
    run_command(&mut command(database, arguments), input).await
}

async fn import(database: &TestDatabase, rows: &[Value]) -> Outcome {
    let lines: Vec<_> = rows.iter().map(Value::to_string).collect();
    run(database, &["user", "import", "-", "--json"], &lines.join("\n")).await
}

/// Returns the hash of the password `correct horse`.
async fn hash_of_password(database: &TestDatabase, app: &TestApp) -> String {
    app.register("template", "correct horse").await;
    let exported = run(database, &["user", "export"], "").await;
    let mut accounts = exported.json_lines().into_iter();
    let template = accounts.find(|account| account["username"] == "template").unwrap();
    template["password_hash"].as_str().unwrap().to_owned()
}

async fn put(app: &TestApp, token: &str, path: &str, body: &Value) -> Reply {
    send(app.request(Method::PUT, path).bearer_auth(token).json(body)).await
}

async fn introspect(app: &TestApp, bearer: &str, token: &str) -> Value {
    let request = app
        .request(Method::POST, "/oauth/introspect")
        .bearer_auth(bearer)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("token={token}"));
    send(request).await.body
}

async fn external_id_and_metadata_are_set_and_shown(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = app.register_admin(&database).await;
    let mut new = credentials("alice", "correct horse");
    new["external_id"] = json!("42");
    new["metadata"] = json!({ "plan": "pro" });
    let created = app.request(Method::POST, "/admin/users").bearer_auth(&admin).json(&new);
    let created = send(created).await;
    let path = created.header("location").unwrap().to_owned();
    let token = app.log_in_for_token("alice").await;
    let details = |body: &Value| (body["external_id"].clone(), body["metadata"].clone());

    assert_eq!(details(&created.body), (json!("42"), json!({ "plan": "pro" })));
    // From the database, and from memory.
    for _ in 0..2 {
        let introspected = introspect(&app, &admin, &token).await;
        assert_eq!(details(&introspected), (json!("42"), json!({ "plan": "pro" })));
    }

    let metadata = json!({ "metadata": { "plan": "basic", "é": [1, null] } });
    put(&app, &admin, &format!("{path}/external-id"), &json!({ "external_id": "43" })).await;
    let changed = put(&app, &admin, &format!("{path}/metadata"), &metadata).await;

    let expected = (json!("43"), metadata["metadata"].clone());
    assert_eq!(details(&changed.body), expected);
    // No session ends.
    let own = app.send_with_token(Method::GET, "/auth/me", &token).await;
    assert_eq!((own.status.as_u16(), details(&own.body)), (200, expected.clone()));
    assert_eq!(details(&introspect(&app, &admin, &token).await), expected);
    let found = app.send_with_token(Method::GET, "/admin/users?external_id=43", &admin).await;
    assert_eq!(found.body["users"][0]["username"], "alice");
    let none = app.send_with_token(Method::GET, "/admin/users?external_id=42", &admin).await;
    assert_eq!(none.body["users"], json!([]));
    let listed = run(&database, &["user", "list", "--external-id", "43", "--json"], "").await;
    assert_eq!(listed.json_lines()[0]["metadata"], metadata["metadata"]);
    let other_prefix = ["user", "list", "--external-id", "43", "--prefix", "bob", "--json"];
    assert_eq!(run(&database, &other_prefix, "").await.stdout, "");

    put(&app, &admin, &format!("{path}/external-id"), &json!({ "external_id": null })).await;
    let set = ["user", "set-metadata", "alice", r#"{"plan":"free"}"#];
    assert_eq!(run(&database, &set, "").await.exit_code, Some(0));
    let own = app.send_with_token(Method::GET, "/auth/me", &token).await;
    assert_eq!(details(&own.body), (Value::Null, json!({ "plan": "free" })));
}

async fn external_id_is_unique(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = app.register_admin(&database).await;
    for name in ["alice", "bob"] {
        app.register(name, "correct horse").await;
    }
    let set = async |name, id| run(&database, &["user", "set-external-id", name, id], "").await;
    assert_eq!(set("alice", "42").await.exit_code, Some(0));

    let taken = set("bob", "42").await;
    let mut new = credentials("carol", "correct horse");
    new["external_id"] = json!("42");
    let refused = app.request(Method::POST, "/admin/users").bearer_auth(&admin).json(&new);

    assert_eq!((taken.exit_code, set("bob", "43").await.exit_code), (Some(4), Some(0)));
    send(refused).await.assert_code(409, "external_id_taken");
    let users = app.send_with_token(Method::GET, "/admin/users?username=bob", &admin).await;
    let path =
        format!("/admin/users/{}/external-id", users.body["users"][0]["id"].as_str().unwrap());
    let refused = put(&app, &admin, &path, &json!({ "external_id": "42" })).await;
    refused.assert_code(409, "external_id_taken");
}

async fn malformed_details_are_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let admin = app.register_admin(&database).await;
    let users = app.send_with_token(Method::GET, "/admin/users", &admin).await;
    let path = format!("/admin/users/{}", users.body["users"][0]["id"].as_str().unwrap());
    let external_id = format!("{path}/external-id");
    let metadata = format!("{path}/metadata");

    for id in [json!(""), json!("a\0"), json!("x".repeat(256))] {
        let refused = put(&app, &admin, &external_id, &json!({ "external_id": id })).await;
        refused.assert_code(400, "invalid_external_id");
    }
    for object in [json!([]), json!("{}"), Value::Null, json!({ "a": "x".repeat(4096) })] {
        let refused = put(&app, &admin, &metadata, &json!({ "metadata": object })).await;
        refused.assert_code(400, "invalid_metadata");
    }
    // A misspelt field removes nothing.
    put(&app, &admin, &external_id, &json!({ "externalId": "1" }))
        .await
        .assert_code(400, "invalid_body");
    put(&app, &admin, &metadata, &json!({})).await.assert_code(400, "invalid_body");
}

/// Returns the reasons for the rows that were not added.
fn reasons(imported: &Outcome) -> Vec<Value> {
    imported.json_lines().iter().map(|row| row["reason"].clone()).collect()
}

async fn imported_account_logs_in(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let hash = hash_of_password(&database, &app).await;
    let john = json!({
        "username": "John Doe", "password_hash": hash, "roles": ["user", "admin"], "external_id": 7,
        "metadata": { "plan": "pro" }, "created_at": "2020-05-01 10:00:00",
    });
    let retired = json!({ "username": "retired", "password_hash": hash, "disabled": true });

    let imported = import(&database, &[john, retired]).await;

    assert_eq!(summary(&imported), "2 added, 0 there already, 0 refused");
    for name in ["John Doe", "john doe", " JOHN\u{a0} Doe "] {
        assert_eq!(app.log_in(name, "correct horse").await.status, 200, "{name:?}");
    }
    app.log_in("retired", "correct horse").await.assert_code(401, "invalid_credentials");
    app.log_in("John Doe", "wrong horse").await.assert_code(401, "invalid_credentials");
    let token = app.log_in_for_token("John Doe").await;
    let own = app.send_with_token(Method::GET, "/auth/me", &token).await;
    let account = &own.body;
    assert_eq!(
        [&account["username"], &account["created_at"], &account["external_id"], &account["roles"]],
        [
            &json!("John Doe"),
            &json!("2020-05-01T10:00:00Z"),
            &json!("7"),
            &json!(["admin", "user"])
        ]
    );
    let checked = app.send_with_token(Method::GET, "/auth/check", &token).await;
    assert_eq!(checked.header("x-auth-username"), Some("John%20Doe"));
    let log = app.send_with_token(Method::GET, "/admin/audit?action=user.imported", &token).await;
    assert_eq!(log.body["records"].as_array().map(Vec::len), Some(2));
    // A new account follows the rules.
    app.register("Jane Doe", "correct horse").await.assert_code(400, "invalid_username");
}

async fn import_leaves_existing_accounts_as_they_are(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let hash = hash_of_password(&database, &app).await;
    let row = |username, external_id| json!({ "username": username, "password_hash": hash, "external_id": external_id });
    let rows = [row("bob", Some("2")), row("alice", None), row("carol", Some("3"))];
    import(&database, &rows).await;
    let token = app.log_in_for_token("bob").await;
    let passwords =
        json!({ "current_password": "correct horse", "new_password": "password of bob" });
    put(&app, &token, "/auth/password", &passwords).await;

    let again = import(&database, &[rows[0].clone(), row("ALICE", None), rows[2].clone()]).await;
    let others = import(&database, &[row("bob", Some("4")), row("dave", Some("3"))]).await;

    assert_eq!(summary(&again), "0 added, 3 there already, 0 refused");
    assert_eq!(again.exit_code, Some(0));
    assert_eq!(
        again.json_lines()[1],
        json!({
            "line": 2, "username": "ALICE", "outcome": "exists", "reason": null,
        })
    );
    assert_eq!(app.log_in("bob", "password of bob").await.status, 200);
    app.log_in("bob", "correct horse").await.assert_code(401, "invalid_credentials");
    let expected = [MAY_BE_ANOTHER, "another account has the external_id"];
    assert_eq!((others.exit_code, reasons(&others)), (Some(5), expected.map(Value::from).to_vec()));
}

async fn account_of_a_stranger_is_not_taken_for_the_imported_one(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let hash = hash_of_password(&database, &app).await;
    let created_at = "2020-05-01T10:00:00.5Z";
    let with_time = json!({ "username": "bob", "password_hash": hash, "created_at": created_at });
    import(&database, std::slice::from_ref(&with_time)).await;
    for name in ["alice", "bob"] {
        app.register(name, "password of a stranger").await;
    }
    let alice = json!({ "username": "alice", "password_hash": hash });
    // Another hash, as after a change of the password.
    let bob = |created_at| {
        json!({
            "username": "bob", "password_hash": "!", "created_at": created_at,
        })
    };
    let rows = [alice.clone(), bob(created_at)];

    let imported = import(&database, &rows).await;
    let other_time = import(&database, &[bob("2020-05-01T10:00:01.5Z")]).await;
    let users = run(&database, &["user", "list", "--prefix", "alice", "--json"], "").await;
    let mut same = alice;
    same["id"] = users.json_lines()[0]["id"].clone();
    let same = import(&database, &[same]).await;

    assert_eq!(summary(&imported), "0 added, 1 there already, 1 refused");
    let outcomes: Vec<_> = imported.json_lines().iter().map(|row| row["outcome"].clone()).collect();
    assert_eq!(outcomes, ["refused", "exists"]);
    for refused in [&imported, &other_time] {
        assert_eq!(reasons(refused)[0], MAY_BE_ANOTHER);
    }
    assert_eq!(summary(&same), "0 added, 1 there already, 0 refused");
}

async fn row_that_repeats_an_earlier_one_is_refused(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let hash = hash_of_password(&database, &app).await;
    let row = |username: &str, field: &str, value: &Value| {
        let mut row = json!({ "username": username, "password_hash": hash });
        row[field] = value.clone();
        row
    };
    let id = json!("6f2a1f0e-6a5c-4a52-9d2e-0d3a5b7c9e11");
    let rows = [
        row("zoe", "external_id", &json!(1)),
        row("adam", "external_id", &json!(1)),
        row("yve", "id", &id),
        row("bert", "id", &id),
        row("Zoe", "external_id", &json!(2)),
        row("carl", "external_id", &json!(2)),
    ];

    let imported = import(&database, &rows).await;

    assert_eq!(summary(&imported), "3 added, 0 there already, 3 refused");
    let expected = ["external_id", "id", "username"];
    assert_eq!(
        reasons(&imported),
        expected.map(|field| format!("an earlier row has the same {field}"))
    );
    for name in ["zoe", "yve", "carl"] {
        assert_eq!(app.log_in(name, "correct horse").await.status, 200, "{name}");
    }
}

async fn text_of_the_file_is_escaped_in_the_report(database: TestDatabase) {
    let _app = TestApp::start(&database).await;
    let row = "{\"\\u001b[31m\":1}\n";

    let refused = run(&database, &["user", "import", "-"], row).await;

    assert_eq!(refused.exit_code, Some(5), "{refused:?}");
    assert!(refused.stdout.contains("`\\u{1b}[31m`"), "{refused:?}");
}

async fn rows_that_cannot_be_imported_are_reported(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let hash = hash_of_password(&database, &app).await;
    let row = |username: &str| json!({ "username": username, "password_hash": hash });
    let with = |field: &str, value: Value| {
        let mut row = row("mallory");
        row[field] = value;
        row
    };
    let rows = [
        row("alice"),
        row("john\u{200b}"),
        row("John Doe"),
        row("john  doe"),
        with("roles", json!(["no-such-role"])),
        with("password_hash", json!("5f4dcc3b5aa765d61d8327deb882cf99")),
        with("metadata", json!([])),
        with("external_id", json!("")),
        with("passwd", json!("x")),
        row("bob"),
    ];

    let imported = import(&database, &rows).await;

    assert_eq!(summary(&imported), "3 added, 0 there already, 7 refused");
    assert_eq!(imported.exit_code, Some(5));
    let lines: Vec<_> = imported.json_lines().iter().map(|row| row["line"].clone()).collect();
    assert_eq!(json!(lines), json!([2, 4, 5, 6, 7, 8, 9]));
    for name in ["alice", "bob"] {
        assert_eq!(app.log_in(name, "correct horse").await.status, 200);
    }
    let missing = run(&database, &["user", "import", "no-such-file.jsonl"], "").await;
    assert_eq!(missing.exit_code, Some(1));
}

async fn dry_run_changes_nothing(database: TestDatabase) {
    let on_none = run(&database, &["user", "import", "-", "--dry-run"], "").await;
    let list = run(&database, &["user", "list"], "").await;
    assert_eq!((on_none.exit_code, list.exit_code), (Some(1), Some(1)), "{on_none:?}");
    assert!(on_none.stderr.contains("it does not exist"), "{on_none:?}");

    let app = TestApp::start(&database).await;
    let hash = hash_of_password(&database, &app).await;
    let csv =
        format!("username,password_hash,roles\nalice,\"{hash}\",user\ntemplate,\"{hash}\",\n,,\n");

    let dry = ["user", "import", "-", "--format", "csv", "--dry-run", "--json"];
    let dry = run(&database, &dry, &csv).await;

    assert_eq!(summary(&dry), "1 to be added, 1 there already, 1 refused");
    app.log_in("alice", "correct horse").await.assert_code(401, "invalid_credentials");
    let imported = run(&database, &["user", "import", "-", "--format", "csv"], &csv).await;
    assert_eq!(summary(&imported), "1 added, 1 there already, 1 refused");
    assert_eq!(app.log_in("alice", "correct horse").await.status, 200);
}

async fn killed_import_goes_on(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let hash = hash_of_password(&database, &app).await;
    let rows: Vec<_> = (0..2_500)
        .map(|id| json!({ "username": format!("user{id}"), "password_hash": hash, "external_id": id }))
        .collect();
    let lines: Vec<_> = rows.iter().map(Value::to_string).collect();
    let lines = lines.join("\n");
    let mut import_command = command(&database, &["user", "import", "-"]);
    let mut child = import_command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The rest does not arrive, so that the import is under way when it is killed.
    let half = &lines[..lines.len() / 2];
    stdin.write_all(half.as_bytes()).await.unwrap();
    let has_begun = async || app.log_in("user999", "correct horse").await.status == 200;
    eventually("the first commit is there", has_begun).await;
    let id = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(id, Signal::KILL).unwrap();
    child.wait().await.unwrap();

    let again = import(&database, &rows).await;

    assert_eq!(summary(&again), "1500 added, 1000 there already, 0 refused");
    assert_eq!(app.log_in("user2499", "correct horse").await.status, 200);
}

async fn exported_accounts_log_in_elsewhere(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    app.register("Alice", "correct horse").await;
    let token = app.log_in_for_token("alice").await;
    let set = ["user", "set-external-id", "alice", "42"];
    assert_eq!(run(&database, &set, "").await.exit_code, Some(0));
    let exported = run(&database, &["user", "export"], "").await;
    let without = run(&database, &["user", "export", "--hashes", "none"], "").await;
    let elsewhere = TestDatabase::sqlite();
    let other = TestApp::start(&elsewhere).await;

    let imported = run(&elsewhere, &["user", "import", "-"], &exported.stdout).await;

    assert_eq!(summary(&imported), "1 added, 0 there already, 0 refused");
    let there = other.log_in_for_token("ALICE").await;
    let mut accounts = Vec::new();
    for (app, token) in [(&app, &token), (&other, &there)] {
        accounts.push(app.send_with_token(Method::GET, "/auth/me", token).await.body);
    }
    // APIs may refer to the id.
    assert_eq!(accounts[0], accounts[1]);
    assert_eq!(without.json_lines()[0].get("password_hash"), None);
}

async fn report_about_an_account_has_all_but_the_hash(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let alice = app.register_and_open_session("alice").await;
    app.register_and_open_session("bob").await;
    let root = app.register_admin(&database).await;
    let own = app.send_with_token(Method::GET, "/auth/me", &alice.access_token()).await;
    let path = format!("/admin/users/{}/metadata", own.body["id"].as_str().unwrap());
    put(&app, &root, &path, &json!({ "metadata": { "plan": "pro" } })).await;

    let report = run(&database, &["user", "export", "alice"], "").await;
    let none = run(&database, &["user", "export", "carol"], "").await;

    assert!(!report.stdout.contains("pbkdf2"), "{report:?}");
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(report["account"]["username"], "alice");
    assert_eq!(report["sessions"].as_array().map(Vec::len), Some(1));
    let records = report["audit_records"].as_array().unwrap();
    let records: Vec<_> = records.iter().map(|record| [&record["action"], &record["ip"]]).collect();
    // The address of the administrator is not given to the user.
    let expected = [
        [json!("user.metadata_changed"), Value::Null],
        [json!("session.opened"), json!("127.0.0.1")],
        [json!("user.registered"), json!("127.0.0.1")],
    ];
    assert_eq!(json!(records), json!(expected));
    assert_eq!(none.exit_code, Some(3));
}
