//! The administrative command line, with and without a running service.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{
    Outcome, Process, Terminal, TestApp, TestDatabase, credentials, document, eventually,
    on_both_databases, run_command, send,
};

on_both_databases![
    first_administrator_is_created_before_startup,
    accounts_are_listed,
    account_is_shown_with_sessions,
    running_service_applies_commands,
    refused_command_explains_and_sets_exit_code,
    role_commands_print_roles_or_explain,
    migrate_command_creates_the_schema,
    commands_name_their_database,
    only_some_commands_create_a_database,
    older_schema_is_left_to_migrate,
    broken_account_is_listed,
    new_password_follows_the_policy,
    reset_code_is_printed,
    account_is_found_by_its_id_or_its_name,
    accounts_are_filtered,
    dangerous_command_needs_consent,
    terminal_is_asked_for_consent,
    terminal_is_asked_for_a_password_again,
    refused_account_is_not_asked_for_a_password,
    output_ends_quietly_without_a_reader,
];

/// Runs a command line with a text on standard input.
pub async fn run(command: &mut Command, arguments: &str, input: &str) -> Outcome {
    run_command(command.args(arguments.split(' ')), input).await
}

async fn run_user_command(database: &TestDatabase, arguments: &str, input: &str) -> Outcome {
    let mut command = Process::command(database);
    // Account commands need no signing key, and must not rely on the configured token lifetime.
    command.env_remove("JWT_SECRET_KEY");
    run(&mut command, &format!("user {arguments}"), input).await
}

async fn run_role_command(database: &TestDatabase, arguments: &str) -> Outcome {
    let mut command = Process::command(database);
    command.env_remove("JWT_SECRET_KEY");
    run(&mut command, &format!("role {arguments}"), "").await
}

async fn own_account_status(app: &TestApp, token: &str) -> u16 {
    app.send_with_token(Method::GET, "/auth/me", token).await.status.as_u16()
}

async fn first_administrator_is_created_before_startup(database: TestDatabase) {
    let created = run_user_command(
        &database,
        "create Root --role admin --role user --json",
        "correct horse\n",
    )
    .await;

    let app = TestApp::start(&database).await;
    let token = app.log_in_for_token("root").await;
    let listed = app.send_with_token(Method::GET, "/admin/users", &token).await;
    let account = listed.body["users"][0].clone();
    assert_eq!(created.json_lines(), [account], "the API shows the same account");
    let log = app.send_with_token(Method::GET, "/admin/audit?action=user.created", &token).await;
    assert_eq!(log.body["records"][0]["actor"], Value::Null, "{log:?}");
    assert_eq!(log.body["records"][0]["ip"], Value::Null, "{log:?}");
}

async fn accounts_are_listed(database: TestDatabase) {
    for name in ["bob", "Alice", "alan"] {
        let command = format!("create {name}");
        let created = run_user_command(&database, &command, "correct horse").await;
        assert_eq!(created.exit_code, Some(0));
    }

    let all = run_user_command(&database, "list", "").await;
    let filtered = run_user_command(&database, "list --prefix AL --json", "").await.json_lines();

    let names: Vec<_> =
        all.stdout.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["USERNAME", "alan", "Alice", "bob"]);
    assert!(!all.stdout.contains("DISABLED"), "a column without values: {}", all.stdout);
    let names: Vec<_> = filtered.iter().map(|account| &account["username"]).collect();
    assert_eq!(names, ["alan", "Alice"]);
    assert_eq!(filtered[0]["roles"], json!(["user"]));
}

