//! The contract of `Store`, which both databases fulfil.

mod accounts;
mod keys;
mod roles;

use std::collections::{HashMap, HashSet};
use std::net::Ipv6Addr;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use portcullis::clock::{Clock, SystemClock};
use portcullis::config::DatabaseSettings;
use portcullis::domain::{
    AccountError, Audience, AuditAction, AuditRecord, CLOCK_SKEW_ALLOWANCE, Generation, MAX_LEEWAY,
    PasswordHash, Permissions, REVOCATIONS_PER_USER, RequestOrigin, Requester, Revocation,
    RevocationId, RoleName, Roles, Session, SessionId, TokenId, TokenUse, User, UserAgent,
    UserEdit, UserId, UserVersion, Username,
};
use portcullis::store::{
    self, AuditQuery, CommittedRevocations, Credentials, FeedBatch, LockedSessions, OpenedSession,
    PresentedToken, Rotation, SchemaPolicy, SessionQuery, Store, StoreError, WriteError,
};
use sqlx::Executor;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use tokio::join;

use crate::support::{PostgresServer, Proxy, TestDatabase, on_both_databases};

on_both_databases![
    credentials_are_found_ignoring_case,
    duplicate_username_is_refused,
    duplicate_id_is_a_store_error,
    password_hash_replacement_requires_expected_hash,
    repeated_revocation_keeps_the_later_expiry,
    revocation_outlives_every_token_of_its_session,
    session_of_an_older_version_is_revoked_until_its_end,
    large_revocation_batch_is_stored,
    only_revoked_ids_are_found,
    expired_revocations_are_deleted_in_batches,
    feed_reloads_fully_then_reads_additions,
    session_rotates_once_per_generation,
    batched_sessions_rotate_independently,
    unreadable_account_fails_only_its_rotation,
    ended_session_does_not_rotate,
    opposite_lock_orders_do_not_deadlock,
    revoking_a_session_ends_it,
    impossible_expiry_fails_no_revocation,
    every_revocation_counts_for_its_account,
    revocations_beyond_the_limit_refuse_sessions_until_they_expire,
    session_beyond_the_limit_names_those_longest_unused,
    deleted_account_cannot_open_a_session,
    expired_sessions_are_deleted_in_batches,
    unreadable_address_fails_no_list,
    several_stores_open_an_empty_database,
    closed_store_is_unavailable,
];

/// Timeout of a read from the feed, long enough for a busy machine.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

async fn open_store(database: &TestDatabase) -> Arc<dyn Store> {
    let settings = DatabaseSettings {
        database: database.config(),
        max_connections: 4,
        acquire_timeout: Duration::from_secs(3),
    };
    let store = store::open(&settings, SchemaPolicy::Migrate, &|_| {}).await;
    store.expect("the database opens")
}

/// Returns the time in whole microseconds, the precision of both databases.
fn now() -> OffsetDateTime {
    SystemClock.now().replace_nanosecond(123_456_000).expect("the nanosecond is valid")
}

fn password_hash(iterations: u32) -> PasswordHash {
    PasswordHash::new(iterations.try_into().unwrap(), &[1; 16], &[2; 32]).unwrap()
}

fn new_credentials(username: &str) -> Credentials {
    let username = Username::parse_existing(username).unwrap();
    let roles = Roles::from_iter([RoleName::USER, RoleName::ADMIN]);
    let user = User { permissions: Permissions::of_service(), ..User::new(username, roles, now()) };
    Credentials { user, password_hash: password_hash(1) }
}

fn audit_record() -> AuditRecord {
    AuditRecord {
        at: now(),
        action: AuditAction::SessionOpened,
        requester: Requester::COMMAND_LINE,
        subject: Some(UserId::random()),
        session_id: None,
        detail: None,
    }
}

async fn read_all_revocations(store: &dyn Store) -> Vec<Revocation> {
    let batch = store.feed().read(READ_TIMEOUT).await.unwrap();
    assert!(batch.is_full_reload);
    batch.entries.into_iter().map(|entry| entry.revocation).collect()
}

/// Returns the expiry of an access token issued now.
fn token_expiry() -> OffsetDateTime {
    now() + Duration::from_hours(1)
}

fn origin(address: &str) -> RequestOrigin {
    let user_agent = UserAgent::sanitize("curl/8.5");
    RequestOrigin { address: address.parse().unwrap(), user_agent }
}

