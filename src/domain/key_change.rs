//! Changes to the set of signing keys, and the decision about them. `docs/keys.md` shows the life of
//! a key.

use std::mem;
use std::time::Duration;

use thiserror::Error;
use time::OffsetDateTime;

use super::{
    AuditAction, AuditRecord, CLOCK_SKEW_ALLOWANCE, KeyId, KeyState, MAX_LEEWAY, NewKey, Requester,
    Revocation, SigningKey,
};

/// Edit of the set of keys. The new keys in it are used only if they are needed.
#[derive(Clone, Debug)]
pub enum KeyEdit {
    /// Provides the first keys, one active and one pending, unless there is an active one.
    Start([NewKey; 2]),
    /// Activates the pending key and publishes a new one.
    Rotate(NewKey),
    /// Rotates if the active key has signed for as long as the interval.
    RotateIfDue(Duration, NewKey),
    /// Removes a key and revokes every token that it signed.
    Revoke(KeyId, NewKey),
    /// Removes all keys and revokes every token that they signed.
    RevokeAll([NewKey; 2]),
    /// Deletes the keys whose tokens have all expired.
    DeleteExpired,
}

/// Request to change the set of keys.
#[derive(Clone, Debug)]
pub struct KeyChange {
    pub edit: KeyEdit,
    pub periods: KeyPeriods,
    /// Time of the change by the clock of the requester.
    pub at: OffsetDateTime,
    pub requester: Requester,
}

/// Periods in the life of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPeriods {
    /// Time from the publication of a key until every verifier knows it.
    pub publication: Duration,
    /// Time from the activation of a key until the expiry of the last token that an instance may
    /// sign without raising [`SigningKey::signs_until`].
    pub horizon: Duration,
}

/// Set of keys after a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedKeys {
    pub keys: Vec<SigningKey>,
    /// Revocations of the removed keys.
    pub revocations: Vec<Revocation>,
    /// Actions for the audit log, each with its key.
    pub actions: Vec<(AuditAction, KeyId)>,
}

/// Reason to refuse a change of the set of keys.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Some verifiers may not know the pending key.
    #[error("the pending key has to be published for another {0:?} before it can sign")]
    TooEarly(Duration),
    /// There is no such key.
    #[error("there is no such key")]
    NotFound,
    /// The session of the requester has ended.
    #[error("the session of the requester has ended")]
    RequesterSignedOut,
}

impl KeyChange {
    /// Decides the outcome of the change. Returns `None` if nothing changes.
    ///
    /// `keys` are all keys; their rows must stay locked until the outcome is committed. `now` is
    /// the time by the clock of the database. A key becomes active, or is deleted, only if both
    /// clocks agree that it is time.
    ///
    /// # Errors
    /// Returns a [`KeyError`].
    pub fn decide(
        &self,
        keys: Vec<SigningKey>,
        now: OffsetDateTime,
    ) -> Result<Option<ChangedKeys>, KeyError> {
        let mut changed = ChangedKeys { keys, ..ChangedKeys::default() };
        let earliest_now = now.min(self.at);
        match &self.edit {
            KeyEdit::Start(_) if changed.find(KeyState::Active).is_some() => return Ok(None),
            KeyEdit::Start(new) => self.start(&mut changed, new, now),
            KeyEdit::RotateIfDue(interval, _)
                if changed.has_active_key_since(earliest_now - *interval) =>
            {
                return Ok(None);
            }
            KeyEdit::RotateIfDue(_, next) | KeyEdit::Rotate(next) => {
                self.rotate(&mut changed, next, now)?;
            }
            KeyEdit::Revoke(id, next) => {
                let index = changed.keys.iter().position(|key| key.id == *id);
                let key = changed.keys.remove(index.ok_or(KeyError::NotFound)?);
                self.revoke(&mut changed, &key, now);
                if key.state == KeyState::Active {
                    self.activate(&mut changed, now);
                }
                if key.state != KeyState::Retiring {
                    changed.publish(next, now);
                }
            }
            KeyEdit::RevokeAll(new) => {
                for key in mem::take(&mut changed.keys) {
                    self.revoke(&mut changed, &key, now);
                }
                self.start(&mut changed, new, now);
            }
            KeyEdit::DeleteExpired => {
                let count = changed.keys.len();
                changed.keys.retain(|key| !key.has_expired(earliest_now));
                if changed.keys.len() == count {
                    return Ok(None);
                }
            }
        }
        Ok(Some(changed))
    }

    /// Returns the audit records of the change.
    #[must_use]
    pub fn records(&self, changed: &ChangedKeys) -> Vec<AuditRecord> {
        let record =
            |&(action, key)| AuditRecord::for_key(self.at, action, key, self.requester.clone());
        changed.actions.iter().map(record).collect()
    }

