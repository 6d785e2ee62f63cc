//! The contract that both databases keep.

mod accounts;

use std::collections::HashSet;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use portcullis::clock::{Clock, SystemClock};
use portcullis::config::DatabaseSettings;
use portcullis::domain::{
    AuditAction, AuditRecord, Client, Generation, Initiator, PasswordHash, RETENTION, Revocation,
    RevocationId, Role, Roles, Session, SessionId, TokenId, User, UserAgent, UserEdit, UserId,
    UserVersion, Username,
};
use portcullis::store::{self, ChangeUserError, Credentials, InsertUserError, News, Store};
use sqlx::Executor;
use sqlx::postgres::PgConnection;
use time::OffsetDateTime;
use tokio::join;

use crate::support::{TestDatabase, on_both_databases};

/// How long a read of the feed may hang: the machine may be busy.
const PATIENCE: Duration = Duration::from_mins(1);

async fn open(database: &TestDatabase) -> Arc<dyn Store> {
    let settings = DatabaseSettings {
        database: database.config(),
        max_connections: 4,
        acquire_timeout: Duration::from_secs(3),
    };
    store::open(&settings).await.expect("the database opens")
}

/// The time in whole microseconds, which is what both databases keep.
fn now() -> OffsetDateTime {
    SystemClock.now().replace_nanosecond(123_456_000).expect("a valid nanosecond")
}

fn hash(iterations: u32) -> PasswordHash {
    PasswordHash::new(iterations.try_into().unwrap(), &[1; 16], &[2; 32]).unwrap()
}

fn credentials(username: &str) -> Credentials {
    let user = User {
        id: UserId::random(),
        username: Username::parse(username).unwrap(),
        roles: Roles::from_iter([Role::User, Role::Admin]),
        created_at: now(),
        disabled_at: None,
        version: UserVersion::FIRST,
    };
    Credentials { user, password_hash: hash(1) }
}

/// Something to say in the audit log.
fn record() -> AuditRecord {
    AuditRecord {
        at: now(),
        action: AuditAction::SessionOpened,
        by: Initiator::COMMAND_LINE,
        subject: UserId::random(),
        session: None,
        detail: None,
    }
}

async fn kept(store: &dyn Store) -> Vec<Revocation> {
    let news = store.feed().read(PATIENCE).await.unwrap();
    assert!(news.is_whole);
    news.entries.into_iter().map(|entry| entry.revocation).collect()
}

/// Adds an account with one session.
async fn a_session(store: &dyn Store) -> Session {
    let mut owner = credentials(&format!("user-{}", UserId::random()));
    owner.user.roles = Roles::from_iter([Role::User]);
    store.insert_user(&owner, &record()).await.unwrap();
    let created_at = now();
    let session = Session {
        id: SessionId::random(),
        user_id: owner.user.id,
        created_at,
        last_used_at: created_at,
        expires_at: created_at + Duration::from_hours(24),
        client: Client {
            address: "2001:db8::1".parse().unwrap(),
            user_agent: UserAgent::clean("curl/8.5"),
        },
    };
    assert!(store.insert_session(&session, UserVersion::FIRST, &record()).await.unwrap());
    session
}

fn ids(news: &News) -> HashSet<RevocationId> {
    news.entries.iter().map(|entry| entry.revocation.id).collect()
}

fn ids_of(revocations: &[Revocation]) -> HashSet<RevocationId> {
    revocations.iter().map(|revocation| revocation.id).collect()
}

fn revocation(expires_at: OffsetDateTime) -> Revocation {
    Revocation { id: TokenId::random().into(), expires_at }
}

