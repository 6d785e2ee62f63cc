//! What becomes of accounts: the decisions that are the same on both databases.

use thiserror::Error;
use time::OffsetDateTime;

use super::{Ended, StoreError};
use crate::domain::{AuditRecord, Initiator, SessionId, User, UserEdit, UserId, UserVersion};

/// A change of an account, which ends its sessions.
#[derive(Clone, Debug)]
pub struct UserChange {
    /// Which account.
    pub user_id: UserId,
    /// The version of itself that it has to be; any where there is none.
    pub version: Option<UserVersion>,
    /// What becomes of it.
    pub edit: UserEdit,
    /// The session that goes on, if any.
    pub but: Option<SessionId>,
    /// Until when the others are revoked: until each would have ended by itself where nobody knows
    /// when the last of its access tokens expires.
    pub revoked_until: Option<OffsetDateTime>,
    /// When it happens.
    pub at: OffsetDateTime,
    /// Who wants it.
    pub by: Initiator,
}

/// What a change has led to.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The account as it is now, or was at last.
    pub user: User,
    /// The sessions that have ended.
    pub ended: Ended,
}

impl Changed {
    /// An account that was so already.
    pub(super) fn nothing(user: User, at: OffsetDateTime) -> Self {
        Self { user, ended: Ended { revocations: Vec::new(), ended_at: at } }
    }
}

/// Why an account was not changed.
#[derive(Debug, Error)]
pub enum ChangeUserError {
    /// There is no such account, or it is not the expected version of itself any more.
    #[error("the account is gone or has changed")]
    Gone,
    /// The session of whoever wanted it has ended.
    #[error("the session of the initiator is over")]
    InitiatorOut,
    /// Nobody could manage accounts any more.
    #[error("the account is the last administrator")]
    LastAdmin,
    /// The database did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a change comes to.
pub(super) enum Decision {
    /// The account is that already.
    Nothing(User),
    /// It becomes this.
    Change(User),
}

impl UserChange {
    /// Decides what the account is afterwards. Among the accounts that are locked have to be itself
    /// and, if it may remove one, every active administrator.
    pub(super) fn decide(&self, locked: Vec<User>) -> Result<Decision, ChangeUserError> {
        let admins = locked.iter().filter(|user| user.is_active_admin()).count();
        let before = locked
            .into_iter()
            .find(|user| user.id == self.user_id)
            .filter(|user| self.version.is_none_or(|version| version == user.version))
            .ok_or(ChangeUserError::Gone)?;
        if self.edit.removes_admin() && before.is_active_admin() && admins == 1 {
            return Err(ChangeUserError::LastAdmin);
        }
        Ok(if self.is_needed(&before) {
            Decision::Change(self.apply(before))
        } else {
            Decision::Nothing(before)
        })
    }

    fn is_needed(&self, before: &User) -> bool {
        match self.edit {
            UserEdit::Roles(roles) => before.roles != roles,
            UserEdit::Disable => before.disabled_at.is_none(),
            UserEdit::Enable => before.disabled_at.is_some(),
            UserEdit::Password(_) | UserEdit::Delete | UserEdit::EndSessions => true,
        }
    }

    fn apply(&self, mut user: User) -> User {
        match self.edit {
            UserEdit::Roles(roles) => user.roles = roles,
            UserEdit::Disable => user.disabled_at = Some(self.at),
            UserEdit::Enable => user.disabled_at = None,
            UserEdit::Password(_) | UserEdit::Delete | UserEdit::EndSessions => {}
        }
        user.version = user.version.next();
        user
    }

    /// Says what was done to an account.
    pub(super) fn record(&self, user: &User) -> AuditRecord {
        AuditRecord::of_user(self.at, self.edit.action(), user, self.by.clone())
    }
}
