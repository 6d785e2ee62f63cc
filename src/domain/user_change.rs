//! Changes to accounts: the edits and the decision about them.

use std::time::Duration;

use thiserror::Error;
use time::OffsetDateTime;

use super::{
    AuditAction, AuditRecord, ExternalId, Grantable, LackingPermissions, Metadata, PasswordHash,
    Permissions, Requester, ResetCodeHash, RoleName, Roles, SessionId, User, UserId, UserVersion,
};

/// Edit of an account. An edit that changes its password, roles or state ends its sessions.
#[derive(Clone, Debug)]
pub enum UserEdit {
    /// Replaces the password.
    Password(PasswordHash),
    /// Replaces the reset code.
    ResetCode(ResetCodeHash),
    /// Replaces the password of an account that has this reset code, and uses the code up.
    ResetPassword(PasswordHash, ResetCodeHash),
    /// Replaces the roles.
    Roles(Roles),
    /// Replaces the identifier in another system.
    ExternalId(Option<ExternalId>),
    /// Replaces the metadata.
    Metadata(Metadata),
    /// Refuses logins.
    Disable,
    /// Allows logins again.
    Enable,
    /// Deletes the account and frees its username.
    Delete,
    /// Ends the sessions and changes nothing else.
    EndSessions,
}

/// Request to edit an account.
#[derive(Clone, Debug)]
pub struct UserChange {
    pub user_id: UserId,
    /// Version that the account must have; `None` accepts every version.
    pub expected_version: Option<UserVersion>,
    pub edit: UserEdit,
    /// Session that stays open.
    pub keep_session: Option<SessionId>,
    /// Earliest expiry of the revocations of the ended sessions. They never expire before the
    /// tokens of their session; `None` adds nothing to that.
    pub revoked_until: Option<OffsetDateTime>,
    /// Time of the change.
    pub at: OffsetDateTime,
    /// Requester of the change.
    pub requester: Requester,
}

/// Permissions and proofs that decide about a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Permissions that the requester can grant.
    pub grantable: Grantable,
    /// Permissions of the new roles, if the edit replaces them.
    pub of_roles: Permissions,
    /// Whether the account has the reset code of the edit, and it has not expired.
    pub has_reset_code: bool,
}

/// Result of an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditOutcome {
    /// The edit has no effect.
    Unchanged(User),
    /// The account after the edit.
    Changed(User),
}

/// Reason to refuse the creation or change of an account, or a new session of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AccountError {
    /// Another account has the username.
    #[error("the username is taken")]
    UsernameTaken,
    /// Another account has the external id.
    #[error("the external id is taken")]
    ExternalIdTaken,
    /// The account does not exist.
    #[error("the account does not exist")]
    NotFound,
    /// The account no longer has the expected version.
    #[error("the account has changed")]
    Changed,
    /// The session of the requester has ended.
    #[error("the session of the requester has ended")]
    RequesterSignedOut,
    /// The account is disabled, so that it gets no reset code.
    #[error("the account is disabled")]
    Disabled,
    /// No enabled account has the reset code, or it has expired.
    #[error("the reset code is invalid")]
    InvalidResetCode,
    /// The edit would leave the service without an active administrator.
    #[error("the account is the last administrator")]
    LastAdmin,
    /// A role does not exist.
    #[error("roles must be among these: {}", .known.names().join(", "))]
    UnknownRoles {
        /// Roles that exist.
        known: Roles,
    },
    /// The requester lacks permissions that it would grant.
    #[error(transparent)]
    PermissionsLacking(#[from] LackingPermissions),
    /// The owner has changed the password too often.
    #[error("the password was changed too often")]
    TooManyPasswordChanges {
        /// Time until the next change.
        retry_after: Duration,
    },
    /// The account has too many live revocations for another session.
    #[error("the account has too many live revocations")]
    TooManyRevocations {
        /// Time until enough of them have expired.
        retry_after: Duration,
    },
}

impl UserEdit {
    /// Returns the audit action of the edit.
    #[must_use]
    pub fn action(&self) -> AuditAction {
        match self {
            Self::Password(_) => AuditAction::PasswordChanged,
            Self::ResetCode(_) => AuditAction::ResetCodeCreated,
            Self::ResetPassword(..) => AuditAction::PasswordReset,
            Self::Roles(_) => AuditAction::RolesChanged,
            Self::ExternalId(_) => AuditAction::ExternalIdChanged,
            Self::Metadata(_) => AuditAction::MetadataChanged,
            Self::Disable => AuditAction::UserDisabled,
            Self::Enable => AuditAction::UserEnabled,
            Self::Delete => AuditAction::UserDeleted,
            Self::EndSessions => AuditAction::SessionsEnded,
        }
    }