async fn account_is_shown_with_sessions(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    let login = app.request(Method::POST, "/auth/login").header("user-agent", "shell/1.0");
    app.register("Alice", "correct horse").await;
    let opened = send(login.json(&credentials("alice", "correct horse"))).await;
    let refresh = app.request(Method::POST, "/auth/refresh").header("user-agent", "shell/2.0");
    send(refresh.json(&json!({ "refresh_token": opened.refresh_token() }))).await;

    let table = run_user_command(&database, "show ALICE", "").await;
    let accounts = run_user_command(&database, "show ALICE --json", "").await.json_lines();

    let listed = run_user_command(&database, "list --json", "").await.json_lines();
    assert_eq!((&accounts[0]["id"], accounts.len()), (&listed[0]["id"], 1));
    let session = &accounts[0]["sessions"][0];
    assert_eq!(
        (&session["ip"], &session["user_agent"], &session["last_user_agent"]),
        (&json!("127.0.0.1"), &json!("shell/1.0"), &json!("shell/2.0"))
    );
    for text in
        [&accounts[0]["id"], &session["id"], &session["user_agent"], &session["last_user_agent"]]
    {
        assert!(table.stdout.contains(text.as_str().unwrap()), "{table:?}");
    }
}

async fn running_service_applies_commands(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    run_user_command(&database, "create root --role admin", "correct horse").await;
    let mut password = "correct horse";
    for (command, new_password, allows_login) in [
        ("end-sessions alice", None, true),
        ("set-password alice", Some("battery staple"), true),
        ("set-roles alice --role user --role admin", None, true),
        ("disable alice --yes", None, false),
        ("enable alice", None, true),
        ("delete alice --yes", None, false),
    ] {
        app.register("alice", password).await;
        let login = app.log_in("alice", password).await;
        assert_eq!(login.status == 200, command != "enable alice", "{login:?}");

        let outcome = run_user_command(&database, command, new_password.unwrap_or_default()).await;

        assert_eq!(outcome.exit_code, Some(0), "{command}: {outcome:?}");
        password = new_password.unwrap_or(password);
        if login.status == 200 {
            let token = login.access_token();
            let is_refused = async || own_account_status(&app, &token).await == 401;
            eventually(&format!("`{command}` ends the session"), is_refused).await;
        }
        let second_login = app.log_in("alice", password).await;
        assert_eq!(second_login.status == 200, allows_login, "{command}: {second_login:?}");
    }
}

async fn refused_command_explains_and_sets_exit_code(database: TestDatabase) {
    run_user_command(&database, "create root --role admin", "correct horse").await;

    for (command, input, exit_code, message) in [
        ("show ghost", "", 3, "there is no account `ghost`"),
        ("delete ghost", "", 3, "there is no account `ghost`"),
        ("create ROOT", "correct horse", 4, "the username is taken"),
        ("disable root --yes", "", 4, "the account is the last administrator"),
        ("set-roles root --role user --yes", "", 4, "the account is the last administrator"),
        (
            "set-roles root --role admin,god",
            "",
            2,
            "roles must be among these: admin, introspector, user",
        ),
        ("create bob", "short\n", 2, "bad password: Password must be at least 8 characters long"),
        (
            "create \u{265a}",
            "correct horse",
            2,
            "bad username: Username must be made of letters, digits and ASCII punctuation, \
             without spaces",
        ),
    ] {
        let refused = run_user_command(&database, command, input).await;
        refused.assert_refused(exit_code, &format!("portcullis: {message}"));
    }
    assert_eq!(run_user_command(&database, "create", "").await.exit_code, Some(2));
    let listed = run_user_command(&database, "list --json", "").await.json_lines();
    assert_eq!(listed.len(), 1, "{listed:?}");
}

