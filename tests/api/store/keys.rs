//! Contract of the storage of keys.

use std::slice;
use std::time::Duration;

use futures_util::future::join_all;
use portcullis::domain::{
    KeyChange, KeyEdit, KeyError, KeyPeriods, KeySet, KeyState, Requester, RevocationId, SecretKey,
    UserId,
};
use portcullis::store::{AuditQuery, KeyWriteError, SharedSetting, Store};
use portcullis::tokens::{RootKey, generate_key};

use super::{now, open_store};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    simultaneous_starts_make_one_root_key,
    simultaneous_starts_make_one_set_of_keys,
    simultaneous_rotations_activate_one_key,
    unreadable_key_fails_no_other,
    simultaneous_retirements_keep_one_wrapping,
    root_key_is_not_made_for_existing_keys,
    revoked_key_is_in_the_feed_with_a_new_version,
    wrappings_are_added_and_retired,
    former_setting_is_returned,
    change_of_a_signed_out_requester_is_refused,
];

fn change(edit: KeyEdit) -> KeyChange {
    let periods =
        KeyPeriods { publication: Duration::ZERO, token_lifetime: Duration::from_hours(1) };
    // The clock of the test shows whole seconds, and must not be behind that of the database.
    let at = now() + Duration::from_secs(2);
    KeyChange { edit, periods, at, requester: Requester::SERVICE }
}

fn start(root: &RootKey) -> KeyEdit {
    KeyEdit::Provide([(); 2].map(|()| generate_key(root).unwrap()))
}

/// Opens a store with its first keys.
async fn open_with_keys(database: &TestDatabase) -> (std::sync::Arc<dyn Store>, RootKey, KeySet) {
    let store = open_store(database).await;
    let root = RootKey::generate().unwrap();
    let changed = store.change_keys(&change(start(&root))).await.unwrap().unwrap();
    (store, root, changed.set)
}

fn secret(byte: u8) -> SecretKey {
    SecretKey::parse(&[byte; 32]).unwrap()
}

async fn simultaneous_starts_make_one_root_key(database: TestDatabase) {
    let store = open_store(&database).await;

    let inserted = join_all((0..8).map(async |_| {
        let wrapped = RootKey::generate().unwrap().wrap(&secret(1)).unwrap();
        store.insert_root_key(&wrapped).await.unwrap()
    }))
    .await;

    assert_eq!(inserted.iter().filter(|is_first| **is_first).count(), 1);
    assert_eq!(store.root_key_wrappings().await.unwrap().len(), 1);
}

async fn simultaneous_starts_make_one_set_of_keys(database: TestDatabase) {
    let store = open_store(&database).await;
    let root = RootKey::generate().unwrap();

    let outcomes =
        join_all((0..8).map(async |_| store.change_keys(&change(start(&root))).await.unwrap()))
            .await;

    assert_eq!(outcomes.iter().flatten().count(), 1);
    let keys = store.read_keys().await.unwrap();
    let states: Vec<_> = keys.keys.iter().map(|key| key.state).collect();
    assert_eq!((states, keys.version), (vec![KeyState::Active, KeyState::Pending], 1));
}

async fn simultaneous_rotations_activate_one_key(database: TestDatabase) {
    let (store, root, first) = open_with_keys(&database).await;
    let interval = Duration::from_millis(1);

    let outcomes = join_all((0..8).map(async |_| {
        let edit = KeyEdit::RotateIfDue(interval, generate_key(&root).unwrap());
        let mut change = change(edit);
        change.periods.publication = Duration::from_millis(1);
        store.change_keys(&change).await
    }))
    .await;

    let rotated = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Some(_)))).count();
    assert!(rotated >= 1, "{outcomes:?}");
    let keys = store.read_keys().await.unwrap().keys;
    for state in [KeyState::Active, KeyState::Pending] {
        assert_eq!(keys.iter().filter(|key| key.state == state).count(), 1, "{keys:?}");
    }
    assert_eq!(keys.len(), 2 + rotated);
    assert_eq!(
        keys[..2].iter().map(|key| key.id).collect::<Vec<_>>(),
        [first.keys[0].id, first.keys[1].id]
    );
}

async fn unreadable_key_fails_no_other(database: TestDatabase) {
    let (store, root, keys) = open_with_keys(&database).await;
    database
        .execute(match &database {
            TestDatabase::Postgres { .. } => {
                "insert into signing_keys
                 select 'broken', 'retiring', public_key, sealed_private_key, 'infinity',
                        'infinity', '-infinity', 'infinity'
                 from signing_keys limit 1"
            }
            TestDatabase::Sqlite(_) => {
                "insert into signing_keys
                 select 'broken', 'retiring', public_key, sealed_private_key, 9223372036854775807,
                        9223372036854775807, 0, 9223372036854775807
                 from signing_keys limit 1"
            }
        })
        .await;

    let read = store.read_keys().await.unwrap();
    let rotate = change(KeyEdit::Rotate(generate_key(&root).unwrap()));
    let rotated = store.change_keys(&rotate).await.unwrap().unwrap().set;

    assert_eq!((read.keys, read.broken), (keys.keys, vec!["broken".to_owned()]));
    assert_eq!(store.read_keys().await.unwrap(), rotated, "it stays as it is");
    assert_eq!(rotated.broken, ["broken"]);
}