/// Returns tokens that were presented at one address.
fn presented(
    generations: impl IntoIterator<Item = (SessionId, Generation)>,
) -> HashMap<SessionId, PresentedToken> {
    let token = |generation| PresentedToken { generation, origin: origin("2001:db8::2") };
    generations.into_iter().map(|(id, generation)| (id, token(generation))).collect()
}

/// Exchanges tokens, waiting for sessions that are locked. Returns the results of the open sessions.
async fn rotate(
    store: &dyn Store,
    tokens: &HashMap<SessionId, PresentedToken>,
    now: OffsetDateTime,
    used_since: Option<OffsetDateTime>,
    tokens_expire_at: OffsetDateTime,
) -> HashMap<SessionId, Result<Rotation, StoreError>> {
    let rotations =
        store.rotate_sessions(tokens, now, used_since, tokens_expire_at, LockedSessions::Wait);
    rotations.await.unwrap().rotated
}

/// Adds an account and opens a session for it.
async fn add_session(store: &dyn Store) -> Session {
    let mut owner = new_credentials(&format!("user-{}", UserId::random()));
    owner.user.roles = Roles::from_iter([RoleName::USER]);
    owner.user.permissions = owner.user.roles.built_in_permissions();
    store.insert_user(&owner, &audit_record()).await.unwrap();
    let created_at = now();
    let session = Session {
        id: SessionId::random(),
        user_id: owner.user.id,
        created_at,
        last_used_at: created_at,
        expires_at: created_at + Duration::from_hours(24),
        tokens_expire_at: created_at + Duration::from_hours(1),
        audience: Some(Audience::from_text(". orders")),
        origin: origin("2001:db8::1"),
        last_origin: origin("2001:db8::1"),
    };
    insert_session(store, &session).await.unwrap();
    session
}

/// Inserts a session of an account in its first version, without a limit of sessions.
async fn insert_session(store: &dyn Store, session: &Session) -> Result<OpenedSession, WriteError> {
    store.insert_session(session, UserVersion::FIRST, u32::MAX, &audit_record()).await
}

/// Revokes on behalf of an account that does not exist.
async fn revoke(store: &dyn Store, revocations: &[Revocation]) -> CommittedRevocations {
    let user_id = Some(UserId::random());
    let revocations: Vec<_> = revocations.iter().map(|revocation| (*revocation, user_id)).collect();
    store.revoke(&revocations, &[], LockedSessions::Wait).await.unwrap()
}

async fn list_sessions(store: &dyn Store, user_id: UserId) -> Vec<Session> {
    let query = SessionQuery { user_id, after: None, limit: 100 };
    store.list_sessions(&query, now()).await.unwrap()
}

fn entry_ids(batch: &FeedBatch) -> HashSet<RevocationId> {
    batch.entries.iter().map(|entry| entry.revocation.id).collect()
}

fn revocation_ids(revocations: &[Revocation]) -> HashSet<RevocationId> {
    revocations.iter().map(|revocation| revocation.id).collect()
}

fn new_revocation(expires_at: OffsetDateTime) -> Revocation {
    Revocation { id: TokenId::random().into(), expires_at }
}

