//! The contract of `Store` for changes of accounts and for the audit log.

use portcullis::domain::UserChange;
use portcullis::domain::{Generation, HashCost, MAX_LEEWAY};
use portcullis::store::{ListedAuditRecord, ListedUser, UserQuery};
use strum::VariantNames;

use super::*;

on_both_databases![
    accounts_are_listed_by_name_ignoring_case,
    accounts_from_before_case_folding_are_found,
    account_change_ends_all_other_sessions,
    command_line_revokes_until_the_tokens_expire,
    account_change_applies_only_the_edit,
    change_without_effect_is_not_recorded,
    signed_out_requester_changes_nothing,
    outdated_account_version_is_refused,
    concurrent_removals_leave_one_administrator,
    audit_query_filters_by_each_field,
    old_audit_records_are_deleted_in_batches,
    every_audit_action_round_trips,
    unreadable_audit_records_are_listed,
    hash_costs_are_distinct,
    broken_accounts_are_listed_with_their_column,
    broken_administrator_fails_no_other_change,
];

async fn add_account(store: &dyn Store, username: &str, roles: &[RoleName]) -> User {
    let mut credentials = new_credentials(username);
    credentials.user.roles = roles.iter().cloned().collect();
    credentials.user.permissions = credentials.user.roles.built_in_permissions();
    store.insert_user(&credentials, &audit_record()).await.unwrap();
    credentials.user
}

pub(super) fn new_change(user_id: UserId, edit: UserEdit) -> UserChange {
    UserChange {
        user_id,
        expected_version: None,
        edit,
        keep_session: None,
        revoked_until: Some(now() + Duration::from_hours(2)),
        at: now(),
        requester: Requester::COMMAND_LINE,
    }
}

fn user_query(prefix: &str, after: &str, limit: u32) -> UserQuery {
    let name = |text: &str| (!text.is_empty()).then(|| Username::parse(text).unwrap());
    let after = name(after).map(|name| name.key().to_owned());
    UserQuery { prefix: name(prefix), after, limit, ..UserQuery::default() }
}

async fn list_usernames(store: &dyn Store, query: &UserQuery) -> Vec<String> {
    let users = store.list_users(query).await.unwrap();
    users.into_iter().map(|user| user.username).collect()
}

async fn read_audit_log(store: &dyn Store, query: &AuditQuery) -> Vec<AuditRecord> {
    let entries = store.list_audit_records(query).await.unwrap();
    entries.into_iter().map(to_record).collect()
}

fn to_record(listed: ListedAuditRecord) -> AuditRecord {
    assert_eq!(listed.broken, None);
    AuditRecord {
        at: listed.at,
        action: listed.action.parse().unwrap(),
        requester: Requester {
            user_id: listed.actor,
            origin: listed.origin,
            ..Requester::COMMAND_LINE
        },
        subject: listed.subject,
        session_id: listed.session_id,
        detail: listed.detail,
    }
}

fn all_records() -> AuditQuery {
    AuditQuery { limit: 100, ..AuditQuery::default() }
}

async fn accounts_are_listed_by_name_ignoring_case(database: TestDatabase) {
    let store = open_store(&database).await;
    for name in ["Bob", "alice", "a_1", "Al", "zoë", "ALBERT", "b-2", "éva"] {
        add_account(store.as_ref(), name, &[RoleName::USER]).await;
    }
    let list = async |prefix, after, limit| {
        list_usernames(store.as_ref(), &user_query(prefix, after, limit)).await
    };

    let all = ["a_1", "Al", "ALBERT", "alice", "b-2", "Bob", "zoë", "éva"];
    assert_eq!(list("", "", 100).await, all);
    assert_eq!(list("", "albert", 2).await, all[3..5]);
    assert_eq!(list("AL", "", 100).await, all[1..4]);
    assert_eq!(list("al", "AL", 1).await, ["ALBERT"]);
    assert_eq!(list("al", "bob", 100).await, [""; 0]);
    assert_eq!(list("a_", "", 100).await, ["a_1"], "`_` in a prefix is not a wildcard");
}