on_both_databases! {
    async fn an_account_is_found_by_its_name_in_any_case(database: TestDatabase) {
        let store = open(&database).await;
        let added = credentials("Alice");
        store.insert_user(&added, &record()).await.unwrap();

        let (same, another) = (Username::parse("ALICE").unwrap(), Username::parse("bob").unwrap());
        let found = store.find_credentials(&same).await.unwrap().unwrap();

        assert_eq!(found.user, added.user);
        assert_eq!(found.password_hash, added.password_hash);
        assert!(store.find_credentials(&another).await.unwrap().is_none());
    }

    async fn a_name_is_taken_once(database: TestDatabase) {
        let store = open(&database).await;
        store.insert_user(&credentials("alice"), &record()).await.unwrap();

        let refused = store.insert_user(&credentials("Alice"), &record()).await;

        assert!(matches!(refused, Err(InsertUserError::UsernameTaken)), "{refused:?}");
    }

    async fn an_id_that_is_taken_is_no_taken_name(database: TestDatabase) {
        let store = open(&database).await;
        let alice = credentials("alice");
        store.insert_user(&alice, &record()).await.unwrap();
        let mut bob = credentials("bob");
        bob.user.id = alice.user.id;

        let refused = store.insert_user(&bob, &record()).await;

        assert!(matches!(refused, Err(InsertUserError::Store(_))), "{refused:?}");
    }

    async fn a_hash_is_replaced_only_while_it_is_the_expected_one(database: TestDatabase) {
        let store = open(&database).await;
        let alice = credentials("alice");
        store.insert_user(&alice, &record()).await.unwrap();
        let id = alice.user.id;

        assert!(store.replace_password_hash(id, &hash(1), &hash(2)).await.unwrap());
        assert!(!store.replace_password_hash(id, &hash(1), &hash(3)).await.unwrap());

        let found = store.find_credentials(&alice.user.username).await.unwrap().unwrap();
        assert_eq!(found.password_hash, hash(2));
    }

    async fn revocations_are_kept_and_may_be_repeated(database: TestDatabase) {
        let store = open(&database).await;
        let batch = [(); 3].map(|()| revocation(now()));
        store.revoke(&batch, &[]).await.unwrap();
        let later = Revocation { expires_at: now() + Duration::from_hours(1), ..batch[0] };
        let fresh = revocation(now());

        store.revoke(&[later, fresh, fresh], &[]).await.unwrap();

        let kept = kept(store.as_ref()).await;
        assert_eq!(kept.len(), 4);
        assert!(batch.iter().chain([&fresh]).all(|one| kept.contains(one)), "{kept:?}");
    }

    async fn a_large_batch_is_one_commit_like_a_small_one(database: TestDatabase) {
        let store = open(&database).await;
        let batch: Vec<_> = (0..25_000).map(|_| revocation(now())).collect();

        store.revoke(&batch, &[]).await.unwrap();

        assert_eq!(kept(store.as_ref()).await.len(), batch.len());
    }

    async fn those_of_the_ids_that_are_revoked_are_found(database: TestDatabase) {
        let store = open(&database).await;
        let revoked = revocation(now());
        store.revoke(&[revoked], &[]).await.unwrap();
        let other: RevocationId = TokenId::random().into();

        let found = store.revoked_among(&[other, revoked.id]).await.unwrap();
        assert_eq!(found, HashSet::from([revoked.id]));
        assert!(store.revoked_among(&[other]).await.unwrap().is_empty());
    }

    async fn sweeping_deletes_what_has_expired_a_little_at_a_time(database: TestDatabase) {
        let store = open(&database).await;
        let aged = |seconds| revocation(now() - RETENTION - Duration::from_secs(seconds));
        let expired: Vec<_> = (10..15).map(aged).collect();
        let live = revocation(now() - RETENTION + Duration::from_mins(1));
        store.revoke(&expired, &[]).await.unwrap();
        store.revoke(&[live], &[]).await.unwrap();

        assert_eq!(store.sweep_revocations(now(), 3).await.unwrap(), 3);
        assert_eq!(store.sweep_revocations(now(), 3).await.unwrap(), 2);
        assert_eq!(store.sweep_revocations(now(), 3).await.unwrap(), 0);
        assert_eq!(kept(store.as_ref()).await, [live]);
    }

    async fn a_feed_brings_everything_and_then_only_what_is_new(database: TestDatabase) {
        let store = open(&database).await;
        let mut feed = store.feed();
        let batches = [(); 3].map(|()| [(); 2].map(|()| revocation(now())));

        assert!(feed.read(PATIENCE).await.unwrap().is_whole);
        assert!(!feed.read(PATIENCE).await.unwrap().is_whole, "of an empty table, too");
        feed.rewind();
        store.revoke(&batches[0], &[]).await.unwrap();
        let first = feed.read(PATIENCE).await.unwrap();
        store.revoke(&batches[1], &[]).await.unwrap();
        let second = feed.read(PATIENCE).await.unwrap();
        let nothing = feed.read(PATIENCE).await.unwrap();
        feed.rewind();
        let whole = feed.read(PATIENCE).await.unwrap();

        assert_eq!((ids(&first), first.is_whole), (ids_of(&batches[0]), true));
        assert_eq!((ids(&second), second.is_whole), (ids_of(&batches[1]), false));
        assert_eq!((ids(&nothing), nothing.is_whole), (HashSet::new(), false));
        assert_eq!((ids(&whole), whole.is_whole), (ids_of(&batches[..2].concat()), true));
        let made_at = second.entries[0].revoked_at;
        assert!(first.read_at <= made_at && made_at <= second.read_at, "one clock for all");
    }

    async fn a_session_moves_on_once_for_each_generation(database: TestDatabase) {
        let store = open(&database).await;
        let session = a_session(store.as_ref()).await;
        let (first, second) = (Generation::FIRST, Generation::FIRST.next());
        let rotate = async |presented| {
            let (shown, later) = ([(session.id, presented)].into(), now() + Duration::from_mins(1));
            let mut rotations = store.rotate_sessions(&shown, later, None).await.unwrap();
            rotations.remove(&session.id).unwrap().unwrap()
        };

        let at_once = join_all((0..8).map(|_| rotate(first))).await;
        for rotation in at_once {
            assert_eq!((rotation.generation, rotation.user.id), (second, session.user_id));
            assert_eq!(rotation.expires_at, session.expires_at);
            assert!(rotation.age < Duration::from_mins(1), "{rotation:?}");
        }
        assert_eq!(rotate(second).await.generation, second.next());
        assert_eq!(rotate(first).await.generation, second.next(), "an old one moves nothing");

        let listed = store.sessions_of(session.user_id, now()).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert!(listed[0].last_used_at > session.last_used_at);
    }

    async fn sessions_move_on_together_each_by_its_own_generation(database: TestDatabase) {
        let store = open(&database).await;
        let (moved, behind) = (a_session(store.as_ref()).await, a_session(store.as_ref()).await);
        let (first, second) = (Generation::FIRST, Generation::FIRST.next());
        store.rotate_sessions(&[(behind.id, first)].into(), now(), None).await.unwrap();
        store.rotate_sessions(&[(behind.id, second)].into(), now(), None).await.unwrap();

        let shown = [(moved.id, first), (behind.id, first), (SessionId::random(), first)].into();
        let rotations = store.rotate_sessions(&shown, now(), None).await.unwrap();

        assert_eq!(rotations.len(), 2);
        for (session, generation) in [(moved, second), (behind, second.next())] {
            let rotation = rotations[&session.id].as_ref().unwrap();
            assert_eq!((rotation.user.id, rotation.generation), (session.user_id, generation));
        }
    }

    async fn an_account_that_cannot_be_read_keeps_no_others_from_moving_on(database: TestDatabase) {
        let store = open(&database).await;
        let bad = a_session(store.as_ref()).await;
        database.execute("update users set username = ''").await;
        let good = a_session(store.as_ref()).await;

        let shown = [(good.id, Generation::FIRST), (bad.id, Generation::FIRST)].into();
        let rotations = store.rotate_sessions(&shown, now(), None).await.unwrap();

        assert_eq!(rotations[&good.id].as_ref().unwrap().user.id, good.user_id);
        let refused = &rotations[&bad.id];
        assert!(matches!(refused, Err(store::StoreError::Inconsistent { .. })), "{refused:?}");
    }

    async fn a_session_that_is_over_does_not_move_on(database: TestDatabase) {
        let store = open(&database).await;
        let session = a_session(store.as_ref()).await;
        let moves_on = async |id, now, used_since| {
            let shown = [(id, Generation::FIRST)].into();
            !store.rotate_sessions(&shown, now, used_since).await.unwrap().is_empty()
        };

        assert!(!moves_on(SessionId::random(), now(), None).await);
        assert!(!moves_on(session.id, session.expires_at, None).await);
        let later = session.last_used_at + Duration::from_secs(1);
        assert!(!moves_on(session.id, now(), Some(later)).await);
        assert!(store.sessions_of(session.user_id, session.expires_at).await.unwrap().is_empty());
        assert!(moves_on(session.id, now(), Some(session.last_used_at)).await);
    }

    async fn whoever_takes_the_same_sessions_in_another_order_gets_them_all(database: TestDatabase) {
        let store = open(&database).await;
        let expires_at = now() + Duration::from_hours(1);
        for _ in 0..20 {
            let first = a_session(store.as_ref()).await;
            let initiator = a_session(store.as_ref()).await;
            let mut ending = accounts::change(first.user_id, UserEdit::EndSessions);
            ending.by.session = Some(initiator.id);
            let mut sessions = join_all((0..60).map(async |_| {
                let session = Session { id: SessionId::random(), ..first.clone() };
                store.insert_session(&session, UserVersion::FIRST, &record()).await.unwrap();
                session
            }))
            .await;
            sessions.push(initiator);
            let shown = sessions.iter().map(|session| (session.id, Generation::FIRST)).collect();
            let there = sessions.iter().map(|one| Revocation { id: one.id.into(), expires_at });
            let tokens = (0..10).map(|_| revocation(expires_at));
            let there: Vec<_> = there.chain(tokens).collect();
            let back: Vec<_> = there.iter().rev().copied().collect();

            let (moved, ended, one, other) = join!(
                store.rotate_sessions(&shown, now(), None),
                store.change_user(&ending),
                store.revoke(&there, &[]),
                store.revoke(&back, &[]),
            );

            assert!(one.is_ok() && other.is_ok() && moved.is_ok(), "{one:?} {other:?} {moved:?}");
            let is_settled = matches!(ended, Ok(_) | Err(ChangeUserError::InitiatorOut));
            assert!(is_settled, "{ended:?}");
        }
    }

    async fn revoking_a_session_ends_it_in_the_same_commit(database: TestDatabase) {
        let store = open(&database).await;
        let session = a_session(store.as_ref()).await;

        let ending = Revocation { id: session.id.into(), expires_at: now() };
        store.revoke(&[revocation(now()), ending], &[]).await.unwrap();

        assert!(store.sessions_of(session.user_id, now()).await.unwrap().is_empty());
        assert_eq!(kept(store.as_ref()).await.len(), 2);
    }

    async fn a_session_of_an_account_that_is_gone_is_not_opened(database: TestDatabase) {
        let store = open(&database).await;
        let orphan = Session { user_id: UserId::random(), ..a_session(store.as_ref()).await };
        let orphan = Session { id: SessionId::random(), ..orphan };

        assert!(!store.insert_session(&orphan, UserVersion::FIRST, &record()).await.unwrap());
    }

    async fn sessions_that_ended_by_themselves_are_swept(database: TestDatabase) {
        let store = open(&database).await;
        let live = a_session(store.as_ref()).await;
        for _ in 0..3 {
            let expires_at = now() - Duration::from_mins(1);
            let over = Session { id: SessionId::random(), expires_at, ..live.clone() };
            assert!(store.insert_session(&over, UserVersion::FIRST, &record()).await.unwrap());
        }

        assert_eq!(store.sweep_sessions(now(), 2).await.unwrap(), 2);
        assert_eq!(store.sweep_sessions(now(), 2).await.unwrap(), 1);
        assert_eq!(store.sessions_of(live.user_id, now()).await.unwrap(), [live]);
    }

    async fn many_may_open_an_empty_database_at_once(database: TestDatabase) {
        let stores = join_all((0..6).map(|_| open(&database))).await;

        stores[0].insert_user(&credentials("alice"), &record()).await.unwrap();
        let name = Username::parse("alice").unwrap();
        for store in &stores {
            assert!(store.find_credentials(&name).await.unwrap().is_some());
        }
    }

    async fn a_closed_store_is_unavailable(database: TestDatabase) {
        let store = open(&database).await;
        store.ping().await.unwrap();

        store.close().await;

        assert!(matches!(store.ping().await, Err(store::StoreError::Unavailable(_))));
        assert_eq!(store.pool_status().in_use, 0);
    }
}