async fn revoked_key_is_in_the_feed_with_a_new_version(database: TestDatabase) {
    let (store, root, keys) = open_with_keys(&database).await;
    let mut feed = store.feed();
    let timeout = Duration::from_secs(10);
    let before = feed.read(timeout).await.unwrap();
    assert_eq!(before.version, keys.version);
    assert_eq!(feed.read_keys(timeout).await.unwrap(), keys);

    let revoke = change(KeyEdit::Revoke(keys.keys[0].id, generate_key(&root).unwrap()));
    let revoked = store.change_keys(&revoke).await.unwrap().unwrap();
    let [revocation] = revoked.revocations[..] else { panic!("{revoked:?}") };

    let after = feed.read(timeout).await.unwrap();
    assert_eq!((before.version + 1, after.version), (after.version, revoked.set.version));
    let ids: Vec<_> = after.entries.iter().map(|entry| entry.revocation.id).collect();
    assert_eq!(ids, [RevocationId::from(keys.keys[0].id)]);
    assert_eq!(ids, [revocation.id]);
    assert_eq!(feed.read_keys(timeout).await.unwrap(), revoked.set);
}

async fn wrappings_are_added_and_retired(database: TestDatabase) {
    let store = open_store(&database).await;
    let root = RootKey::generate().unwrap();
    let [first, second] = [1, 2].map(|byte| root.wrap(&secret(byte)).unwrap());
    assert!(store.insert_root_key(&first).await.unwrap());

    for _ in 0..2 {
        store.add_wrapping(&second).await.unwrap();
    }
    assert_eq!(store.root_key_wrappings().await.unwrap().len(), 2);

    let retire = async |id: &str| store.delete_other_wrappings(id, &Requester::COMMAND_LINE).await;
    assert_eq!(retire("another").await.unwrap(), None);
    assert_eq!(retire(&second.secret_id).await.unwrap(), Some(1));
    assert_eq!(store.root_key_wrappings().await.unwrap(), slice::from_ref(&second));
    let query = AuditQuery { limit: 10, ..AuditQuery::default() };
    let mut records = store.list_audit_records(&query).await.unwrap();
    records.reverse();
    let records: Vec<_> = records
        .iter()
        .map(|record| (record.action.as_str(), record.actor, record.detail.as_deref().unwrap()))
        .collect();
    let service = Some(UserId::SERVICE);
    assert_eq!(
        records,
        [
            ("secret.added", service, first.secret_id.as_str()),
            ("secret.added", service, &second.secret_id),
            ("secret.retired", None, &first.secret_id),
        ]
    );
}

async fn former_setting_is_returned(database: TestDatabase) {
    let store = open_store(&database).await;
    let announce = async |setting, value: &str| store.announce(setting, value).await.unwrap();

    assert_eq!(announce(SharedSetting::Issuer, "portcullis").await, None);
    assert_eq!(announce(SharedSetting::Issuer, "portcullis").await, None);
    assert_eq!(announce(SharedSetting::Algorithm, "ES256").await, None);
    let former = announce(SharedSetting::Issuer, "https://auth.example.com").await;
    assert_eq!(former.as_deref(), Some("portcullis"));
    let former = announce(SharedSetting::Algorithm, "HS256").await;
    assert_eq!(former.as_deref(), Some("ES256"));
}

async fn change_of_a_signed_out_requester_is_refused(database: TestDatabase) {
    let (store, root, keys) = open_with_keys(&database).await;
    let mut revoke = change(KeyEdit::RevokeAll([(); 2].map(|()| generate_key(&root).unwrap())));
    revoke.requester.session_id = Some(portcullis::domain::SessionId::random());

    let refused = store.change_keys(&revoke).await.unwrap_err();

    assert!(matches!(refused, KeyWriteError::Key(KeyError::RequesterSignedOut)));
    assert_eq!(store.read_keys().await.unwrap(), keys);
}

async fn simultaneous_retirements_keep_one_wrapping(database: TestDatabase) {
    let store = open_store(&database).await;
    let root = RootKey::generate().unwrap();
    let wrappings = [1, 2].map(|byte| root.wrap(&secret(byte)).unwrap());
    store.insert_root_key(&wrappings[0]).await.unwrap();
    store.add_wrapping(&wrappings[1]).await.unwrap();

    let retired =
        join_all(wrappings.iter().map(|wrapped| {
            store.delete_other_wrappings(&wrapped.secret_id, &Requester::COMMAND_LINE)
        }))
        .await;

    let mut retired: Vec<_> = retired.into_iter().map(Result::unwrap).collect();
    retired.sort();
    assert_eq!(retired, [None, Some(1)]);
    assert_eq!(store.root_key_wrappings().await.unwrap().len(), 1);
}

async fn root_key_is_not_made_for_existing_keys(database: TestDatabase) {
    let (store, ..) = open_with_keys(&database).await;

    let another = RootKey::generate().unwrap().wrap(&secret(1)).unwrap();

    assert!(!store.insert_root_key(&another).await.unwrap());
}