async fn role_commands_print_roles_or_explain(database: TestDatabase) {
    run_user_command(&database, "create root --role admin", "correct horse").await;
    let set = run_role_command(&database, "set clerk --permission b --permission a --json").await;
    let shown = run_role_command(&database, "show clerk --json").await.json_lines();
    assert_eq!(shown[0]["permissions"], json!(["a", "b"]));
    assert_eq!(set.json_lines(), shown);
    run_user_command(&database, "create alice --role clerk", "correct horse").await;

    let name = "The name of a role has 1 to 64 characters: a-z, 0-9, `.`, `_` and `-`";
    let permission = "A permission has 1 to 64 printable ASCII characters, without space, \
                      quotation mark and backslash";
    for (command, exit_code, message) in [
        ("set Clerk", 2, format!("bad role: {name}")),
        ("set clerk --permission \u{e9}", 2, format!("bad permission: {permission}")),
        ("show ghost", 3, "there is no such role".to_owned()),
        ("delete ghost", 3, "there is no such role".to_owned()),
        ("delete user", 4, "a built-in role cannot be deleted".to_owned()),
        ("delete clerk", 4, "an account has the role".to_owned()),
    ] {
        let refused = run_role_command(&database, command).await;
        refused.assert_refused(exit_code, &format!("portcullis: {message}"));
    }
    let listed = run_role_command(&database, "list").await;
    let names: Vec<_> =
        listed.stdout.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["ROLE", "admin", "clerk", "introspector", "user"]);
}

async fn migrate_command_creates_the_schema(database: TestDatabase) {
    let mut command = Process::command(&database);

    let migrated = run(&mut command, "migrate", "").await;

    assert_eq!(
        (migrated.exit_code, migrated.stdout.as_str()),
        (Some(0), "the schema is up to date\n")
    );
    database.execute("select 1 from audit_log").await;
}

async fn commands_name_their_database(database: TestDatabase) {
    let location = match &database {
        TestDatabase::Postgres { name, .. } => format!("`{name}` at 127.0.0.1:"),
        TestDatabase::Sqlite(_) => database.path().display().to_string(),
    };
    let named = format!("using the database {location}");

    let created = run_user_command(&database, "create root --role admin", "correct horse").await;
    let (first, rest) = created.stderr.split_once('\n').unwrap();
    assert!(first.starts_with("the database is new: creating its schema, version "), "{first}");
    assert!(rest.starts_with(&named), "{rest}");
    for command in ["list --json", "show root", "end-sessions root", "disable root", "show ghost"] {
        let outcome = run_user_command(&database, command, "").await;
        assert!(outcome.stderr.starts_with(&named), "{command}: {outcome:?}");
    }
    let migrated = run(&mut Process::command(&database), "migrate", "").await;
    assert!(migrated.stderr.starts_with(&named), "{migrated:?}");
}

async fn only_some_commands_create_a_database(database: TestDatabase) {
    for command in ["list", "show root", "set-password root", "delete root"] {
        let refused = run_user_command(&database, command, "correct horse").await;
        let reason = "it does not exist; `portcullis serve`, `portcullis migrate`, \
                      `portcullis user create` and `portcullis user import` create it, and DATABASE_URL selects another one";
        assert_eq!((refused.exit_code, refused.stderr.lines().count()), (Some(1), 1));
        assert!(refused.stderr.trim_end().ends_with(reason), "{refused:?}");
    }
    if matches!(database, TestDatabase::Sqlite(_)) {
        assert!(!database.path().exists());
    }

    let created = run_user_command(&database, "create root", "correct horse").await;
    assert_eq!(created.exit_code, Some(0), "{created:?}");
    assert_eq!(run_user_command(&database, "list --json", "").await.json_lines().len(), 1);
}

async fn older_schema_is_left_to_migrate(database: TestDatabase) {
    run(&mut Process::command(&database), "migrate", "").await;
    database.execute("delete from _sqlx_migrations where version > 4").await;

    let refused = run_user_command(&database, "list", "").await;

    let reason = "its schema has version 4, and this program needs version ";
    assert_eq!(refused.exit_code, Some(1));
    assert!(refused.stderr.contains(reason), "{refused:?}");
    assert!(refused.stderr.ends_with("; run `portcullis migrate`\n"), "{refused:?}");
}