    /// Provides an active key and a pending one.
    fn start(&self, changed: &mut ChangedKeys, new: &[NewKey; 2], now: OffsetDateTime) {
        let [first, second] = new;
        if changed.find(KeyState::Pending).is_none() {
            changed.publish(first, now);
        }
        self.activate(changed, now);
        changed.publish(second, now);
    }

    /// Activates the pending key, which must have been published for long enough.
    fn rotate(
        &self,
        changed: &mut ChangedKeys,
        next: &NewKey,
        now: OffsetDateTime,
    ) -> Result<(), KeyError> {
        let pending = changed.find(KeyState::Pending).ok_or(KeyError::NotFound)?;
        let known_at = pending.published_at + self.periods.publication;
        if let Ok(wait) = Duration::try_from(known_at - now.min(self.at))
            && !wait.is_zero()
        {
            return Err(KeyError::TooEarly(wait));
        }
        if let Some(active) = changed.find(KeyState::Active) {
            active.state = KeyState::Retiring;
        }
        self.activate(changed, now);
        changed.publish(next, now);
        Ok(())
    }

    /// Activates the pending key. After a revocation it does not wait: verifiers that fetched the
    /// keys before it fetch them again when they meet the new one.
    fn activate(&self, changed: &mut ChangedKeys, now: OffsetDateTime) {
        let Some(key) = changed.find(KeyState::Pending) else { return };
        key.state = KeyState::Active;
        key.activated_at = Some(now);
        key.signs_until = now + self.periods.horizon;
        let id = key.id;
        changed.actions.push((AuditAction::KeyActivated, id));
    }

    /// Revokes a key for as long as a token of it may be accepted: until the last token that the
    /// service signed has expired, and until every verifier has dropped the key.
    fn revoke(&self, changed: &mut ChangedKeys, key: &SigningKey, now: OffsetDateTime) {
        let expires_at = key.signs_until.max(now + self.periods.publication) + MAX_LEEWAY;
        changed.revocations.push(Revocation { id: key.id.into(), expires_at });
        changed.actions.push((AuditAction::KeyRevoked, key.id));
    }
}

impl ChangedKeys {
    fn find(&mut self, state: KeyState) -> Option<&mut SigningKey> {
        self.keys.iter_mut().find(|key| key.state == state)
    }

    /// Returns `true` if a key became active after a time.
    fn has_active_key_since(&mut self, time: OffsetDateTime) -> bool {
        let active = self.find(KeyState::Active);
        active.and_then(|key| key.activated_at).is_some_and(|activated_at| activated_at > time)
    }

    fn publish(&mut self, new: &NewKey, now: OffsetDateTime) {
        self.actions.push((AuditAction::KeyPublished, new.id));
        self.keys.push(SigningKey {
            id: new.id,
            state: KeyState::Pending,
            public_key: new.public_key.clone(),
            sealed_private_key: new.sealed_private_key.clone(),
            published_at: now,
            activated_at: None,
            signs_until: now,
        });
    }
}

impl SigningKey {
    /// Returns `true` if no token of a retiring key is valid.
    fn has_expired(&self, now: OffsetDateTime) -> bool {
        self.state == KeyState::Retiring && Self::last_use(self.signs_until) < now
    }