/// Makes the accounts those of a version that did not fold usernames, whose keys were these names.
const UNFOLD: &str = "
    update users set username = 'strasse' where username = 'x-strasse';
    update users set username_key = '.' || username;
    update users set username_key = username;
    delete from _sqlx_migrations where version = 7";

async fn accounts_from_before_case_folding_are_found(database: TestDatabase) {
    let store = open_store(&database).await;
    let mut names = vec!["νικος".to_owned(), "straße".to_owned(), "xß\u{307}x".to_owned()];
    for letter in char::MIN..=char::MAX {
        let name = format!("{}{letter}", names.len());
        let is_affected = Username::parse(&name)
            .is_ok_and(|name| name.unfolded_key() == name.as_str() && name.key() != name.as_str());
        if is_affected {
            names.push(name);
        }
    }
    assert_eq!(names.len(), 42, "{names:?}");
    let mut ids = Vec::new();
    for name in &names {
        ids.push(add_account(store.as_ref(), name, &[RoleName::USER]).await.id);
    }
    let namesake = add_account(store.as_ref(), "x-strasse", &[RoleName::USER]).await.id;
    database.execute(UNFOLD).await;

    let store = open_store(&database).await;

    let find = async |name: &str| {
        let found = store.find_credentials(&Username::parse(name).unwrap()).await.unwrap();
        found.map(|found| found.user.id)
    };
    for (name, id) in names.iter().zip(&ids) {
        assert_eq!(find(name).await, Some(*id), "{name}");
        let folded = Username::parse(name).unwrap().key().to_owned();
        // One account has a namesake, the other cannot be folded in SQL.
        if !["straße", "xß\u{307}x"].contains(&name.as_str()) {
            assert_eq!(find(&folded).await, Some(*id), "{name} by {folded}");
        }
    }
    assert_eq!(find("ΝΙΚΟΣ").await, Some(ids[0]));
    assert_eq!(find("STRASSE").await, Some(namesake));
    for name in ["ΝΙΚΟΣ", "STRASSE", "straße", "xß\u{307}x"] {
        let refused = store.insert_user(&new_credentials(name), &audit_record()).await;
        assert_eq!(account_error(refused), AccountError::UsernameTaken, "{name}");
    }
    let mut listed = Vec::new();
    for _ in 0..=names.len() {
        let query = UserQuery { after: listed.last().cloned(), limit: 1, ..UserQuery::default() };
        let page = store.list_users(&query).await.unwrap();
        listed.extend(page.into_iter().map(|user| user.key));
    }
    assert!(listed.is_sorted_by(|a, b| a < b), "{listed:?}");
    assert_eq!(listed.len(), names.len() + 1, "{listed:?}");
}

async fn account_change_ends_all_other_sessions(database: TestDatabase) {
    let store = open_store(&database).await;
    let kept = add_session(store.as_ref()).await;
    let foreign = add_session(store.as_ref()).await;
    let others = [(); 2].map(|()| Session { id: SessionId::random(), ..kept.clone() });
    for session in &others {
        insert_session(store.as_ref(), session).await.unwrap();
    }

    let mut change = new_change(kept.user_id, UserEdit::Password(password_hash(2)));
    change.keep_session = Some(kept.id);
    let ended = store.change_user(&change).await.unwrap().ended;

    let expires_at = change.revoked_until.unwrap();
    let revocation = |session: &Session| Revocation { id: session.id.into(), expires_at };
    let expected = revocation_ids(&others.each_ref().map(revocation));
    assert_eq!(revocation_ids(&ended.revocations), expected);
    let revoked = read_all_revocations(store.as_ref()).await;
    assert_eq!(revocation_ids(&revoked), expected);
    assert!(revoked.iter().all(|revocation| revocation.expires_at == expires_at));
    let remaining = list_sessions(store.as_ref(), kept.user_id).await;
    assert_eq!(remaining, slice::from_ref(&kept));
    let end_all = new_change(kept.user_id, UserEdit::EndSessions);
    let changed = store.change_user(&end_all).await.unwrap();
    assert_eq!(changed.ended.revocations.len(), 1);
    assert_eq!(list_sessions(store.as_ref(), foreign.user_id).await, [foreign]);
}