async fn broken_account_is_listed(database: TestDatabase) {
    for name in ["alice", "bob"] {
        run_user_command(&database, &format!("create {name}"), "correct horse").await;
    }
    let escape = match database {
        TestDatabase::Postgres { .. } => "chr(27)",
        TestDatabase::Sqlite(_) => "char(27)",
    };
    let breaks =
        format!("update users set username = 'a' || {escape} || 'b' where username = 'bob'");
    database.execute(breaks).await;

    let table = run_user_command(&database, "list", "").await;
    let listed = run_user_command(&database, "list --json", "").await.json_lines();

    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0].get("broken"), None);
    assert_eq!(
        (&listed[1]["username"], &listed[1]["broken"]),
        (&json!("a\u{1b}b"), &json!("users.username"))
    );
    let last_line = table.stdout.lines().next_back().unwrap();
    let cells: Vec<_> = last_line.split_whitespace().collect();
    assert_eq!((cells[0], cells.last()), (r"a\u{1b}b", Some(&"users.username")), "{table:?}");
}

#[actix_web::test]
async fn generated_secret_signs_tokens() {
    let database = TestDatabase::sqlite();
    let generate =
        async || run(&mut Process::command(&database), "secret generate", "").await.stdout;
    let secret = generate().await;
    let other_secret = generate().await;
    assert_ne!(secret, other_secret);

    let mut command = Process::command(&database);
    let process = Process::spawn(command.env("JWT_SECRET_KEY", secret.trim_end())).await;

    let token = process.app.register_and_log_in("alice").await;
    assert_eq!(process.app.dashboard(&token).await.status, 200);
}

#[actix_web::test]
async fn openapi_command_prints_the_document() {
    let printed = run(&mut Process::command(&TestDatabase::sqlite()), "openapi", "").await;

    let printed_document: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(&printed_document, document());
}

#[actix_web::test]
async fn unreachable_database_fails_with_one_line() {
    let mut command = Process::command(&TestDatabase::sqlite());
    command.env("DATABASE_URL", "postgres://portcullis:hunter2@127.0.0.1:1/portcullis");

    let failed = run(&mut command, "user list", "").await;

    assert_eq!((failed.exit_code, failed.stderr.lines().count()), (Some(1), 1), "{failed:?}");
    assert!(!failed.stderr.contains("hunter2"), "{failed:?}");
}

async fn new_password_follows_the_policy(database: TestDatabase) {
    let folder = tempfile::tempdir().unwrap();
    let words = folder.path().join("words.txt");
    std::fs::write(&words, "correct horse battery\n").unwrap();
    let set_password = async |blocklist: &str, password: &str| {
        let mut command = Process::command(&database);
        command.env("PASSWORD_MIN_LENGTH", "10").env("PASSWORD_BLOCKLIST", blocklist);
        command.env("PUBLIC_URL", "https://auth.example.com/portcullis");
        run(&mut command, "user set-password alice-in-chains", password).await
    };
    run_user_command(&database, "create alice-in-chains", "correct horse").await;
    let words = words.to_str().unwrap();

    let too_common = "bad password: Password is too common: choose one that is harder to guess";
    for (blocklist, password, problem) in [
        ("none", "testpass1", "bad password: Password must be at least 10 characters long"),
        ("common", "Password123", too_common),
        (words, "Correct Horse Battery", too_common),
        (words, "Portcullis", too_common),
        (words, "auth.example.com", too_common),
        (words, "ALICE-IN-CHAINS", "bad password: Password must not be the username"),
    ] {
        let refused = set_password(blocklist, password).await;
        refused.assert_refused(2, &format!("portcullis: {problem}"));
    }

    for (blocklist, password) in
        [("none", "Password123"), ("common", "correct horse battery"), (words, "password123")]
    {
        assert_eq!(set_password(blocklist, password).await.exit_code, Some(0), "{password}");
    }
    let unreadable = set_password("/nonexistent/words.txt", "battery staple").await;
    let problem =
        "must be none, common or a file of words: `/nonexistent/words.txt` cannot be read";
    let line = format!("portcullis: PASSWORD_BLOCKLIST {problem}");
    assert!(unreadable.stderr.starts_with(&line), "{unreadable:?}");
}