    /// Returns the time from which a key verifies no token, whatever leeway an instance grants.
    #[must_use]
    pub fn last_use(signs_until: OffsetDateTime) -> OffsetDateTime {
        signs_until.saturating_add(
            time::Duration::try_from(MAX_LEEWAY + CLOCK_SKEW_ALLOWANCE).unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);
    const PERIODS: KeyPeriods =
        KeyPeriods { publication: Duration::from_secs(605), horizon: Duration::from_hours(2) };

    fn new_key(number: u8) -> NewKey {
        let id = KeyId::from_thumbprint([number; 32]);
        NewKey { id, public_key: vec![number], sealed_private_key: vec![number] }
    }

    fn change(edit: KeyEdit, at: OffsetDateTime) -> KeyChange {
        KeyChange { edit, periods: PERIODS, at, requester: Requester::COMMAND_LINE }
    }

    /// Decides an edit at a time that both clocks show.
    fn decide(
        edit: KeyEdit,
        keys: &[SigningKey],
        now: OffsetDateTime,
    ) -> Result<Option<ChangedKeys>, KeyError> {
        change(edit, now).decide(keys.to_vec(), now)
    }

    /// Returns the keys 1, active, and 2, pending.
    fn first_keys() -> Vec<SigningKey> {
        let start = KeyEdit::Start([new_key(1), new_key(2)]);
        decide(start, &[], NOW).unwrap().unwrap().keys
    }

    fn states(keys: &[SigningKey]) -> Vec<(u8, KeyState)> {
        keys.iter().map(|key| (key.public_key[0], key.state)).collect()
    }

    #[test]
    fn first_key_signs_at_once() {
        let keys = first_keys();

        assert_eq!(states(&keys), [(1, KeyState::Active), (2, KeyState::Pending)]);
        assert_eq!(keys[0].signs_until, NOW + PERIODS.horizon);
        let again = KeyEdit::Start([new_key(3), new_key(4)]);
        assert_eq!(decide(again, &keys, NOW), Ok(None));
    }

    #[test]
    fn pending_key_signs_once_every_verifier_knows_it() {
        let keys = first_keys();
        let rotate = || KeyEdit::Rotate(new_key(3));
        let known_at = NOW + PERIODS.publication;

        let early = decide(rotate(), &keys, known_at - Duration::from_secs(1));
        assert_eq!(early, Err(KeyError::TooEarly(Duration::from_secs(1))));

        let rotated = decide(rotate(), &keys, known_at).unwrap().unwrap();
        assert_eq!(
            states(&rotated.keys),
            [(1, KeyState::Retiring), (2, KeyState::Active), (3, KeyState::Pending)]
        );
        assert_eq!(rotated.keys[0].signs_until, keys[0].signs_until);
        assert_eq!(rotated.keys[1].signs_until, known_at + PERIODS.horizon);
        assert_eq!(rotated.revocations, []);
    }

    #[test]
    fn one_wrong_clock_activates_and_deletes_nothing() {
        let keys = first_keys();
        let later = NOW + Duration::from_hours(24);
        for (requester, database) in [(NOW, later), (later, NOW)] {
            let rotate = change(KeyEdit::Rotate(new_key(3)), requester);
            assert!(matches!(rotate.decide(keys.clone(), database), Err(KeyError::TooEarly(_))));

            let mut expired = keys.clone();
            expired[0].state = KeyState::Retiring;
            let delete = change(KeyEdit::DeleteExpired, requester);
            assert_eq!(delete.decide(expired, database), Ok(None));
        }
    }

    #[test]
    fn rotation_is_due_after_the_interval() {
        let keys = first_keys();
        let interval = Duration::from_hours(24);
        let rotate = || KeyEdit::RotateIfDue(interval, new_key(3));

        assert_eq!(decide(rotate(), &keys, NOW + interval - Duration::from_secs(1)), Ok(None));
        assert!(decide(rotate(), &keys, NOW + interval).unwrap().is_some());
    }

    #[test]
    fn key_is_deleted_when_its_tokens_have_expired() {
        let mut keys = first_keys();
        keys[0].state = KeyState::Retiring;
        let end = SigningKey::last_use(keys[0].signs_until);

        assert_eq!(decide(KeyEdit::DeleteExpired, &keys, end), Ok(None));
        let deleted = decide(KeyEdit::DeleteExpired, &keys, end + Duration::from_secs(1));
        assert_eq!(states(&deleted.unwrap().unwrap().keys), [(2, KeyState::Pending)]);
    }

    #[test]
    fn revoked_active_key_is_replaced_by_the_pending_one_at_once() {
        let keys = first_keys();

        let changed = decide(KeyEdit::Revoke(keys[0].id, new_key(3)), &keys, NOW);
        let changed = changed.unwrap().unwrap();

        assert_eq!(states(&changed.keys), [(2, KeyState::Active), (3, KeyState::Pending)]);
        let expires_at = keys[0].signs_until + MAX_LEEWAY;
        assert_eq!(changed.revocations, [Revocation { id: keys[0].id.into(), expires_at }]);
        let unknown = KeyId::from_thumbprint([9; 32]);
        let again = decide(KeyEdit::Revoke(unknown, new_key(4)), &changed.keys, NOW);
        assert_eq!(again, Err(KeyError::NotFound));
    }

    #[test]
    fn revoked_pending_or_retiring_key_leaves_the_active_one() {
        let pending = first_keys();
        let changed = decide(KeyEdit::Revoke(pending[1].id, new_key(3)), &pending, NOW);
        let changed = changed.unwrap().unwrap();
        assert_eq!(states(&changed.keys), [(1, KeyState::Active), (3, KeyState::Pending)]);
        // Nothing was signed with it, but a thief of it may have been believed.
        let expires_at = NOW + PERIODS.publication + MAX_LEEWAY;
        assert_eq!(changed.revocations[0].expires_at, expires_at);

        let now = NOW + PERIODS.publication;
        let rotated = decide(KeyEdit::Rotate(new_key(3)), &pending, now).unwrap().unwrap().keys;
        let changed = decide(KeyEdit::Revoke(rotated[0].id, new_key(4)), &rotated, now);
        let changed = changed.unwrap().unwrap();
        assert_eq!(states(&changed.keys), [(2, KeyState::Active), (3, KeyState::Pending)]);
    }

    #[test]
    fn all_keys_are_revoked_and_replaced() {
        let keys = first_keys();

        let changed = decide(KeyEdit::RevokeAll([new_key(3), new_key(4)]), &keys, NOW);
        let changed = changed.unwrap().unwrap();

        assert_eq!(states(&changed.keys), [(3, KeyState::Active), (4, KeyState::Pending)]);
        assert_eq!(changed.revocations.len(), 2);
    }
}
