//! Accounts as administrators see them, what becomes of them, and the record of it.

use portcullis::domain::Label;
use portcullis::store::{AuditPage, UserChange, UserPage};

use super::*;

/// Adds an account with some roles.
async fn an_account(store: &dyn Store, username: &str, roles: &[Role]) -> User {
    let mut new = credentials(username);
    new.user.roles = roles.iter().copied().collect();
    store.insert_user(&new, &record()).await.unwrap();
    new.user
}

pub(super) fn change(user_id: UserId, edit: UserEdit) -> UserChange {
    let (at, revoked_until) = (now(), Some(now() + Duration::from_hours(1)));
    let by = Initiator::COMMAND_LINE;
    UserChange { user_id, version: None, edit, but: None, revoked_until, at, by }
}

fn page(prefix: &str, after: &str, limit: u32) -> UserPage {
    let name = |text: &str| (!text.is_empty()).then(|| Username::parse(text).unwrap());
    UserPage { prefix: name(prefix), after: name(after), limit }
}

async fn names(store: &dyn Store, page: &UserPage) -> Vec<String> {
    let users = store.list_users(page).await.unwrap();
    users.into_iter().map(|user| user.username.as_str().to_owned()).collect()
}

async fn audited(store: &dyn Store, page: &AuditPage) -> Vec<AuditRecord> {
    let entries = store.audit(page).await.unwrap();
    entries.into_iter().map(|entry| entry.record).collect()
}

fn everything() -> AuditPage {
    AuditPage { limit: 100, ..AuditPage::default() }
}