async fn reset_code_is_printed(database: TestDatabase) {
    let app = TestApp::start(&database).await;
    app.register("alice", "correct horse").await;

    let text = run_user_command(&database, "reset-code alice", "").await;
    let json = run_user_command(&database, "reset-code ALICE --json", "").await.json_lines();

    let (replaced, rest) = text.stdout.split_once('\n').unwrap();
    assert_eq!(rest, "It is valid for 3600 s and is not shown again.\n");
    assert_eq!(json[0]["expires_in"], 3600);
    let code = json[0]["reset_code"].as_str().unwrap();
    for (code, status) in [(replaced, 401), (code, 200)] {
        let body = json!({ "reset_code": code, "new_password": "battery staple" });
        assert_eq!(app.post("/auth/reset", &body).await.status, status);
    }
    assert_eq!(app.log_in("alice", "battery staple").await.status, 200);
    let unknown = run_user_command(&database, "reset-code bob", "").await;
    unknown.assert_refused(3, "portcullis: there is no account `bob`");
    run_user_command(&database, "disable alice", "").await;
    let disabled = run_user_command(&database, "reset-code alice", "").await;
    disabled.assert_refused(4, "portcullis: the account is disabled");
}

/// Creates `root`, an administrator, and `alice`.
async fn create_root_and_alice(database: &TestDatabase) {
    for command in ["create root --role admin", "create alice"] {
        let created = run_user_command(database, command, "correct horse").await;
        assert_eq!(created.exit_code, Some(0), "{created:?}");
    }
}

/// Lists usernames with their roles, and `-` after those of disabled accounts.
async fn accounts(database: &TestDatabase) -> Vec<String> {
    let listed = run_user_command(database, "list --json", "").await.json_lines();
    let describe = |account: &Value| {
        let roles = account["roles"].to_string();
        let disabled = if account["disabled_at"].is_null() { "" } else { " -" };
        format!("{} {roles}{disabled}", account["username"].as_str().unwrap())
    };
    listed.iter().map(describe).collect()
}

async fn account_is_found_by_its_id_or_its_name(database: TestDatabase) {
    create_root_and_alice(&database).await;
    let show =
        async |user: &str| run_user_command(&database, &format!("show {user} --json"), "").await;
    let id_of =
        async |user: &str| show(user).await.json_lines()[0]["id"].as_str().unwrap().to_owned();
    let alice = id_of("alice").await;
    assert_eq!(id_of(&alice).await, alice);

    // A username may be the id of another account.
    let create = format!("create {alice} --json");
    let created = run_user_command(&database, &create, "correct horse").await;
    let other = created.json_lines()[0]["id"].as_str().unwrap().to_owned();
    show(&alice).await.assert_refused(
        2,
        &format!(
            "portcullis: `{alice}` is the id of the account `alice`, and the username of another, \
             whose id is {other}: use either of these"
        ),
    );
    assert_eq!(id_of("alice").await, alice);
    assert_eq!(id_of(&other).await, other);
    let deleted = run_user_command(&database, "delete alice", "").await;
    assert_eq!(deleted.exit_code, Some(0), "{deleted:?}");
    assert_eq!(id_of(&alice).await, other, "no account has it as its id");

    let unknown = "00000000-0000-4000-8000-000000000000";
    let refused = format!("portcullis: there is no account `{unknown}`");
    show(unknown).await.assert_refused(3, &refused);
}

