//! The contract of `Store` for changes of roles.

use portcullis::domain::{Role, RoleChange, RoleEdit, RoleError};
use portcullis::store::{ChangedRole, RoleWriteError};
use sqlx::{Connection, Executor};
use tokio::join;

use super::*;
use crate::sessions::lock_is_waited_for;

on_both_databases![
    sessions_of_members_end_in_batches,
    deleted_or_extended_role_ends_no_session,
    unreadable_role_fails_no_list,
    concurrent_creations_of_a_role_check_both,
];

fn role_change(name: &str, permissions: &str) -> RoleChange {
    RoleChange {
        name: RoleName::parse(name).unwrap(),
        edit: RoleEdit::Set(Permissions::from_scope(permissions)),
        requester: Requester::COMMAND_LINE,
    }
}

async fn set(store: &dyn Store, name: &str, permissions: &str) -> ChangedRole {
    store.change_role(&role_change(name, permissions)).await.unwrap()
}

/// Adds an account with a role, and opens sessions for it.
async fn add_member(store: &dyn Store, role: &str, count: usize) -> Vec<Session> {
    let first = add_session(store).await;
    let roles = Roles::from_iter([RoleName::parse(role).unwrap()]);
    store.change_user(&accounts::new_change(first.user_id, UserEdit::Roles(roles))).await.unwrap();
    let sessions = (0..count).map(|_| Session { id: SessionId::random(), ..first.clone() });
    let sessions: Vec<_> = sessions.collect();
    for session in &sessions {
        open(store, session).await;
    }
    sessions
}

async fn open(store: &dyn Store, session: &Session) {
    let version = UserVersion::FIRST.next();
    store.insert_session(session, version, u32::MAX, &audit_record()).await.unwrap();
}

/// Ends sessions until none is left to end. Returns the sizes of the batches.
async fn end_sessions(store: &dyn Store, limit: u32) -> Vec<usize> {
    let mut sizes = Vec::new();
    while let Some(ended) = store.end_sessions_of_roles(limit).await.unwrap() {
        sizes.push(ended.revocations.len());
    }
    sizes
}

async fn ending_sessions(store: &dyn Store, name: &str) -> u64 {
    let role = store.find_role(&RoleName::parse(name).unwrap()).await.unwrap();
    role.unwrap().ending_sessions
}

async fn sessions_of_members_end_in_batches(database: TestDatabase) {
    let store = open_store(&database).await;
    let store = store.as_ref();
    set(store, "clerk", "orders:read orders:write").await;
    let members = [add_member(store, "clerk", 3).await, add_member(store, "clerk", 2).await];
    let other = add_session(store).await;

    let changed = set(store, "clerk", "orders:read").await;

    assert_eq!(changed.action, Some(AuditAction::RoleChanged));
    assert_eq!(changed.role.ending_sessions, 5);
    let first = store.end_sessions_of_roles(2).await.unwrap().unwrap();
    let ids: Vec<_> = first.revocations.iter().map(|revocation| revocation.id).collect();
    let mut all: Vec<_> = members.concat().iter().map(|session| session.id.as_uuid()).collect();
    all.sort_unstable();
    assert!(all[..2].iter().all(|id| ids.contains(&(*id).into())), "the lowest ids: {ids:?}");
    for revocation in &first.revocations {
        let sessions = members.concat();
        let session = sessions.iter().find(|session| revocation.id == session.id.into()).unwrap();
        assert_eq!(revocation.expires_at, session.tokens_expire_at + MAX_LEEWAY);
    }
    assert_eq!(ending_sessions(store, "clerk").await, 3);
    assert_eq!(end_sessions(store, 2).await, [2, 1]);
    assert_eq!(ending_sessions(store, "clerk").await, 0);
    for sessions in &members {
        assert_eq!(list_sessions(store, sessions[0].user_id).await, []);
    }
    assert_eq!(list_sessions(store, other.user_id).await, [other]);
    let revoked = revocation_ids(&read_all_revocations(store).await);
    assert!(members.concat().iter().all(|session| revoked.contains(&session.id.into())));
}