/// Begins a transaction that revokes something, and leaves it open.
async fn an_open_revocation(database: &TestDatabase) -> PgConnection {
    let mut connection = database.connect().await;
    let insert =
        "begin; insert into revocations (id, expires_at) values (gen_random_uuid(), now())";
    connection.execute(insert).await.unwrap();
    connection
}

#[actix_web::test]
async fn a_feed_misses_no_commit_that_lands_late_and_reads_none_again_because_of_it() {
    let late = async |database: TestDatabase| {
        let store = open(&database).await;
        let mut feed = store.feed();
        let mut count = async || feed.read(PATIENCE).await.unwrap().entries.len();
        let (mut one, mut two) =
            (an_open_revocation(&database).await, an_open_revocation(&database).await);
        let mut elsewhere = database.connect().await;
        elsewhere.execute("begin; select pg_current_xact_id()").await.unwrap();

        store.revoke(&[revocation(now())], &[]).await.unwrap();
        assert_eq!(count().await, 1);
        two.execute("commit").await.unwrap();
        assert_eq!(count().await, 1);
        store.revoke(&[revocation(now())], &[]).await.unwrap();
        assert_eq!(count().await, 1);
        one.execute("commit").await.unwrap();
        assert_eq!(count().await, 1);
        assert_eq!(count().await, 0);
    };
    TestDatabase::postgres().await.lend(late).await;
}