    /// Returns `true` if an administrator is none after the edit.
    #[must_use]
    pub fn removes_admin(&self) -> bool {
        match self {
            Self::Roles(roles) => !roles.contains(&RoleName::ADMIN),
            Self::Disable | Self::Delete => true,
            Self::Password(_)
            | Self::ResetCode(_)
            | Self::ResetPassword(..)
            | Self::ExternalId(_)
            | Self::Metadata(_)
            | Self::Enable
            | Self::EndSessions => false,
        }
    }

    /// Returns `true` if failed logins before the edit do not matter after it.
    #[must_use]
    pub fn clears_failures(&self) -> bool {
        matches!(self, Self::Password(_) | Self::ResetPassword(..) | Self::Delete)
    }

    /// Returns `true` if the edit ends the sessions of the account.
    #[must_use]
    pub fn ends_sessions(&self) -> bool {
        !matches!(self, Self::ResetCode(_) | Self::ExternalId(_) | Self::Metadata(_))
    }

    /// Returns `true` if a reset code stays valid. All other edits void it: the requester that made
    /// it may lack permissions that new roles grant.
    #[must_use]
    pub fn keeps_reset_code(&self) -> bool {
        matches!(self, Self::EndSessions | Self::ExternalId(_) | Self::Metadata(_))
    }

    fn has_effect_on(&self, user: &User) -> bool {
        match self {
            Self::Roles(roles) => user.roles != *roles,
            Self::ExternalId(id) => user.external_id != *id,
            Self::Metadata(metadata) => user.metadata != *metadata,
            Self::Disable => user.disabled_at.is_none(),
            Self::Enable => user.disabled_at.is_some(),
            Self::Password(_)
            | Self::ResetCode(_)
            | Self::ResetPassword(..)
            | Self::Delete
            | Self::EndSessions => true,
        }
    }
}

impl UserChange {
    /// Decides the outcome of the change.
    ///
    /// `locked` must contain the account and, if the edit removes an administrator, every active
    /// administrator; their rows must stay locked until the outcome is committed.
    ///
    /// # Errors
    /// Returns [`AccountError::NotFound`], [`AccountError::Changed`],
    /// [`AccountError::PermissionsLacking`], [`AccountError::LastAdmin`],
    /// [`AccountError::Disabled`] or [`AccountError::InvalidResetCode`].
    pub fn decide(&self, locked: Vec<User>, rights: &Rights) -> Result<EditOutcome, AccountError> {
        let active_admins = locked.iter().filter(|user| user.is_active_admin()).count();
        let Some(user) = locked.into_iter().find(|user| user.id == self.user_id) else {
            return Err(AccountError::NotFound);
        };
        if self.expected_version.is_some_and(|expected| expected != user.version) {
            return Err(AccountError::Changed);
        }
        rights.grantable.check(&self.granted(&user, rights))?;
        if self.edit.removes_admin() && user.is_active_admin() && active_admins == 1 {
            return Err(AccountError::LastAdmin);
        }
        let is_disabled = user.disabled_at.is_some();
        match self.edit {
            UserEdit::ResetCode(_) if is_disabled => return Err(AccountError::Disabled),
            UserEdit::ResetPassword(..) if is_disabled || !rights.has_reset_code => {
                return Err(AccountError::InvalidResetCode);
            }
            _ => {}
        }
        if !self.edit.has_effect_on(&user) {
            return Ok(EditOutcome::Unchanged(user));
        }
        Ok(EditOutcome::Changed(self.apply(user, rights)))
    }

    /// Returns the permissions that the edit grants, to the owner or to the requester: one that sets
    /// the password of another account, or makes a reset code for it, can log in to it. One that
    /// changes its external id or metadata can pass for it at APIs that read them.
    fn granted(&self, user: &User, rights: &Rights) -> Permissions {
        match &self.edit {
            UserEdit::Roles(_) => rights.of_roles.without(&user.permissions),
            UserEdit::Password(_) | UserEdit::ResetCode(_)
                if self.requester.user_id == Some(user.id) =>
            {
                Permissions::default()
            }
            UserEdit::Password(_)
            | UserEdit::ResetCode(_)
            | UserEdit::ExternalId(_)
            | UserEdit::Metadata(_)
            | UserEdit::Enable => user.permissions.clone(),
            UserEdit::ResetPassword(..)
            | UserEdit::Disable
            | UserEdit::Delete
            | UserEdit::EndSessions => Permissions::default(),
        }
    }

