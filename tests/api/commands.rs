//! The command line for administrators, beside the running service and without it.

use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::{
    Process, TestApp, TestDatabase, credentials, document, eventually, on_both_databases, send,
};

/// What a command has said and how it ended.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Outcome {
    fn json(&self) -> Vec<Value> {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    fn assert_refused(&self, code: i32, err: &str) {
        assert_eq!((self.code, self.err.as_str(), self.out.as_str()), (Some(code), err, ""));
    }
}

/// Runs a command line with something on standard input.
async fn run(command: &mut Command, arguments: &str, input: &str) -> Outcome {
    let piped = command.args(arguments.split(' ')).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that reads nothing may have closed it.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

async fn user(database: &TestDatabase, arguments: &str, input: &str) -> Outcome {
    let mut command = Process::command(database);
    // Nothing about tokens is known here: there is no key, and they may live longer than it thinks.
    command.env_remove("JWT_SECRET_KEY");
    run(&mut command, &format!("user {arguments}"), input).await
}

async fn me(app: &TestApp, token: &str) -> u16 {
    app.with_token(Method::GET, "/auth/me", token).await.status.as_u16()
}

on_both_databases! {
    async fn the_first_administrator_is_made_before_the_service_runs(database: TestDatabase) {
        let made = user(&database, "create Root --role admin --role user --json", "correct horse\n").await;

        let app = TestApp::start(&database).await;
        let token = app.another_token_of("root").await;
        let listed = app.with_token(Method::GET, "/admin/users", &token).await;
        let mut account = listed.body["users"][0].clone();
        account.as_object_mut().unwrap().remove("permissions");
        assert_eq!(made.json(), [account], "the API shows the same");
        let log = app.with_token(Method::GET, "/admin/audit?action=user.created", &token).await;
        assert_eq!(log.body["records"][0]["actor"], Value::Null, "{log:?}");
        assert_eq!(log.body["records"][0]["ip"], Value::Null, "{log:?}");
    }

    async fn accounts_are_listed_and_shown(database: TestDatabase) {
        for name in ["bob", "Alice", "alan"] {
            assert_eq!(user(&database, &format!("create {name}"), "correct horse").await.code, Some(0));
        }

        let all = user(&database, "list", "").await;
        let some = user(&database, "list --prefix AL --json", "").await.json();

        let names: Vec<_> = all.out.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
        assert_eq!(names, ["USERNAME", "alan", "Alice", "bob"]);
        let names: Vec<_> = some.iter().map(|account| &account["username"]).collect();
        assert_eq!(names, ["alan", "Alice"]);
        assert_eq!(some[0]["roles"], json!(["user"]));
    }

    async fn an_account_is_shown_with_its_sessions(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        let login = app.request(Method::POST, "/auth/login").header("user-agent", "shell/1.0");
        app.register("Alice", "correct horse").await;
        send(login.json(&credentials("alice", "correct horse"))).await;

        let shown = user(&database, "show ALICE", "").await;
        let json = user(&database, "show ALICE --json", "").await.json();

        let listed = user(&database, "list --json", "").await.json();
        assert_eq!((&json[0]["id"], json.len()), (&listed[0]["id"], 1));
        let session = &json[0]["sessions"][0];
        assert_eq!((&session["ip"], &session["user_agent"]), (&json!("127.0.0.1"), &json!("shell/1.0")));
        for text in [&json[0]["id"], &session["id"], &session["user_agent"]] {
            assert!(shown.out.contains(text.as_str().unwrap()), "{shown:?}");
        }
    }

    async fn a_running_service_obeys(database: TestDatabase) {
        let app = TestApp::start(&database).await;
        user(&database, "create root --role admin", "correct horse").await;
        let mut password = "correct horse";
        for (command, new, allows_login) in [
            ("end-sessions alice", None, true),
            ("set-password alice", Some("battery staple"), true),
            ("set-roles alice user admin", None, true),
            ("disable alice", None, false),
            ("enable alice", None, true),
            ("delete alice", None, false),
        ] {
            app.register("alice", password).await;
            let token = app.log_in("alice", password).await;
            assert_eq!(token.status == 200, command != "enable alice", "{token:?}");

            let done = user(&database, command, new.unwrap_or_default()).await;

            assert_eq!(done.code, Some(0), "{command}: {done:?}");
            password = new.unwrap_or(password);
            if token.status == 200 {
                let token = token.access_token();
                eventually(command, async || me(&app, &token).await == 401).await;
            }
            let again = app.log_in("alice", password).await;
            assert_eq!(again.status == 200, allows_login, "{command}: {again:?}");
        }
    }

    async fn a_refusal_is_one_line_and_an_exit_code(database: TestDatabase) {
        user(&database, "create root --role admin", "correct horse").await;

        for (command, input, code, said) in [
            ("show nobody", "", 3, "there is no account `nobody`"),
            ("delete nobody", "", 3, "there is no account `nobody`"),
            ("create ROOT", "correct horse", 4, "the username is taken"),
            ("disable root", "", 4, "the account is the last administrator"),
            ("set-roles root user", "", 4, "the account is the last administrator"),
            ("set-roles root god", "", 2, "bad role: `god` is not a known name"),
            (
                "create bob", "short\n", 2,
                "bad password: Password must be at least 8 characters long",
            ),
            (
                "create \u{265a}", "correct horse", 2,
                "bad username: Username must be made of letters, digits and ASCII punctuation, \
                 without spaces",
            ),
        ] {
            let refused = user(&database, command, input).await;
            refused.assert_refused(code, &format!("portcullis: {said}\n"));
        }
        assert_eq!(user(&database, "create", "").await.code, Some(2));
        let listed = user(&database, "list --json", "").await.json();
        assert_eq!(listed.len(), 1, "{listed:?}");
    }

    async fn the_schema_is_made_by_a_command_of_its_own(database: TestDatabase) {
        let mut command = Process::command(&database);

        let migrated = run(&mut command, "migrate", "").await;

        assert_eq!((migrated.code, migrated.out.as_str()), (Some(0), "the schema is up to date\n"));
        database.execute("select 1 from audit_log").await;
    }
}

#[actix_web::test]
async fn a_secret_that_is_generated_signs_tokens() {
    let database = TestDatabase::sqlite();
    let generate = async || run(&mut Process::command(&database), "secret generate", "").await.out;
    let (secret, another) = (generate().await, generate().await);
    assert_ne!(secret, another);

    let mut command = Process::command(&database);
    let process = Process::spawn(command.env("JWT_SECRET_KEY", secret.trim_end())).await;

    let token = process.app.token_of("alice").await;
    assert_eq!(process.app.dashboard(&token).await.status, 200);
}

#[actix_web::test]
async fn the_document_is_printed_as_it_is_served() {
    let printed = run(&mut Process::command(&TestDatabase::sqlite()), "openapi", "").await;

    let printed: Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!(&printed, document());
}

#[actix_web::test]
async fn a_database_out_of_reach_is_a_failure_and_one_line() {
    let mut command = Process::command(&TestDatabase::sqlite());
    command.env("DATABASE_URL", "postgres://portcullis:hunter2@127.0.0.1:1/portcullis");

    let failed = run(&mut command, "user list", "").await;

    assert_eq!((failed.code, failed.err.lines().count()), (Some(1), 1), "{failed:?}");
    assert!(!failed.err.contains("hunter2"), "{failed:?}");
}