async fn command_line_revokes_until_the_tokens_expire(database: TestDatabase) {
    let store = open_store(&database).await;
    let session = add_session(store.as_ref()).await;
    let tokens_expire_at = now() + Duration::from_hours(3);
    let tokens = presented([(session.id, Generation::FIRST)]);
    rotate(store.as_ref(), &tokens, now(), None, tokens_expire_at).await;
    let mut change = new_change(session.user_id, UserEdit::EndSessions);
    change.revoked_until = None;

    store.change_user(&change).await.unwrap();

    let expires_at = tokens_expire_at + MAX_LEEWAY;
    let expected = Revocation { id: session.id.into(), expires_at };
    assert_eq!(read_all_revocations(store.as_ref()).await, [expected]);
}

async fn account_change_applies_only_the_edit(database: TestDatabase) {
    let store = open_store(&database).await;
    add_account(store.as_ref(), "root", &[RoleName::ADMIN]).await;
    let before = add_account(store.as_ref(), "Alice", &[RoleName::USER]).await;
    let roles = Roles::from_iter([RoleName::USER, RoleName::ADMIN]);
    let disable = new_change(before.id, UserEdit::Disable);

    let permissions = Permissions::of_service();
    let promoted = User { roles: roles.clone(), permissions, ..before.clone() };
    let disabled = User { disabled_at: Some(disable.at), ..promoted.clone() };
    let mut expected = before.clone();
    for (change, expected_user) in [
        (new_change(before.id, UserEdit::Roles(roles)), promoted.clone()),
        (disable, disabled),
        (new_change(before.id, UserEdit::Enable), promoted.clone()),
        (new_change(before.id, UserEdit::Password(password_hash(2))), promoted),
    ] {
        let version = expected.version.next();
        expected = User { version, ..expected_user };
        assert_eq!(store.change_user(&change).await.unwrap().user, expected);
        assert_eq!(store.find_user(before.id).await.unwrap().unwrap(), expected);
    }
    let found = store.find_credentials(&before.username).await.unwrap().unwrap();
    assert_eq!(found.password_hash, password_hash(2));

    store.change_user(&new_change(before.id, UserEdit::Delete)).await.unwrap();
    assert!(store.find_user(before.id).await.unwrap().is_none());
    let refused = store.change_user(&new_change(before.id, UserEdit::Disable)).await;
    assert_eq!(account_error(refused), AccountError::NotFound);
}

async fn change_without_effect_is_not_recorded(database: TestDatabase) {
    let store = open_store(&database).await;
    let session = add_session(store.as_ref()).await;
    let before = store.find_user(session.user_id).await.unwrap().unwrap();
    let log_before = read_audit_log(store.as_ref(), &all_records()).await;

    for edit in [UserEdit::Enable, UserEdit::Roles(before.roles.clone())] {
        let unchanged = store.change_user(&new_change(before.id, edit)).await.unwrap();
        assert_eq!(unchanged.user, before);
    }

    assert_eq!(list_sessions(store.as_ref(), before.id).await, [session]);
    assert_eq!(read_audit_log(store.as_ref(), &all_records()).await, log_before);
}

async fn signed_out_requester_changes_nothing(database: TestDatabase) {
    let store = open_store(&database).await;
    let alice = add_account(store.as_ref(), "alice", &[RoleName::USER]).await;
    let session = add_session(store.as_ref()).await;
    let requester = Requester { session_id: Some(session.id), ..Requester::COMMAND_LINE };
    let change =
        UserChange { requester: requester.clone(), ..new_change(alice.id, UserEdit::Disable) };
    let create_account = async |name| {
        let record = AuditRecord { requester: requester.clone(), ..audit_record() };
        store.insert_user(&new_credentials(name), &record).await
    };
    create_account("before").await.unwrap();

    store.change_user(&new_change(session.user_id, UserEdit::Disable)).await.unwrap();

    let refused = store.change_user(&change).await;
    assert_eq!(account_error(refused), AccountError::RequesterSignedOut);
    let refused = create_account("after").await;
    assert_eq!(account_error(refused), AccountError::RequesterSignedOut);
    assert_eq!(list_usernames(store.as_ref(), &user_query("a", "", 10)).await, ["alice"]);
    let found = store.find_user(alice.id).await.unwrap().unwrap();
    assert_eq!(found.disabled_at, None);
}