async fn accounts_are_filtered(database: TestDatabase) {
    for command in [
        "create root --role admin",
        "create anna --role admin,user",
        "create albert --role admin",
        "create bob",
        "disable anna --yes",
        "disable bob",
    ] {
        let outcome = run_user_command(&database, command, "correct horse").await;
        assert_eq!(outcome.exit_code, Some(0), "{outcome:?}");
    }

    for (filter, expected) in [
        ("--role admin", vec!["albert", "anna", "root"]),
        ("--disabled", vec!["anna", "bob"]),
        ("--role admin --disabled", vec!["anna"]),
        ("--role admin --prefix a", vec!["albert", "anna"]),
        ("--role user --prefix r", vec![]),
    ] {
        let listed = run_user_command(&database, &format!("list {filter} --json"), "").await;
        let listed = listed.json_lines();
        let names: Vec<_> =
            listed.iter().map(|account| account["username"].as_str().unwrap()).collect();
        assert_eq!(names, expected, "{filter}");
    }
    let unknown = run_user_command(&database, "list --role god", "").await;
    let message = "portcullis: roles must be among these: admin, introspector, user";
    unknown.assert_refused(2, message);
}

async fn dangerous_command_needs_consent(database: TestDatabase) {
    create_root_and_alice(&database).await;
    run_user_command(&database, "create other --role admin", "correct horse").await;
    run_user_command(&database, "create former --role admin", "correct horse").await;
    run_user_command(&database, "disable former --yes", "").await;
    let run = async |command: &str| run(&mut Process::command(&database), command, "y\n").await;
    let service = Process::start(&database).await;
    assert_eq!(run("client create orders").await.exit_code, Some(0));
    let before = accounts(&database).await;

    let commands = [
        ("user disable root", "disable the administrator `root`"),
        ("user set-roles root --role user", "take the role admin from `root`"),
        ("user end-sessions --all", "end the sessions of all accounts"),
        ("key revoke --all", "revoke all keys, and with them every access token"),
        ("client delete orders", "delete the client `orders`"),
        ("user delete other", "delete the administrator `other`"),
        ("user delete former", "delete the administrator `former`"),
    ];
    for (command, action) in commands {
        let message = format!("portcullis: to {action}, add --yes: there is no terminal to ask on");
        run(command).await.assert_refused(2, &message);
    }
    assert_eq!(accounts(&database).await, before);
    drop(service);

    // Neither needs consent: an account that is no administrator, and an administrator that stays one.
    for command in
        ["user disable alice", "user enable alice", "user set-roles root --role admin --role user"]
    {
        assert_eq!(run(command).await.exit_code, Some(0), "{command}");
    }
    for (command, _) in commands {
        let consented = run(&format!("{command} --yes")).await;
        // The last one would delete the last administrator.
        let expected = if command == "user delete other" { 4 } else { 0 };
        assert_eq!(consented.exit_code, Some(expected), "{command}: {consented:?}");
    }
}