async fn deleted_or_extended_role_ends_no_session(database: TestDatabase) {
    let store = open_store(&database).await;
    let store = store.as_ref();
    set(store, "clerk", "orders:read").await;
    let sessions = add_member(store, "clerk", 1).await;

    set(store, "clerk", "orders:read orders:write").await;
    let delete = RoleChange { edit: RoleEdit::Delete, ..role_change("clerk", "") };
    let refused = store.change_role(&delete).await;

    assert!(matches!(refused, Err(RoleWriteError::Role(RoleError::InUse))), "{refused:?}");
    assert_eq!(end_sessions(store, 10).await, [] as [usize; 0]);
    store.change_user(&accounts::new_change(sessions[0].user_id, UserEdit::Delete)).await.unwrap();
    let deleted = store.change_role(&delete).await.unwrap();
    assert_eq!(deleted.action, Some(AuditAction::RoleDeleted));
    assert_eq!(store.find_role(&delete.name).await.unwrap(), None);
}

async fn unreadable_role_fails_no_list(database: TestDatabase) {
    let store = open_store(&database).await;
    let permissions = match database {
        TestDatabase::Postgres { .. } => "'{\"a b\",orders:read,é}'",
        TestDatabase::Sqlite(_) => "'orders:read é'",
    };
    let insert = "insert into roles (name, permissions) values";
    database.execute(format!("{insert} ('A b', {permissions}), ('clerk', {permissions})")).await;

    let listed = store.list_roles().await.unwrap();

    assert_eq!(listed.broken, ["A b"]);
    let names: Vec<_> = listed.roles.iter().map(|role| role.name.as_str()).collect();
    assert_eq!(names, ["admin", "clerk", "introspector", "user"]);
    let Role { permissions, .. } = &listed.roles[1];
    assert!(permissions.names().contains(&"orders:read"), "{permissions}");
}

async fn concurrent_creations_of_a_role_check_both(database: TestDatabase) {
    let store = open_store(&database).await;
    for number in 0..10 {
        let name = format!("clerk-{number}");
        let first = role_change(&name, "orders:read");
        let second = role_change(&name, "orders:write");

        let (first, second) = join!(store.change_role(&first), store.change_role(&second));

        let mut actions = [first.unwrap().action, second.unwrap().action];
        actions.sort_unstable_by_key(|action| action.map(|action| action.into_str()));
        assert_eq!(actions, [Some(AuditAction::RoleChanged), Some(AuditAction::RoleCreated)]);
    }
}

/// A batch that is in progress while another permission is taken away must not count for it.
#[actix_web::test]
async fn permission_taken_away_during_a_batch_starts_again() {
    let database = TestDatabase::postgres().await;
    database
        .run(async |database| {
            let store = open_store(&database).await;
            let store = store.as_ref();
            set(store, "clerk", "orders:read orders:write").await;
            let sessions = add_member(store, "clerk", 2).await;
            set(store, "clerk", "orders:read").await;
            let mut connection = database.connect().await;
            let mut lock = connection.begin().await.unwrap();
            let last = sessions.iter().map(|session| session.id.as_uuid()).max().unwrap();
            lock.execute(sqlx::query("select from sessions where id = $1 for update").bind(last))
                .await
                .unwrap();
            let late = Session { id: SessionId::random(), ..sessions[0].clone() };

            let take_away = async {
                lock_is_waited_for(&database).await;
                open(store, &late).await;
                set(store, "clerk", "").await;
                lock.commit().await.unwrap();
            };
            let (batch, ()) = join!(store.end_sessions_of_roles(10), take_away);

            assert_eq!(batch.unwrap().unwrap().revocations.len(), 2, "the new session is not seen");
            assert_eq!(end_sessions(store, 10).await, [1]);
            assert_eq!(list_sessions(store, late.user_id).await, []);
        })
        .await;
}