async fn outdated_account_version_is_refused(database: TestDatabase) {
    let store = open_store(&database).await;
    let session = add_session(store.as_ref()).await;
    let user = session.user_id;
    let mut change = new_change(user, UserEdit::Password(password_hash(2)));
    change.expected_version = Some(UserVersion::FIRST);
    change.keep_session = Some(session.id);
    store.change_user(&change).await.unwrap();

    for edit in [UserEdit::Password(password_hash(3)), UserEdit::Delete] {
        let outdated = UserChange { edit, ..change.clone() };
        let refused = store.change_user(&outdated).await;
        assert_eq!(account_error(refused), AccountError::Changed);
    }

    let late_session = Session { id: SessionId::random(), ..session.clone() };
    let refused = insert_session(store.as_ref(), &late_session).await;
    assert_eq!(account_error(refused), AccountError::Changed);
    let remaining = list_sessions(store.as_ref(), user).await;
    assert_eq!(remaining, slice::from_ref(&session), "refused changes end no session");
    let password_changes =
        AuditQuery { action: Some(AuditAction::PasswordChanged), ..all_records() };
    assert_eq!(
        read_audit_log(store.as_ref(), &password_changes).await.len(),
        1,
        "refused changes are not recorded"
    );
}

async fn concurrent_removals_leave_one_administrator(database: TestDatabase) {
    let store = open_store(&database).await;
    let mut admins = Vec::new();
    for n in 0..8 {
        admins
            .push(add_account(store.as_ref(), &format!("admin-{n}"), &[RoleName::ADMIN]).await.id);
    }
    let edits = [UserEdit::Delete, UserEdit::Disable, UserEdit::Roles(Roles::default())];

    let changes = admins.iter().zip(edits.iter().cycle()).map(|(&id, edit)| {
        let store = Arc::clone(&store);
        let change = new_change(id, edit.clone());
        async move { store.change_user(&change).await }
    });
    let outcomes = join_all(changes).await;

    let refused: Vec<_> = outcomes.into_iter().filter(Result::is_err).map(account_error).collect();
    assert_eq!(refused, [AccountError::LastAdmin]);
    let users = store.list_users(&user_query("", "", 100)).await.unwrap();
    let is_active_admin =
        |user: &&ListedUser| user.roles.contains(&RoleName::ADMIN) && user.disabled_at.is_none();
    assert_eq!(users.iter().filter(is_active_admin).count(), 1);
}