async fn terminal_is_asked_for_consent(database: TestDatabase) {
    create_root_and_alice(&database).await;
    run_user_command(&database, "create other --role admin", "correct horse").await;
    let program = Process::command(&database);
    let question = "Really delete the administrator `other`? [y/N] ";

    for answer in ["", "n", "maybe"] {
        let mut terminal = Terminal::start(&program, "user delete other");
        terminal.answer(question, answer).await;
        let (exit_code, output) = terminal.finish().await;
        assert_eq!(exit_code, Some(1), "{output}");
        assert!(output.ends_with("portcullis: nothing was changed\r\n"), "{output}");
    }
    assert_eq!(accounts(&database).await.len(), 3);

    let mut terminal = Terminal::start(&program, "user delete other");
    terminal.answer(question, "y").await;
    assert_eq!(terminal.finish().await.0, Some(0));
    assert_eq!(accounts(&database).await, [r#"alice ["user"]"#, r#"root ["admin"]"#]);
}

async fn terminal_is_asked_for_a_password_again(database: TestDatabase) {
    let program = Process::command(&database);

    let mut terminal = Terminal::start(&program, "user create alice");
    terminal.answer("Password: ", "short").await;
    terminal.answer("at least 8 characters long; try again\r\nPassword: ", "correct horse").await;
    terminal.answer("Again: ", "correct house").await;
    terminal.answer("the passwords differ; try again\r\nPassword: ", "correct horse").await;
    terminal.answer("Again: ", "correct horse").await;
    let (exit_code, output) = terminal.finish().await;
    assert_eq!(exit_code, Some(0), "{output}");

    let mut terminal = Terminal::start(&program, "user set-password alice");
    for _ in 0..3 {
        terminal.answer("Password: ", "battery staple").await;
        terminal.answer("Again: ", "battery").await;
    }
    let (exit_code, output) = terminal.finish().await;
    assert_eq!(exit_code, Some(2), "{output}");
    assert!(output.ends_with("portcullis: the passwords differ\r\n"), "{output}");

    let app = TestApp::start(&database).await;
    assert_eq!(app.log_in("alice", "correct horse").await.status, 200);
}

async fn refused_account_is_not_asked_for_a_password(database: TestDatabase) {
    create_root_and_alice(&database).await;
    let program = Process::command(&database);

    for (command, exit_code, message) in [
        ("create ALICE", 4, "the username is taken"),
        ("create bob --role god", 2, "roles must be among these"),
        ("create a,b --role God", 2, "bad role"),
        ("create two\\ words", 2, "bad username"),
        ("set-password ghost", 3, "there is no account `ghost`"),
    ] {
        let terminal = Terminal::start(&program, &format!("user {command}"));
        let (code, output) = terminal.finish().await;
        assert_eq!(code, Some(exit_code), "{output}");
        assert!(output.contains(message) && !output.contains("Password: "), "{output}");
    }
}

async fn output_ends_quietly_without_a_reader(database: TestDatabase) {
    create_root_and_alice(&database).await;

    for arguments in ["user list", "user list --json", "user export", "openapi", "help settings"] {
        let mut command = Process::command(&database);
        command.args(arguments.split(' ')).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        // clap ends the help.
        let exit_code = if arguments == "help settings" { 0 } else { 141 };
        assert_eq!(output.status.code(), Some(exit_code), "{arguments}: {stderr}");
        assert!(!stderr.contains("portcullis: "), "{arguments}: {stderr}");
    }
}

#[actix_web::test]
async fn completions_need_neither_database_nor_secret() {
    for (shell, line) in [
        ("bash", "complete -F _portcullis"),
        ("zsh", "#compdef portcullis"),
        ("fish", "complete -c portcullis"),
    ] {
        let mut command = Process::command(&TestDatabase::sqlite());
        command.env_remove("JWT_SECRET_KEY").env("DATABASE_URL", "postgres://127.0.0.1:1/none");
        let printed = run(&mut command, &format!("completions {shell}"), "").await;
        assert_eq!((printed.exit_code, printed.stderr.as_str()), (Some(0), ""));
        assert!(printed.stdout.contains(line), "{printed:?}");
        assert!(printed.stdout.contains("set-roles"), "{printed:?}");
    }
}

#[actix_web::test]
async fn version_names_the_commit() {
    let database = TestDatabase::sqlite();
    let printed = run(&mut Process::command(&database), "--version", "").await;
    let version = portcullis::config::VERSION;
    assert_eq!(printed.stdout, format!("portcullis {version}\n"));
    assert!(version.starts_with(concat!(env!("CARGO_PKG_VERSION"), " (")), "{version}");
    let process = Process::start(&database).await;
    assert!(process.log().contains(&format!(r#""version":"{version}""#)), "{}", process.log());
}

#[actix_web::test]
async fn misspelt_command_and_option_are_refused_with_the_right_one() {
    for (arguments, right) in [
        ("usr list", "'user'"),
        ("user creat alice", "'create'"),
        ("user create alice --rolle admin", "'--role'"),
        ("user export --hashes djago", "'django'"),
        ("user list --databse-url=sqlite://a", "'--database-url'"),
    ] {
        let refused = run(&mut Process::command(&TestDatabase::sqlite()), arguments, "").await;
        assert_eq!(refused.exit_code, Some(2), "{refused:?}");
        let tip = refused.stderr.lines().find(|line| line.contains("tip: a similar"));
        assert!(tip.is_some_and(|tip| tip.ends_with(right)), "{refused:?}");
    }
}