/// Returns the reason why the creation or change of an account was refused.
fn account_error<T>(result: Result<T, WriteError>) -> AccountError {
    match result.err() {
        Some(WriteError::Account(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

async fn credentials_are_found_ignoring_case(database: TestDatabase) {
    let store = open_store(&database).await;
    let added = new_credentials("Alice");
    store.insert_user(&added, &audit_record()).await.unwrap();

    let same_name = Username::parse("ALICE").unwrap();
    let found = store.find_credentials(&same_name).await.unwrap().unwrap();

    assert_eq!(found.user, added.user);
    assert_eq!(found.password_hash, added.password_hash);
    let other_name = Username::parse("bob").unwrap();
    assert!(store.find_credentials(&other_name).await.unwrap().is_none());
}

async fn duplicate_username_is_refused(database: TestDatabase) {
    let store = open_store(&database).await;
    store.insert_user(&new_credentials("alice"), &audit_record()).await.unwrap();

    let refused = store.insert_user(&new_credentials("Alice"), &audit_record()).await;

    assert_eq!(account_error(refused), AccountError::UsernameTaken);
}

async fn duplicate_id_is_a_store_error(database: TestDatabase) {
    let store = open_store(&database).await;
    let alice = new_credentials("alice");
    store.insert_user(&alice, &audit_record()).await.unwrap();
    let mut bob = new_credentials("bob");
    bob.user.id = alice.user.id;

    let refused = store.insert_user(&bob, &audit_record()).await;

    assert!(matches!(refused, Err(WriteError::Store(_))), "{refused:?}");
}

async fn password_hash_replacement_requires_expected_hash(database: TestDatabase) {
    let store = open_store(&database).await;
    let alice = new_credentials("alice");
    store.insert_user(&alice, &audit_record()).await.unwrap();
    let id = alice.user.id;

    assert!(store.replace_password_hash(id, &password_hash(1), &password_hash(2)).await.unwrap());
    assert!(!store.replace_password_hash(id, &password_hash(1), &password_hash(3)).await.unwrap());

    let found = store.find_credentials(&alice.user.username).await.unwrap().unwrap();
    assert_eq!(found.password_hash, password_hash(2));
}

async fn repeated_revocation_keeps_the_later_expiry(database: TestDatabase) {
    let store = open_store(&database).await;
    let batch = [(); 3].map(|()| new_revocation(now()));
    revoke(store.as_ref(), &batch).await;
    let mut feed = store.feed();
    feed.read(READ_TIMEOUT).await.unwrap();
    let later = Revocation { expires_at: now() + Duration::from_hours(1), ..batch[0] };
    let earlier = Revocation { expires_at: now() - Duration::from_hours(1), ..batch[1] };
    let fresh = new_revocation(now());

    let committed = revoke(store.as_ref(), &[later, earlier, fresh, fresh]).await;

    let changed = revocation_ids(&[later, fresh]);
    assert_eq!(revocation_ids(&committed.revocations), changed);
    assert_eq!(entry_ids(&feed.read(READ_TIMEOUT).await.unwrap()), changed);
    let revocations = read_all_revocations(store.as_ref()).await;
    assert_eq!(revocations.len(), 4, "{revocations:?}");
    for expected in [later, batch[1], batch[2], fresh] {
        assert!(revocations.contains(&expected), "{revocations:?}");
    }
}

async fn revocation_outlives_every_token_of_its_session(database: TestDatabase) {
    let store = open_store(&database).await;
    let opened = add_session(store.as_ref()).await;
    let refreshed = add_session(store.as_ref()).await;
    let much_later = now() + Duration::from_hours(3);
    let tokens = presented([(refreshed.id, Generation::FIRST)]);
    rotate(store.as_ref(), &tokens, now(), None, much_later).await;
    rotate(store.as_ref(), &tokens, now(), None, now()).await;

    let soon = now() + Duration::from_mins(1);
    let revocations =
        [&opened, &refreshed].map(|session| Revocation { id: session.id.into(), expires_at: soon });
    let committed = revoke(store.as_ref(), &revocations).await.revocations;

    let stored = read_all_revocations(store.as_ref()).await;
    let expiry = |id: SessionId| {
        stored.iter().find(|revocation| revocation.id == id.into()).unwrap().expires_at
    };
    assert!(expiry(opened.id) > now() + Duration::from_mins(59));
    assert_eq!(expiry(refreshed.id), much_later + MAX_LEEWAY);
    assert!(committed.iter().all(|revocation| stored.contains(revocation)), "{committed:?}");
}

async fn session_of_an_older_version_is_revoked_until_its_end(database: TestDatabase) {
    let store = open_store(&database).await;
    let session = add_session(store.as_ref()).await;
    database.execute("update sessions set tokens_expire_at = null").await;
    let tokens = presented([(session.id, Generation::FIRST)]);
    rotate(store.as_ref(), &tokens, now(), None, token_expiry()).await;

    let revocation = Revocation { id: session.id.into(), expires_at: token_expiry() };
    revoke(store.as_ref(), &[revocation]).await;

    let expires_at = session.expires_at + MAX_LEEWAY;
    let expected = Revocation { id: session.id.into(), expires_at };
    assert_eq!(read_all_revocations(store.as_ref()).await, [expected]);
}

async fn large_revocation_batch_is_stored(database: TestDatabase) {
    let store = open_store(&database).await;
    let batch: Vec<_> = (0..25_000).map(|_| new_revocation(now())).collect();

    revoke(store.as_ref(), &batch).await;

    assert_eq!(read_all_revocations(store.as_ref()).await.len(), batch.len());
}

async fn only_revoked_ids_are_found(database: TestDatabase) {
    let store = open_store(&database).await;
    let revoked = new_revocation(now());
    revoke(store.as_ref(), &[revoked]).await;
    let other: RevocationId = TokenId::random().into();

    let found = store.find_revoked(&[other, revoked.id]).await.unwrap();
    assert_eq!(found, HashSet::from([revoked.id]));
    assert!(store.find_revoked(&[other]).await.unwrap().is_empty());
}

async fn expired_revocations_are_deleted_in_batches(database: TestDatabase) {
    let store = open_store(&database).await;
    let aged =
        |seconds| new_revocation(now() - CLOCK_SKEW_ALLOWANCE - Duration::from_secs(seconds));
    let expired: Vec<_> = (10..15).map(aged).collect();
    let live = new_revocation(now() - CLOCK_SKEW_ALLOWANCE + Duration::from_mins(1));
    revoke(store.as_ref(), &expired).await;
    revoke(store.as_ref(), &[live]).await;

    assert_eq!(store.delete_expired_revocations(now(), 3).await.unwrap(), 3);
    assert_eq!(store.delete_expired_revocations(now(), 3).await.unwrap(), 2);
    assert_eq!(store.delete_expired_revocations(now(), 3).await.unwrap(), 0);
    assert_eq!(read_all_revocations(store.as_ref()).await, [live]);
}

async fn feed_reloads_fully_then_reads_additions(database: TestDatabase) {
    let store = open_store(&database).await;
    let mut feed = store.feed();
    let batches = [(); 3].map(|()| [(); 2].map(|()| new_revocation(now())));

    assert!(feed.read(READ_TIMEOUT).await.unwrap().is_full_reload);
    assert!(
        !feed.read(READ_TIMEOUT).await.unwrap().is_full_reload,
        "the second read of an empty table adds nothing"
    );
    feed.request_full_reload();
    revoke(store.as_ref(), &batches[0]).await;
    let first = feed.read(READ_TIMEOUT).await.unwrap();
    revoke(store.as_ref(), &batches[1]).await;
    let second = feed.read(READ_TIMEOUT).await.unwrap();
    let third = feed.read(READ_TIMEOUT).await.unwrap();
    feed.request_full_reload();
    let reloaded = feed.read(READ_TIMEOUT).await.unwrap();

    assert_eq!((entry_ids(&first), first.is_full_reload), (revocation_ids(&batches[0]), true));
    assert_eq!((entry_ids(&second), second.is_full_reload), (revocation_ids(&batches[1]), false));
    assert_eq!((entry_ids(&third), third.is_full_reload), (HashSet::new(), false));
    assert_eq!(
        (entry_ids(&reloaded), reloaded.is_full_reload),
        (revocation_ids(&batches[..2].concat()), true)
    );
    let revoked_at = second.entries[0].revoked_at;
    assert!(
        first.read_at <= revoked_at && revoked_at <= second.read_at,
        "commits and reads are timed by the same clock"
    );
}

async fn session_rotates_once_per_generation(database: TestDatabase) {
    let store = open_store(&database).await;
    let session = add_session(store.as_ref()).await;
    let first = Generation::FIRST;
    let second = first.next();
    let rotate_from = async |generation| {
        let tokens = presented([(session.id, generation)]);
        let later = now() + Duration::from_mins(1);
        let mut rotations = rotate(store.as_ref(), &tokens, later, None, token_expiry()).await;
        rotations.remove(&session.id).unwrap().unwrap()
    };

    let rotations = join_all((0..8).map(|_| rotate_from(first))).await;
    for rotation in rotations {
        assert_eq!((rotation.generation, rotation.user.id), (second, session.user_id));
        assert_eq!(rotation.expires_at, session.expires_at);
        assert!(matches!(rotation.token_use, TokenUse::Exchange | TokenUse::Retry), "{rotation:?}");
    }
    let exchanged = rotate_from(second).await;
    assert_eq!((exchanged.generation, exchanged.token_use), (second.next(), TokenUse::Exchange));
    let replayed = rotate_from(first).await;
    assert_eq!((replayed.generation, replayed.token_use), (second.next(), TokenUse::Replay));
    let unknown = rotate_from(second.next().next()).await;
    assert_eq!((unknown.generation, unknown.token_use), (second.next(), TokenUse::Unknown));

    let listed = list_sessions(store.as_ref(), session.user_id).await;
    assert_eq!(listed.len(), 1);
    assert!(listed[0].last_used_at > session.last_used_at);
    assert_eq!(listed[0].origin, origin("2001:db8::1"));
    assert_eq!(listed[0].last_origin, origin("2001:db8::2"));
}

async fn batched_sessions_rotate_independently(database: TestDatabase) {
    let store = open_store(&database).await;
    let current = add_session(store.as_ref()).await;
    let outdated = add_session(store.as_ref()).await;
    let first = Generation::FIRST;
    let second = first.next();
    rotate(store.as_ref(), &presented([(outdated.id, first)]), now(), None, token_expiry()).await;
    rotate(store.as_ref(), &presented([(outdated.id, second)]), now(), None, token_expiry()).await;

    let tokens =
        presented([(current.id, first), (outdated.id, first), (SessionId::random(), first)]);
    let rotations = rotate(store.as_ref(), &tokens, now(), None, token_expiry()).await;

    assert_eq!(rotations.len(), 2);
    for (session, generation) in [(current, second), (outdated, second.next())] {
        let rotation = rotations[&session.id].as_ref().unwrap();
        assert_eq!((rotation.user.id, rotation.generation), (session.user_id, generation));
    }
}

async fn unreadable_account_fails_only_its_rotation(database: TestDatabase) {
    let store = open_store(&database).await;
    let unreadable = add_session(store.as_ref()).await;
    database.execute("update users set username = ''").await;
    let readable = add_session(store.as_ref()).await;

    let tokens = presented([(readable.id, Generation::FIRST), (unreadable.id, Generation::FIRST)]);
    let rotations = rotate(store.as_ref(), &tokens, now(), None, token_expiry()).await;

    assert_eq!(rotations[&readable.id].as_ref().unwrap().user.id, readable.user_id);
    let refused = &rotations[&unreadable.id];
    assert!(matches!(refused, Err(StoreError::Inconsistent { .. })), "{refused:?}");
}

async fn ended_session_does_not_rotate(database: TestDatabase) {
    let store = open_store(&database).await;
    let session = add_session(store.as_ref()).await;
    let rotates = async |id, now, used_since| {
        let tokens = presented([(id, Generation::FIRST)]);
        !rotate(store.as_ref(), &tokens, now, used_since, token_expiry()).await.is_empty()
    };

    assert!(!rotates(SessionId::random(), now(), None).await);
    assert!(!rotates(session.id, session.expires_at, None).await);
    let later = session.last_used_at + Duration::from_secs(1);
    assert!(!rotates(session.id, now(), Some(later)).await);
    let query = SessionQuery { user_id: session.user_id, after: None, limit: 100 };
    assert!(store.list_sessions(&query, session.expires_at).await.unwrap().is_empty());
    assert!(rotates(session.id, now(), Some(session.last_used_at)).await);
}

async fn opposite_lock_orders_do_not_deadlock(database: TestDatabase) {
    let store = open_store(&database).await;
    let expires_at = now() + Duration::from_hours(1);
    for _ in 0..20 {
        let first = add_session(store.as_ref()).await;
        let initiator = add_session(store.as_ref()).await;
        let mut end_sessions = accounts::new_change(first.user_id, UserEdit::EndSessions);
        end_sessions.requester.session_id = Some(initiator.id);
        let mut sessions = join_all((0..60).map(async |_| {
            let session = Session { id: SessionId::random(), ..first.clone() };
            insert_session(store.as_ref(), &session).await.unwrap();
            session
        }))
        .await;
        sessions.push(initiator);
        let tokens = presented(sessions.iter().map(|session| (session.id, Generation::FIRST)));
        let session_revocations =
            sessions.iter().map(|session| Revocation { id: session.id.into(), expires_at });
        let token_revocations = (0..10).map(|_| new_revocation(expires_at));
        let revocations: Vec<_> = session_revocations.chain(token_revocations).collect();
        let reversed: Vec<_> = revocations.iter().rev().copied().collect();
        let skipping: Vec<_> = reversed.iter().map(|item| (*item, Some(first.user_id))).collect();

        // Each call locks the same sessions, and they arrive in different orders.
        let (_, ending, _, _, rotation, revoking) = join!(
            rotate(store.as_ref(), &tokens, now(), None, token_expiry()),
            store.change_user(&end_sessions),
            revoke(store.as_ref(), &revocations),
            revoke(store.as_ref(), &reversed),
            store.rotate_sessions(&tokens, now(), None, token_expiry(), LockedSessions::Skip),
            store.revoke(&skipping, &[], LockedSessions::Skip),
        );

        rotation.unwrap();
        revoking.unwrap();
        if ending.is_err() {
            assert_eq!(account_error(ending), AccountError::RequesterSignedOut);
        }
    }
}

async fn revoking_a_session_ends_it(database: TestDatabase) {
    let store = open_store(&database).await;
    let session = add_session(store.as_ref()).await;

    let ending = Revocation { id: session.id.into(), expires_at: now() };
    revoke(store.as_ref(), &[new_revocation(now()), ending]).await;

    assert!(list_sessions(store.as_ref(), session.user_id).await.is_empty());
    assert_eq!(read_all_revocations(store.as_ref()).await.len(), 2);
}

async fn impossible_expiry_fails_no_revocation(database: TestDatabase) {
    let store = open_store(&database).await;
    let ages = match database {
        TestDatabase::Postgres { .. } => ["'infinity'", "'-infinity'"],
        TestDatabase::Sqlite(_) => ["9223372036854775807", "-9223372036854775807"],
    };
    for age in ages {
        let impossible = [
            add_session(store.as_ref()).await,
            add_session(store.as_ref()).await,
            add_session(store.as_ref()).await,
        ];
        database.execute(format!("update sessions set tokens_expire_at = {age}")).await;
        let sound = add_session(store.as_ref()).await;
        let revocation =
            |session: &Session| Revocation { id: session.id.into(), expires_at: token_expiry() };
        let mut command = accounts::new_change(impossible[2].user_id, UserEdit::EndSessions);
        command.revoked_until = None;

        revoke(store.as_ref(), &[&impossible[0], &sound].map(revocation)).await;
        let change = accounts::new_change(impossible[1].user_id, UserEdit::EndSessions);
        store.change_user(&change).await.unwrap();
        store.change_user(&command).await.unwrap();
    }
    database.execute(format!("update revocations set expires_at = {}", ages[0])).await;
    revoke(store.as_ref(), &[new_revocation(token_expiry())]).await;

    let read = read_all_revocations(store.as_ref()).await;
    assert_eq!(read.len(), 9);
    let lasting = read.iter().filter(|revocation| revocation.expires_at.year() == 9999);
    assert_eq!(lasting.count(), 8);
}

async fn every_revocation_counts_for_its_account(database: TestDatabase) {
    let store = open_store(&database).await;
    let first = add_session(store.as_ref()).await;
    let user_id = first.user_id;
    let second = Session { id: SessionId::random(), ..first.clone() };
    insert_session(store.as_ref(), &second).await.unwrap();
    let token = new_revocation(token_expiry());
    let session = Revocation { id: first.id.into(), expires_at: token_expiry() };

    store
        .revoke(&[(token, Some(user_id)), (session, Some(user_id))], &[], LockedSessions::Wait)
        .await
        .unwrap();
    let change = accounts::new_change(user_id, UserEdit::EndSessions);
    store.change_user(&change).await.unwrap();

    assert_eq!(read_all_revocations(store.as_ref()).await.len(), 3);
    database.execute("delete from revocations where user_id = (select id from users)").await;
    assert_eq!(read_all_revocations(store.as_ref()).await, []);
}

async fn revocations_beyond_the_limit_refuse_sessions_until_they_expire(database: TestDatabase) {
    let store = open_store(&database).await;
    let session = add_session(store.as_ref()).await;
    let other = add_session(store.as_ref()).await;
    let lasting = (0..REVOCATIONS_PER_USER).map(|_| new_revocation(token_expiry()));
    let soonest = now() + Duration::from_mins(7);
    let all: Vec<_> = lasting
        .chain([new_revocation(soonest)])
        .map(|item| (item, Some(session.user_id)))
        .collect();
    let open_at = async |owner: &Session, created_at| {
        let session = Session { id: SessionId::random(), created_at, ..owner.clone() };
        insert_session(store.as_ref(), &session).await
    };

    store.revoke(&all[1..], &[], LockedSessions::Wait).await.unwrap();
    open_at(&session, now()).await.unwrap();
    store.revoke(&all, &[], LockedSessions::Wait).await.unwrap();

    let refused = open_at(&session, soonest - Duration::from_secs(90)).await;
    let retry_after = Duration::from_secs(90);
    assert_eq!(account_error(refused), AccountError::TooManyRevocations { retry_after });
    open_at(&other, now()).await.unwrap();
    open_at(&session, soonest).await.unwrap();
}

async fn session_beyond_the_limit_names_those_longest_unused(database: TestDatabase) {
    let store = open_store(&database).await;
    let oldest = add_session(store.as_ref()).await;
    let used_after = |secs| Session {
        id: SessionId::random(),
        last_used_at: oldest.last_used_at + Duration::from_secs(secs),
        ..oldest.clone()
    };
    let [newest, older, new] = [2, 1, 3].map(used_after);
    for session in [&newest, &older] {
        insert_session(store.as_ref(), session).await.unwrap();
    }

    let opened = store.insert_session(&new, UserVersion::FIRST, 2, &audit_record()).await.unwrap();

    assert_eq!(opened.excess, [older.id, oldest.id]);
}

async fn deleted_account_cannot_open_a_session(database: TestDatabase) {
    let store = open_store(&database).await;
    let session = add_session(store.as_ref()).await;
    let orphan = Session { id: SessionId::random(), user_id: UserId::random(), ..session };

    let refused = insert_session(store.as_ref(), &orphan).await;
    assert_eq!(account_error(refused), AccountError::Changed);
}

async fn expired_sessions_are_deleted_in_batches(database: TestDatabase) {
    let store = open_store(&database).await;
    let live = add_session(store.as_ref()).await;
    for _ in 0..3 {
        let expires_at = now() - Duration::from_mins(1);
        let expired = Session { id: SessionId::random(), expires_at, ..live.clone() };
        insert_session(store.as_ref(), &expired).await.unwrap();
    }

    assert_eq!(store.delete_expired_sessions(now(), 2).await.unwrap(), 2);
    assert_eq!(store.delete_expired_sessions(now(), 2).await.unwrap(), 1);
    assert_eq!(list_sessions(store.as_ref(), live.user_id).await, [live]);
}

async fn unreadable_address_fails_no_list(database: TestDatabase) {
    let store = open_store(&database).await;
    let session = add_session(store.as_ref()).await;
    database.execute("update sessions set address = 'nowhere', last_address = 'nowhere'").await;
    database.execute("update audit_log set address = 'nowhere'").await;

    let listed = list_sessions(store.as_ref(), session.user_id).await;

    assert_eq!(listed[0].id, session.id);
    assert_eq!(listed[0].origin.address, Ipv6Addr::UNSPECIFIED);
    let query = AuditQuery { limit: 10, ..AuditQuery::default() };
    let records = store.list_audit_records(&query).await.unwrap();
    assert!(records[0].origin.is_some());
}

async fn several_stores_open_an_empty_database(database: TestDatabase) {
    let stores = join_all((0..6).map(|_| open_store(&database))).await;

    stores[0].insert_user(&new_credentials("alice"), &audit_record()).await.unwrap();
    let name = Username::parse("alice").unwrap();
    for store in &stores {
        assert!(store.find_credentials(&name).await.unwrap().is_some());
    }
}

async fn closed_store_is_unavailable(database: TestDatabase) {
    let store = open_store(&database).await;
    store.ping().await.unwrap();

    store.close().await;

    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));
    assert_eq!(store.pool_status().in_use, 0);
}

/// Begins a transaction that revokes a token, and leaves it open.
async fn begin_revocation(database: &TestDatabase) -> PgConnection {
    let mut connection = database.connect().await;
    let insert =
        "begin; insert into revocations (id, expires_at) values (gen_random_uuid(), now())";
    connection.execute(insert).await.unwrap();
    connection
}

#[actix_web::test]
async fn feed_reads_late_commits_exactly_once() {
    let test = async |database: TestDatabase| {
        let store = open_store(&database).await;
        let mut feed = store.feed();
        let mut read_count = async || feed.read(READ_TIMEOUT).await.unwrap().entries.len();
        let mut first = begin_revocation(&database).await;
        let mut second = begin_revocation(&database).await;
        let mut unrelated = database.connect().await;
        unrelated.execute("begin; select pg_current_xact_id()").await.unwrap();

        revoke(store.as_ref(), &[new_revocation(now())]).await;
        assert_eq!(read_count().await, 1);
        second.execute("commit").await.unwrap();
        assert_eq!(read_count().await, 1);
        revoke(store.as_ref(), &[new_revocation(now())]).await;
        assert_eq!(read_count().await, 1);
        first.execute("commit").await.unwrap();
        assert_eq!(read_count().await, 1);
        assert_eq!(read_count().await, 0);
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn timed_out_feed_read_loses_nothing() {
    let test = async |database: TestDatabase| {
        let store = open_store(&database).await;
        let mut feed = store.feed();
        feed.read(READ_TIMEOUT).await.unwrap();
        let batch = [new_revocation(now())];
        revoke(store.as_ref(), &batch).await;
        let mut other_connection = database.connect().await;
        other_connection.execute("begin; lock table revocations").await.unwrap();

        let timed_out = feed.read(Duration::from_millis(20)).await;
        assert!(matches!(timed_out, Err(StoreError::Timeout(_))), "{timed_out:?}");

        other_connection.execute("rollback").await.unwrap();
        assert_eq!(entry_ids(&feed.read(READ_TIMEOUT).await.unwrap()), revocation_ids(&batch));
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn feed_reloads_fully_after_table_restore() {
    let test = async |database: TestDatabase| {
        let store = open_store(&database).await;
        let mut feed = store.feed();
        revoke(store.as_ref(), &[new_revocation(now())]).await;
        feed.read(READ_TIMEOUT).await.unwrap();

        // A restore creates the table, then the rows with transaction IDs of another server, then
        // the index.
        database.execute("drop index revocations_xid").await;
        let without_index = feed.read(READ_TIMEOUT).await.unwrap();
        database
            .execute(
                "insert into revocations (id, expires_at, xid) values
                 (gen_random_uuid(), now(), '3'), (gen_random_uuid(), now(), '4000000000')",
            )
            .await;
        assert_eq!(feed.read(READ_TIMEOUT).await.unwrap().entries.len(), 0);
        database.execute("create index revocations_xid on revocations (xid)").await;
        let with_index = feed.read(READ_TIMEOUT).await.unwrap();

        assert!(without_index.is_full_reload && with_index.is_full_reload);
        assert_eq!(with_index.entries.len(), 3);
        let after = feed.read(READ_TIMEOUT).await.unwrap();
        assert!(!after.is_full_reload && after.entries.is_empty(), "{after:?}");
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn feeds_agree_on_a_new_run_of_the_server() {
    let test = async |database: TestDatabase| {
        let store = open_store(&database).await;
        let mut feeds = [store.feed(), store.feed()];
        for feed in &mut feeds {
            feed.read(READ_TIMEOUT).await.unwrap();
        }

        // As a recovery from a crash leaves it.
        database.execute("truncate server_runs").await;
        let [one, other] = &mut feeds;
        let (first, second) = join!(one.read(READ_TIMEOUT), other.read(READ_TIMEOUT));
        assert!(first.unwrap().is_full_reload && second.unwrap().is_full_reload);

        // Each may have begun a run.
        one.read(READ_TIMEOUT).await.unwrap();
        other.read(READ_TIMEOUT).await.unwrap();
        let (first, second) = join!(one.read(READ_TIMEOUT), other.read(READ_TIMEOUT));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.cursor.server, second.cursor.server);
        assert!(!first.is_full_reload && !second.is_full_reload);
    };
    TestDatabase::postgres().await.run(test).await;
}

#[actix_web::test]
async fn feed_refuses_a_replica() {
    let mut server = PostgresServer::start().await;
    let proxy = Proxy::start(&server.database).await;
    let store = open_store(&proxy.database).await;
    store.feed().read(READ_TIMEOUT).await.unwrap();
    proxy.redirect_to(&server.add_replica().await);

    let read = store.feed().read(READ_TIMEOUT).await;

    assert!(matches!(read, Err(StoreError::Replica)), "{read:?}");
    server.shut_down().await;
}

#[actix_web::test]
async fn listener_reports_revocations_and_disconnection() {
    let test = async |database: TestDatabase| {
        let store = open_store(&database).await;
        let mut listener = store.listener().unwrap();
        listener.connect(READ_TIMEOUT).await.unwrap();

        revoke(store.as_ref(), &[new_revocation(now()), new_revocation(now())]).await;
        store.notify_listeners().await.unwrap();
        listener.wait_for_notification(READ_TIMEOUT).await.unwrap();
        // One that an administrator makes by hand.
        let insert = "insert into revocations (id, expires_at) values (gen_random_uuid(), now())";
        database.execute(insert).await;
        listener.wait_for_notification(READ_TIMEOUT).await.unwrap();

        database
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and query ilike 'listen%'",
            )
            .await;
        assert!(listener.wait_for_notification(READ_TIMEOUT).await.is_err());
        listener.connect(READ_TIMEOUT).await.unwrap();
    };
    TestDatabase::postgres().await.run(test).await;
}