async fn audit_query_filters_by_each_field(database: TestDatabase) {
    let store = open_store(&database).await;
    let admin = UserId::random();
    let alice = UserId::random();
    let origin = RequestOrigin {
        address: "2001:db8::1".parse().unwrap(),
        user_agent: UserAgent::sanitize("curl/8.5"),
    };
    let by_admin =
        Requester { user_id: Some(admin), origin: Some(origin), ..Requester::COMMAND_LINE };
    let at = now();
    let session_id = Some(SessionId::random());
    let new_record = |secs: u64, action, requester: &Requester, subject| AuditRecord {
        at: at + Duration::from_secs(secs),
        action,
        requester: requester.clone(),
        subject: Some(subject),
        session_id,
        detail: Some("detail".to_owned()),
    };
    let records = [
        new_record(0, AuditAction::UserCreated, &by_admin, alice),
        new_record(1, AuditAction::UserDisabled, &Requester::COMMAND_LINE, alice),
        new_record(2, AuditAction::SessionEnded, &by_admin, admin),
    ];
    store.revoke(&[], &records, LockedSessions::Wait).await.unwrap();

    let latest_first: Vec<_> = records.iter().rev().cloned().collect();
    assert_eq!(read_audit_log(store.as_ref(), &all_records()).await, latest_first);
    let second = at + Duration::from_secs(1);
    for (query, indices) in [
        (AuditQuery { actor: Some(admin), ..all_records() }, vec![2, 0]),
        (AuditQuery { subject: Some(alice), ..all_records() }, vec![1, 0]),
        (AuditQuery { action: Some(AuditAction::UserDisabled), ..all_records() }, vec![1]),
        (AuditQuery { since: Some(second), ..all_records() }, vec![2, 1]),
        (AuditQuery { until: Some(second), ..all_records() }, vec![0]),
        (AuditQuery { limit: 2, ..all_records() }, vec![2, 1]),
    ] {
        let expected: Vec<_> =
            indices.into_iter().map(|index: usize| records[index].clone()).collect();
        assert_eq!(read_audit_log(store.as_ref(), &query).await, expected, "{query:?}");
    }
    let latest = AuditQuery { limit: 1, ..all_records() };
    let first = store.list_audit_records(&latest).await.unwrap();
    let rest = AuditQuery { after: Some(first[0].id), ..all_records() };
    assert_eq!(read_audit_log(store.as_ref(), &rest).await, latest_first[1..]);
}

async fn old_audit_records_are_deleted_in_batches(database: TestDatabase) {
    let store = open_store(&database).await;
    let aged = |mins| AuditRecord { at: now() - Duration::from_mins(mins), ..audit_record() };
    store.revoke(&[], &[1, 10, 11, 12].map(aged), LockedSessions::Wait).await.unwrap();
    let fast_clock = now() + Duration::from_hours(1);
    let retention = Duration::from_mins(5);

    let delete =
        async || store.delete_expired_audit_records(fast_clock, retention, 2).await.unwrap();
    assert_eq!(delete().await, 2);
    assert_eq!(delete().await, 1);
    assert_eq!(delete().await, 0, "a fast clock alone deletes no recent record");
    assert_eq!(read_audit_log(store.as_ref(), &all_records()).await.len(), 1);
}

async fn every_audit_action_round_trips(database: TestDatabase) {
    let store = open_store(&database).await;
    let all: Vec<AuditAction> =
        AuditAction::VARIANTS.iter().map(|name| name.parse().unwrap()).collect();
    let records: Vec<_> =
        all.iter().map(|&action| AuditRecord { action, ..audit_record() }).collect();

    store.revoke(&[], &records, LockedSessions::Wait).await.unwrap();

    let read = read_audit_log(store.as_ref(), &all_records()).await;
    let actions: Vec<_> = read.iter().rev().map(|record| record.action).collect();
    assert_eq!(actions, all);
}

async fn unreadable_audit_records_are_listed(database: TestDatabase) {
    let store = open_store(&database).await;
    let is_postgres = matches!(database, TestDatabase::Postgres { .. });
    let mut breakages =
        vec![("at", if is_postgres { "'infinity'" } else { "9223372036854775807" })];
    if !is_postgres {
        breakages.extend([("subject_id", "x'00'"), ("actor_id", "x''"), ("session_id", "x'01'")]);
    }
    for (column, value) in &breakages {
        let record = AuditRecord { detail: Some((*column).to_owned()), ..audit_record() };
        store.insert_audit_record(&record).await.unwrap();
        let breaks = format!("update audit_log set {column} = {value} where detail = '{column}'");
        database.execute(breaks).await;
    }
    let unknown = AuditRecord { detail: Some("unknown".to_owned()), ..audit_record() };
    store.insert_audit_record(&unknown).await.unwrap();
    let rename = "update audit_log set action = 'user.promoted' where detail = 'unknown'";
    database.execute(rename).await;
    store.insert_audit_record(&audit_record()).await.unwrap();

    let listed = store.list_audit_records(&all_records()).await.unwrap();

    assert_eq!((listed[0].action.as_str(), &listed[0].broken), ("session.opened", &None));
    assert_eq!((listed[1].action.as_str(), &listed[1].broken), ("user.promoted", &None));
    assert_eq!(listed.len(), breakages.len() + 2);
    for ((column, _), record) in breakages.iter().rev().zip(&listed[2..]) {
        assert_eq!(record.broken, Some(format!("audit_log.{column}")));
        assert_eq!(record.detail.as_deref(), Some(*column));
        assert_eq!(record.action, "session.opened");
    }
}