    fn apply(&self, mut user: User, rights: &Rights) -> User {
        match &self.edit {
            UserEdit::Roles(roles) => {
                user.roles = roles.clone();
                user.permissions = rights.of_roles.clone();
            }
            UserEdit::Disable => user.disabled_at = Some(self.at),
            UserEdit::Enable => user.disabled_at = None,
            UserEdit::ExternalId(id) => user.external_id.clone_from(id),
            UserEdit::Metadata(metadata) => user.metadata = metadata.clone(),
            UserEdit::ResetCode(_)
            | UserEdit::Password(_)
            | UserEdit::ResetPassword(..)
            | UserEdit::Delete
            | UserEdit::EndSessions => {}
        }
        if self.edit.ends_sessions() {
            user.version = user.version.next();
        }
        user
    }

    /// Returns the audit record of the change. `after` is the account after the edit.
    #[must_use]
    pub fn audit_record(&self, after: &User) -> AuditRecord {
        AuditRecord::for_user(self.at, self.edit.action(), after, self.requester.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use time::macros::datetime;

    use super::*;
    use crate::domain::Username;

    const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);

    fn user(name: &str, role: RoleName) -> User {
        let permissions = role.built_in_permissions().unwrap_or_default();
        let name = Username::parse(name).unwrap();
        User { permissions, ..User::new(name, Roles::from_iter([role]), NOW) }
    }

    fn change(user: &User, edit: UserEdit) -> UserChange {
        UserChange {
            user_id: user.id,
            expected_version: None,
            edit,
            keep_session: None,
            revoked_until: None,
            at: NOW,
            requester: Requester::COMMAND_LINE,
        }
    }

    fn everything() -> Rights {
        let of_roles = Permissions::default();
        Rights { grantable: Grantable::All, of_roles, has_reset_code: true }
    }

    const CODE: [u8; 32] = [7; 32];

    fn password_hash() -> PasswordHash {
        PasswordHash::new(NonZeroU32::MIN, &[1; 16], &[2; 32]).unwrap()
    }

    fn reset_code() -> UserEdit {
        UserEdit::ResetCode(CODE.into())
    }

    fn demotion() -> UserEdit {
        UserEdit::Roles(Roles::from_iter([RoleName::USER]))
    }

    #[test]
    fn last_admin_is_not_removed() {
        let alice = user("alice", RoleName::USER);
        let root = user("root", RoleName::ADMIN);
        let mut disabled = user("former", RoleName::ADMIN);
        disabled.disabled_at = Some(NOW);

        for edit in [UserEdit::Delete, UserEdit::Disable, demotion()] {
            let locked = vec![alice.clone(), root.clone(), disabled.clone()];
            let outcome = change(&root, edit).decide(locked, &everything());
            assert_eq!(outcome, Err(AccountError::LastAdmin));
        }
    }

    #[test]
    fn admin_is_removed_beside_another() {
        let root = user("root", RoleName::ADMIN);
        let other = user("other", RoleName::ADMIN);

        for edit in [UserEdit::Delete, UserEdit::Disable, demotion()] {
            let outcome =
                change(&root, edit).decide(vec![root.clone(), other.clone()], &everything());
            assert!(matches!(outcome, Ok(EditOutcome::Changed(_))), "{outcome:?}");
        }
    }

    #[test]
    fn last_admin_may_be_edited_otherwise() {
        let root = user("root", RoleName::ADMIN);
        let promotion = UserEdit::Roles(Roles::from_iter([RoleName::ADMIN, RoleName::USER]));

        for edit in [UserEdit::EndSessions, promotion] {
            let outcome = change(&root, edit).decide(vec![root.clone()], &everything());
            assert!(matches!(outcome, Ok(EditOutcome::Changed(_))), "{outcome:?}");
        }
    }

    #[test]
    fn edit_without_effect_changes_nothing() {
        let alice = user("alice", RoleName::USER);

        for edit in [UserEdit::Enable, demotion()] {
            let outcome = change(&alice, edit).decide(vec![alice.clone()], &everything());
            assert_eq!(outcome, Ok(EditOutcome::Unchanged(alice.clone())));
        }
    }

    #[test]
    fn change_raises_the_version() {
        let alice = user("alice", RoleName::USER);

        let outcome = change(&alice, UserEdit::Disable).decide(vec![alice.clone()], &everything());

        let version = alice.version.next();
        assert_eq!(
            outcome,
            Ok(EditOutcome::Changed(User { disabled_at: Some(NOW), version, ..alice }))
        );
    }

    #[test]
    fn missing_and_changed_accounts_are_told_apart() {
        let mut alice = user("alice", RoleName::USER);
        let mut change = change(&alice, UserEdit::Delete);
        change.expected_version = Some(alice.version);
        alice.version = alice.version.next();

        assert_eq!(change.decide(vec![alice], &everything()), Err(AccountError::Changed));
        assert_eq!(change.decide(Vec::new(), &everything()), Err(AccountError::NotFound));
    }

    /// Returns the permissions that a requester with `users:write` alone lacks for an edit.
    fn lacking(user: &User, edit: UserEdit, of_roles: &str) -> Option<String> {
        lacking_as(UserId::random(), user, edit, of_roles)
    }

    fn lacking_as(
        requester: UserId,
        user: &User,
        edit: UserEdit,
        of_roles: &str,
    ) -> Option<String> {
        let mut change = change(user, edit);
        change.requester.user_id = Some(requester);
        let of_roles = Permissions::from_scope(of_roles);
        let grantable = Grantable::Held(Permissions::from_scope("users:write"));
        let rights = Rights { grantable, of_roles, has_reset_code: true };
        match change.decide(vec![user.clone()], &rights) {
            Ok(_) => None,
            Err(AccountError::PermissionsLacking(LackingPermissions(lacking))) => {
                Some(lacking.to_string())
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn new_roles_grant_what_the_account_does_not_have() {
        let alice = user("alice", RoleName::USER);
        let roles = || UserEdit::Roles(Roles::parse(["clerk"]).unwrap());

        let lacking = |of_roles| lacking(&alice, roles(), of_roles);
        assert_eq!(lacking("dashboard:read users:write"), None);
        assert_eq!(lacking(""), None);
        assert_eq!(lacking("dashboard:read orders:read"), Some("orders:read".to_owned()));
    }

    #[test]
    fn edits_that_let_a_requester_pass_for_an_account_grant_all_of_it() {
        let alice = user("alice", RoleName::USER);
        let password = || UserEdit::Password(password_hash());

        let held = Some("dashboard:read".to_owned());
        let external_id = || UserEdit::ExternalId(ExternalId::parse("1").ok());
        let metadata = || UserEdit::Metadata(Metadata::default());
        for edit in [password(), reset_code(), UserEdit::Enable, external_id(), metadata()] {
            assert_eq!(lacking(&alice, edit, ""), held);
        }
        for edit in [password(), reset_code()] {
            assert_eq!(lacking_as(alice.id, &alice, edit, ""), None, "the own account");
        }
        for edit in [UserEdit::Disable, UserEdit::Delete, UserEdit::EndSessions] {
            assert_eq!(lacking(&alice, edit, ""), None);
        }
    }

    #[test]
    fn reset_needs_a_live_code_and_an_enabled_account() {
        let alice = user("alice", RoleName::USER);
        let disabled = User { disabled_at: Some(NOW), ..alice.clone() };
        let reset = |user: &User, has_reset_code| {
            let edit = UserEdit::ResetPassword(password_hash(), CODE.into());
            let rights = Rights { has_reset_code, ..everything() };
            change(user, edit).decide(vec![user.clone()], &rights)
        };

        let version = alice.version.next();
        let changed = EditOutcome::Changed(User { version, ..alice.clone() });
        assert_eq!(reset(&alice, true), Ok(changed));
        assert_eq!(reset(&alice, false), Err(AccountError::InvalidResetCode));
        assert_eq!(reset(&disabled, true), Err(AccountError::InvalidResetCode));
    }

    #[test]
    fn new_reset_code_leaves_the_account_as_it_is() {
        let alice = user("alice", RoleName::USER);
        let disabled = User { disabled_at: Some(NOW), ..alice.clone() };
        let decide =
            |user: &User| change(user, reset_code()).decide(vec![user.clone()], &everything());

        assert_eq!(decide(&alice), Ok(EditOutcome::Changed(alice.clone())));
        assert_eq!(decide(&disabled), Err(AccountError::Disabled));
    }
}