#[actix_web::test]
async fn what_a_feed_gave_up_reading_it_reads_the_next_time() {
    let given_up = async |database: TestDatabase| {
        let store = open(&database).await;
        let mut feed = store.feed();
        feed.read(PATIENCE).await.unwrap();
        let batch = [revocation(now())];
        store.revoke(&batch, &[]).await.unwrap();
        let mut other = database.connect().await;
        other.execute("begin; lock table revocations").await.unwrap();

        let silent = feed.read(Duration::from_millis(20)).await;
        assert!(matches!(silent, Err(store::StoreError::Silent(_))), "{silent:?}");

        other.execute("rollback").await.unwrap();
        assert_eq!(ids(&feed.read(PATIENCE).await.unwrap()), ids_of(&batch));
    };
    TestDatabase::postgres().await.lend(given_up).await;
}

#[actix_web::test]
async fn a_feed_reads_everything_when_the_table_has_been_restored() {
    let restored = async |database: TestDatabase| {
        let store = open(&database).await;
        let mut feed = store.feed();
        store.revoke(&[revocation(now())], &[]).await.unwrap();
        feed.read(PATIENCE).await.unwrap();

        // As a restore does it: first the table, then the rows, with the numbers of another server,
        // then the index.
        database.execute("drop index revocations_xid").await;
        let without_index = feed.read(PATIENCE).await.unwrap();
        database
            .execute(
                "insert into revocations (id, expires_at, xid) values
                 (gen_random_uuid(), now(), '3'), (gen_random_uuid(), now(), '4000000000')",
            )
            .await;
        assert_eq!(feed.read(PATIENCE).await.unwrap().entries.len(), 0);
        database.execute("create index revocations_xid on revocations (xid)").await;
        let with_index = feed.read(PATIENCE).await.unwrap();

        assert!(without_index.is_whole && with_index.is_whole);
        assert_eq!(with_index.entries.len(), 3);
        let after = feed.read(PATIENCE).await.unwrap();
        assert!(!after.is_whole && after.entries.is_empty(), "{after:?}");
    };
    TestDatabase::postgres().await.lend(restored).await;
}

#[actix_web::test]
async fn a_listener_hears_of_a_commit_and_of_the_end_of_its_connection() {
    let heard = async |database: TestDatabase| {
        let store = open(&database).await;
        let mut listener = store.listener().unwrap();
        listener.connect(PATIENCE).await.unwrap();

        store.revoke(&[revocation(now()), revocation(now())], &[]).await.unwrap();
        listener.hear(PATIENCE).await.unwrap();

        database
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and query ilike 'listen%'",
            )
            .await;
        assert!(listener.hear(PATIENCE).await.is_err());
        listener.connect(PATIENCE).await.unwrap();
    };
    TestDatabase::postgres().await.lend(heard).await;
}