on_both_databases! {
    async fn accounts_are_listed_in_pages_by_name_whatever_its_case(database: TestDatabase) {
        let store = open(&database).await;
        for name in ["Bob", "alice", "a_1", "Al", "zoë", "ALBERT", "b-2", "éva"] {
            an_account(store.as_ref(), name, &[Role::User]).await;
        }
        let list = async |prefix, after, limit| {
            names(store.as_ref(), &page(prefix, after, limit)).await
        };

        let all = ["a_1", "Al", "ALBERT", "alice", "b-2", "Bob", "zoë", "éva"];
        assert_eq!(list("", "", 100).await, all);
        assert_eq!(list("", "albert", 2).await, all[3..5]);
        assert_eq!(list("AL", "", 100).await, all[1..4]);
        assert_eq!(list("al", "AL", 1).await, ["ALBERT"]);
        assert_eq!(list("al", "bob", 100).await, [""; 0]);
        assert_eq!(list("a_", "", 100).await, ["a_1"], "nothing in a prefix is a pattern");
    }

    async fn what_ends_with_a_change_is_every_session_but_one(database: TestDatabase) {
        let store = open(&database).await;
        let (bobs, alices) = (a_session(store.as_ref()).await, a_session(store.as_ref()).await);
        let others = [(); 2].map(|()| Session { id: SessionId::random(), ..alices.clone() });
        for session in &others {
            assert!(store.insert_session(session, UserVersion::FIRST, &record()).await.unwrap());
        }

        let mut wanted = change(alices.user_id, UserEdit::Password(hash(2)));
        wanted.but = Some(alices.id);
        let ended = store.change_user(&wanted).await.unwrap().ended;

        let expires_at = wanted.revoked_until.unwrap();
        let revocation = |session: &Session| Revocation { id: session.id.into(), expires_at };
        let expected = ids_of(&others.each_ref().map(revocation));
        assert_eq!(ids_of(&ended.revocations), expected);
        let revoked = kept(store.as_ref()).await;
        assert_eq!(ids_of(&revoked), expected);
        assert!(revoked.iter().all(|revocation| revocation.expires_at == expires_at));
        let left = store.sessions_of(alices.user_id, now()).await.unwrap();
        assert_eq!(left, slice::from_ref(&alices));
        let rest = store.change_user(&change(alices.user_id, UserEdit::EndSessions)).await.unwrap();
        assert_eq!(rest.ended.revocations.len(), 1);
        assert_eq!(store.sessions_of(bobs.user_id, now()).await.unwrap(), [bobs]);
    }

    async fn a_session_whose_tokens_nobody_knows_is_revoked_until_its_own_end(
        database: TestDatabase
    ) {
        let store = open(&database).await;
        let session = a_session(store.as_ref()).await;
        let mut wanted = change(session.user_id, UserEdit::EndSessions);
        wanted.revoked_until = None;

        store.change_user(&wanted).await.unwrap();

        let expected = Revocation { id: session.id.into(), expires_at: session.expires_at };
        assert_eq!(kept(store.as_ref()).await, [expected]);
    }

    async fn an_account_becomes_what_the_change_says_and_nothing_else(database: TestDatabase) {
        let store = open(&database).await;
        an_account(store.as_ref(), "root", &[Role::Admin]).await;
        let before = an_account(store.as_ref(), "Alice", &[Role::User]).await;
        let roles = Roles::from_iter([Role::User, Role::Admin]);
        let disable = change(before.id, UserEdit::Disable);

        let mut expected = before.clone();
        for (wanted, expect) in [
            (change(before.id, UserEdit::Roles(roles)), User { roles, ..before.clone() }),
            (disable.clone(), User { roles, disabled_at: Some(disable.at), ..before.clone() }),
            (change(before.id, UserEdit::Enable), User { roles, ..before.clone() }),
            (change(before.id, UserEdit::Password(hash(2))), User { roles, ..before.clone() }),
        ] {
            let version = expected.version.next();
            expected = User { version, ..expect };
            assert_eq!(store.change_user(&wanted).await.unwrap().user, expected);
            assert_eq!(store.find_user(before.id).await.unwrap().unwrap(), expected);
        }
        let found = store.find_credentials(&before.username).await.unwrap().unwrap();
        assert_eq!(found.password_hash, hash(2));

        store.change_user(&change(before.id, UserEdit::Delete)).await.unwrap();
        assert!(store.find_user(before.id).await.unwrap().is_none());
        let gone = store.change_user(&change(before.id, UserEdit::Disable)).await;
        assert!(matches!(gone, Err(ChangeUserError::Gone)), "{gone:?}");
    }

    async fn what_changes_nothing_ends_nothing_and_is_not_recorded(database: TestDatabase) {
        let store = open(&database).await;
        let session = a_session(store.as_ref()).await;
        let before = store.find_user(session.user_id).await.unwrap().unwrap();
        let log = audited(store.as_ref(), &everything()).await;

        for edit in [UserEdit::Enable, UserEdit::Roles(before.roles)] {
            let unchanged = store.change_user(&change(before.id, edit)).await.unwrap();
            assert_eq!(unchanged.user, before);
        }

        assert_eq!(store.sessions_of(before.id, now()).await.unwrap(), [session]);
        assert_eq!(audited(store.as_ref(), &everything()).await, log);
    }

    async fn who_was_put_out_meanwhile_changes_nothing_more(database: TestDatabase) {
        let store = open(&database).await;
        let alice = an_account(store.as_ref(), "alice", &[Role::User]).await;
        let session = a_session(store.as_ref()).await;
        let by = Initiator { session: Some(session.id), ..Initiator::COMMAND_LINE };
        let wanted = UserChange { by: by.clone(), ..change(alice.id, UserEdit::Disable) };
        let made = async |name| {
            let record = AuditRecord { by: by.clone(), ..record() };
            store.insert_user(&credentials(name), &record).await
        };
        made("before").await.unwrap();

        store.change_user(&change(session.user_id, UserEdit::Disable)).await.unwrap();

        let refused = store.change_user(&wanted).await;
        assert!(matches!(refused, Err(ChangeUserError::InitiatorOut)), "{refused:?}");
        let refused = made("after").await;
        assert!(matches!(refused, Err(InsertUserError::InitiatorOut)), "{refused:?}");
        assert_eq!(names(store.as_ref(), &page("a", "", 10)).await, ["alice"]);
        let found = store.find_user(alice.id).await.unwrap().unwrap();
        assert_eq!(found.disabled_at, None);
    }

    async fn an_account_that_has_changed_is_not_changed_again_by_who_knew_it_before(
        database: TestDatabase
    ) {
        let store = open(&database).await;
        let session = a_session(store.as_ref()).await;
        let user = session.user_id;
        let mut wanted = change(user, UserEdit::Password(hash(2)));
        (wanted.version, wanted.but) = (Some(UserVersion::FIRST), Some(session.id));
        store.change_user(&wanted).await.unwrap();

        for edit in [UserEdit::Password(hash(3)), UserEdit::Delete] {
            let late = UserChange { edit, ..wanted.clone() };
            let refused = store.change_user(&late).await;
            assert!(matches!(refused, Err(ChangeUserError::Gone)), "{refused:?}");
        }

        let late = Session { id: SessionId::random(), ..session.clone() };
        assert!(!store.insert_session(&late, UserVersion::FIRST, &record()).await.unwrap());
        let left = store.sessions_of(user, now()).await.unwrap();
        assert_eq!(left, slice::from_ref(&session), "and nothing was ended by trying");
        let passwords = AuditPage { action: Some(AuditAction::PasswordChanged), ..everything() };
        assert_eq!(audited(store.as_ref(), &passwords).await.len(), 1, "nor recorded");
    }

    async fn of_administrators_who_remove_each_other_at_once_one_is_left(database: TestDatabase) {
        let store = open(&database).await;
        let mut admins = Vec::new();
        for n in 0..8 {
            admins.push(an_account(store.as_ref(), &format!("admin-{n}"), &[Role::Admin]).await.id);
        }
        let edits = [UserEdit::Delete, UserEdit::Disable, UserEdit::Roles(Roles::default())];

        let changes = admins.iter().zip(edits.iter().cycle()).map(|(&id, edit)| {
            let (store, change) = (Arc::clone(&store), change(id, edit.clone()));
            async move { store.change_user(&change).await }
        });
        let outcomes = join_all(changes).await;

        let refused: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(matches!(refused[..], [ChangeUserError::LastAdmin]), "{refused:?}");
        let left = store.list_users(&page("", "", 100)).await.unwrap();
        assert_eq!(left.iter().filter(|user| user.is_active_admin()).count(), 1);
    }

    async fn what_was_done_is_found_by_who_whom_what_and_when(database: TestDatabase) {
        let store = open(&database).await;
        let (admin, alice) = (UserId::random(), UserId::random());
        let client = Client {
            address: "2001:db8::1".parse().unwrap(),
            user_agent: UserAgent::clean("curl/8.5"),
        };
        let by_admin = Initiator { user_id: Some(admin), session: None, client: Some(client) };
        let (at, session) = (now(), Some(SessionId::random()));
        let said = |secs: u64, action, by: &Initiator, subject| AuditRecord {
            at: at + Duration::from_secs(secs),
            action,
            by: by.clone(),
            subject,
            session,
            detail: Some("detail".to_owned()),
        };
        let records = [
            said(0, AuditAction::UserCreated, &by_admin, alice),
            said(1, AuditAction::UserDisabled, &Initiator::COMMAND_LINE, alice),
            said(2, AuditAction::SessionEnded, &by_admin, admin),
        ];
        store.revoke(&[revocation(now())], &records).await.unwrap();

        let latest_first: Vec<_> = records.iter().rev().cloned().collect();
        assert_eq!(audited(store.as_ref(), &everything()).await, latest_first);
        let second = at + Duration::from_secs(1);
        for (page, found) in [
            (AuditPage { actor: Some(admin), ..everything() }, vec![2, 0]),
            (AuditPage { subject: Some(alice), ..everything() }, vec![1, 0]),
            (AuditPage { action: Some(AuditAction::UserDisabled), ..everything() }, vec![1]),
            (AuditPage { since: Some(second), ..everything() }, vec![2, 1]),
            (AuditPage { until: Some(second), ..everything() }, vec![0]),
            (AuditPage { limit: 2, ..everything() }, vec![2, 1]),
        ] {
            let expected: Vec<_> = found.into_iter().map(|n: usize| records[n].clone()).collect();
            assert_eq!(audited(store.as_ref(), &page).await, expected, "{page:?}");
        }
        let first = store.audit(&AuditPage { limit: 1, ..everything() }).await.unwrap();
        let rest = AuditPage { after: Some(first[0].id), ..everything() };
        assert_eq!(audited(store.as_ref(), &rest).await, latest_first[1..]);
    }

    async fn old_audit_records_are_swept_a_few_at_a_time(database: TestDatabase) {
        let store = open(&database).await;
        let aged = |mins| AuditRecord { at: now() - Duration::from_mins(mins), ..record() };
        store.revoke(&[revocation(now())], &[1, 10, 11, 12].map(aged)).await.unwrap();
        let (fast, retention) = (now() + Duration::from_hours(1), Duration::from_mins(5));

        assert_eq!(store.sweep_audit(fast, retention, 2).await.unwrap(), 2);
        assert_eq!(store.sweep_audit(fast, retention, 2).await.unwrap(), 1);
        assert_eq!(store.sweep_audit(fast, retention, 2).await.unwrap(), 0, "one clock is wrong");
        assert_eq!(audited(store.as_ref(), &everything()).await.len(), 1);
    }

    async fn every_action_is_read_back_as_it_was_written(database: TestDatabase) {
        let store = open(&database).await;
        let records: Vec<_> =
            AuditAction::ALL.iter().map(|&action| AuditRecord { action, ..record() }).collect();

        store.revoke(&[revocation(now())], &records).await.unwrap();

        let read = audited(store.as_ref(), &everything()).await;
        let actions: Vec<_> = read.iter().rev().map(|record| record.action).collect();
        assert_eq!(actions, AuditAction::ALL);
    }
}