async fn hash_costs_are_distinct(database: TestDatabase) {
    let store = open_store(&database).await;
    assert_eq!(store.hash_costs().await.unwrap(), []);
    let costs = ["bcrypt:12", "scrypt:15:8:1", "bcrypt:12", "unknown:1", "pbkdf2-sha256:600000"];
    for (number, cost) in costs.iter().enumerate() {
        let username = format!("user-{number}");
        add_account(store.as_ref(), &username, &[RoleName::USER]).await;
        let update = format!("update users set hash_cost = '{cost}' where username = '{username}'");
        database.execute(update).await;
    }
    add_account(store.as_ref(), "older-version", &[RoleName::USER]).await;
    database.execute("update users set hash_cost = null where username = 'older-version'").await;

    let costs: Vec<_> = store.hash_costs().await.unwrap().iter().map(HashCost::to_string).collect();

    assert_eq!(costs, ["bcrypt:12", "pbkdf2-sha256:600000", "scrypt:15:8:1"]);
}

async fn broken_accounts_are_listed_with_their_column(database: TestDatabase) {
    let store = open_store(&database).await;
    let is_postgres = matches!(database, TestDatabase::Postgres { .. });
    let mut breakages = vec![
        ("username", "''"),
        ("roles", if is_postgres { "'{user,God}'" } else { "'user God'" }),
        ("password_hash", "'plain'"),
        ("version", "-1"),
        ("created_at", if is_postgres { "'infinity'" } else { "9223372036854775807" }),
        ("disabled_at", if is_postgres { "'-infinity'" } else { "-9223372036854775807" }),
    ];
    if !is_postgres {
        breakages.push(("id", "x'00'"));
    }
    for (column, value) in &breakages {
        add_account(store.as_ref(), &format!("a-{column}"), &[RoleName::USER]).await;
        let breaks = format!("update users set {column} = {value} where username = 'a-{column}'");
        database.execute(breaks).await;
    }
    let sound = add_account(store.as_ref(), "z", &[RoleName::USER]).await;

    let listed = store.list_users(&user_query("", "", 100)).await.unwrap();

    let (last, broken) = listed.split_last().unwrap();
    assert_eq!((last.id, &last.broken), (sound.id, &None));
    breakages.sort_unstable();
    for ((column, _), user) in breakages.iter().zip(broken) {
        assert_eq!(user.broken, Some(format!("users.{column}")), "{user:?}");
        assert_eq!(user.key, format!("a-{column}"));
        assert_eq!(user.roles, Roles::from_iter([RoleName::USER]));
    }
    let after = Some("a-username".to_owned());
    let query = UserQuery { after, limit: 1, ..UserQuery::default() };
    let next = store.list_users(&query).await.unwrap();
    assert_eq!(next[0].key, "a-version", "a broken account is a position, too");
}

async fn broken_administrator_fails_no_other_change(database: TestDatabase) {
    let store = open_store(&database).await;
    let broken = add_account(store.as_ref(), "broken", &[RoleName::ADMIN]).await;
    let first = add_account(store.as_ref(), "first", &[RoleName::ADMIN]).await;
    let second = add_account(store.as_ref(), "second", &[RoleName::ADMIN]).await;
    database.execute("update users set username = '' where username = 'broken'").await;
    let disable = async |id| store.change_user(&new_change(id, UserEdit::Disable)).await;

    disable(first.id).await.unwrap();

    assert_eq!(account_error(disable(second.id).await), AccountError::LastAdmin);
    let refused = disable(broken.id).await;
    assert!(
        matches!(refused, Err(WriteError::Store(StoreError::Inconsistent { .. }))),
        "{refused:?}"
    );
}
