//! The contract that both databases keep.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use portcullis::clock::{Clock, SystemClock};
use portcullis::config::DatabaseSettings;
use portcullis::domain::{
    PasswordHash, RETENTION, Revocation, RevocationId, Role, Roles, TokenId, User, UserId, Username,
};
use portcullis::store::{self, Credentials, InsertUserError, Store};
use time::OffsetDateTime;

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
    };
    Credentials { user, password_hash: hash(1) }
}

async fn kept(store: &dyn Store) -> Vec<Revocation> {
    let news = store.feed().read(PATIENCE).await.unwrap();
    assert!(news.is_whole);
    news.entries.into_iter().map(|entry| entry.revocation).collect()
}

fn revocation(expires_at: OffsetDateTime) -> Revocation {
    Revocation { id: TokenId::random().into(), expires_at }
}

on_both_databases! {
    async fn an_account_is_found_by_its_name_in_any_case(database: TestDatabase) {
        let store = open(&database).await;
        let added = credentials("Alice");
        store.insert_user(&added).await.unwrap();

        let (same, another) = (Username::parse("ALICE").unwrap(), Username::parse("bob").unwrap());
        let found = store.find_credentials(&same).await.unwrap().unwrap();

        assert_eq!(found.user, added.user);
        assert_eq!(found.password_hash, added.password_hash);
        assert!(store.find_credentials(&another).await.unwrap().is_none());
    }

    async fn a_name_is_taken_once(database: TestDatabase) {
        let store = open(&database).await;
        store.insert_user(&credentials("alice")).await.unwrap();

        let refused = store.insert_user(&credentials("Alice")).await;

        assert!(matches!(refused, Err(InsertUserError::UsernameTaken)), "{refused:?}");
    }

    async fn an_id_that_is_taken_is_no_taken_name(database: TestDatabase) {
        let store = open(&database).await;
        let alice = credentials("alice");
        store.insert_user(&alice).await.unwrap();
        let mut bob = credentials("bob");
        bob.user.id = alice.user.id;

        let refused = store.insert_user(&bob).await;

        assert!(matches!(refused, Err(InsertUserError::Store(_))), "{refused:?}");
    }

    async fn a_hash_is_replaced_only_while_it_is_the_expected_one(database: TestDatabase) {
        let store = open(&database).await;
        let alice = credentials("alice");
        store.insert_user(&alice).await.unwrap();
        let id = alice.user.id;

        assert!(store.replace_password_hash(id, &hash(1), &hash(2)).await.unwrap());
        assert!(!store.replace_password_hash(id, &hash(1), &hash(3)).await.unwrap());

        let found = store.find_credentials(&alice.user.username).await.unwrap().unwrap();
        assert_eq!(found.password_hash, hash(2));
    }

    async fn revocations_are_kept_and_may_be_repeated(database: TestDatabase) {
        let store = open(&database).await;
        let batch = [(); 3].map(|()| revocation(now()));
        store.revoke(&batch).await.unwrap();
        let later = Revocation { expires_at: now() + Duration::from_hours(1), ..batch[0] };
        let fresh = revocation(now());

        store.revoke(&[later, fresh, fresh]).await.unwrap();

        let kept = kept(store.as_ref()).await;
        assert_eq!(kept.len(), 4);
        assert!(batch.iter().chain([&fresh]).all(|one| kept.contains(one)), "{kept:?}");
    }

    async fn a_large_batch_is_one_commit_like_a_small_one(database: TestDatabase) {
        let store = open(&database).await;
        let batch: Vec<_> = (0..25_000).map(|_| revocation(now())).collect();

        store.revoke(&batch).await.unwrap();

        assert_eq!(kept(store.as_ref()).await.len(), batch.len());
    }

    async fn those_of_the_ids_that_are_revoked_are_found(database: TestDatabase) {
        let store = open(&database).await;
        let revoked = revocation(now());
        store.revoke(&[revoked]).await.unwrap();
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
        store.revoke(&expired).await.unwrap();
        store.revoke(&[live]).await.unwrap();

        assert_eq!(store.sweep_revocations(now(), 3).await.unwrap(), 3);
        assert_eq!(store.sweep_revocations(now(), 3).await.unwrap(), 2);
        assert_eq!(store.sweep_revocations(now(), 3).await.unwrap(), 0);
        assert_eq!(kept(store.as_ref()).await, [live]);
    }

    async fn many_may_open_an_empty_database_at_once(database: TestDatabase) {
        let stores = join_all((0..6).map(|_| open(&database))).await;

        stores[0].insert_user(&credentials("alice")).await.unwrap();
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
