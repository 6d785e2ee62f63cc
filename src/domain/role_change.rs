//! Changes to roles, and the decision about them.

use thiserror::Error;
use time::OffsetDateTime;

use super::{
    AuditAction, AuditRecord, Grantable, LackingPermissions, Permissions, Requester, RoleName,
};

/// Edit of a role.
#[derive(Clone, Debug)]
pub enum RoleEdit {
    /// Replaces the permissions; creates the role if there is none. A built-in role keeps those
    /// that the program gives it.
    Set(Permissions),
    /// Deletes the role.
    Delete,
}

/// Request to change a role.
#[derive(Clone, Debug)]
pub struct RoleChange {
    pub name: RoleName,
    pub edit: RoleEdit,
    pub requester: Requester,
}

/// Result of a change that has an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleOutcome {
    pub action: AuditAction,
    /// Permissions after the change, with the built-in ones; those of a deleted role.
    pub permissions: Permissions,
    /// Whether the sessions of the members have to end, since a permission was taken away.
    pub ends_sessions: bool,
}

/// Reason to refuse the change of a role.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RoleError {
    /// There is no such role.
    #[error("there is no such role")]
    NotFound,
    /// The role is a built-in one, which cannot be deleted.
    #[error("a built-in role cannot be deleted")]
    BuiltIn,
    /// An account has the role.
    #[error("an account has the role")]
    InUse,
    /// The session of the requester has ended.
    #[error("the session of the requester has ended")]
    RequesterSignedOut,
    /// The requester lacks permissions that it would grant.
    #[error(transparent)]
    PermissionsLacking(#[from] LackingPermissions),
}

impl RoleChange {
    /// Decides the outcome of the change. Returns `None` if nothing changes.
    ///
    /// `before` are the permissions of the role, with the built-in ones; its row must stay locked
    /// until the outcome is committed. `is_in_use` tells that an account has the role.
    ///
    /// # Errors
    /// Returns a [`RoleError`].
    pub fn decide(
        &self,
        before: Option<&Permissions>,
        is_in_use: bool,
        grantable: &Grantable,
    ) -> Result<Option<RoleOutcome>, RoleError> {
        match &self.edit {
            RoleEdit::Set(permissions) => self.decide_set(before, permissions, grantable),
            RoleEdit::Delete => self.decide_delete(before, is_in_use).map(Some),
        }
    }

    fn decide_set(
        &self,
        before: Option<&Permissions>,
        requested: &Permissions,
        grantable: &Grantable,
    ) -> Result<Option<RoleOutcome>, RoleError> {
        let built_in = self.name.built_in_permissions().unwrap_or_default();
        let permissions = requested.union(&built_in);
        let (action, former) = match before {
            None => (AuditAction::RoleCreated, &built_in),
            Some(before) if *before == permissions => return Ok(None),
            Some(before) => (AuditAction::RoleChanged, before),
        };
        grantable.check(&permissions.without(former))?;
        let ends_sessions = !former.without(&permissions).is_empty();
        Ok(Some(RoleOutcome { action, permissions, ends_sessions }))
    }

    fn decide_delete(
        &self,
        before: Option<&Permissions>,
        is_in_use: bool,
    ) -> Result<RoleOutcome, RoleError> {
        let permissions = before.ok_or(RoleError::NotFound)?.clone();
        if self.name.built_in_permissions().is_some() {
            return Err(RoleError::BuiltIn);
        }
        if is_in_use {
            return Err(RoleError::InUse);
        }
        Ok(RoleOutcome { action: AuditAction::RoleDeleted, permissions, ends_sessions: false })
    }

    /// Returns the audit record of the change.
    #[must_use]
    pub fn audit_record(&self, outcome: &RoleOutcome, at: OffsetDateTime) -> AuditRecord {
        let RoleOutcome { action, permissions, .. } = outcome;
        AuditRecord::for_role(at, *action, &self.name, permissions, self.requester.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(names: &str) -> Permissions {
        Permissions::from_scope(names)
    }

    fn change(name: &str, edit: RoleEdit) -> RoleChange {
        let name = RoleName::parse(name).unwrap();
        RoleChange { name, edit, requester: Requester::COMMAND_LINE }
    }

    /// Decides to set the permissions of a role that an account has, for a requester that holds
    /// `orders:read` and `users:write`.
    fn set(
        name: &str,
        before: Option<&str>,
        requested: &str,
    ) -> Result<Option<RoleOutcome>, RoleError> {
        let grantable = Grantable::Held(permissions("orders:read users:write"));
        let before = before.map(permissions);
        change(name, RoleEdit::Set(permissions(requested))).decide(
            before.as_ref(),
            true,
            &grantable,
        )
    }

    fn outcome(action: AuditAction, names: &str, ends_sessions: bool) -> RoleOutcome {
        RoleOutcome { action, permissions: permissions(names), ends_sessions }
    }

    #[test]
    fn missing_role_is_created() {
        let created = outcome(AuditAction::RoleCreated, "orders:read", false);

        assert_eq!(set("clerk", None, "orders:read"), Ok(Some(created)));
        let empty = outcome(AuditAction::RoleCreated, "", false);
        assert_eq!(set("clerk", None, ""), Ok(Some(empty)));
    }

    #[test]
    fn sessions_end_if_a_permission_is_taken_away() {
        let changed = |names, ends_sessions| {
            Ok(Some(outcome(AuditAction::RoleChanged, names, ends_sessions)))
        };

        let more = set("clerk", Some("orders:list"), "orders:list orders:read");
        assert_eq!(more, changed("orders:list orders:read", false));
        assert_eq!(set("clerk", Some("orders:list"), ""), changed("", true));
        assert_eq!(set("clerk", Some("orders:list"), "orders:read"), changed("orders:read", true));
        assert_eq!(set("clerk", Some("orders:list"), "orders:list"), Ok(None));
    }

    #[test]
    fn only_new_permissions_are_granted() {
        let lacking = |names| Err(LackingPermissions(permissions(names)).into());

        assert_eq!(set("clerk", None, "orders:read orders:write"), lacking("orders:write"));
        let kept = set("clerk", Some("orders:write"), "orders:write orders:read");
        assert!(kept.is_ok(), "{kept:?}");
        let more = set("clerk", Some("orders:write"), "orders:write keys:write");
        assert_eq!(more, lacking("keys:write"));
    }

    #[test]
    fn built_in_role_keeps_its_permissions() {
        let changed = outcome(AuditAction::RoleChanged, "dashboard:read orders:read", false);
        assert_eq!(set("user", Some("dashboard:read"), "orders:read"), Ok(Some(changed)));

        let reduced = outcome(AuditAction::RoleChanged, "dashboard:read", true);
        assert_eq!(set("user", Some("dashboard:read orders:read"), ""), Ok(Some(reduced)));
        assert_eq!(set("user", Some("dashboard:read"), ""), Ok(None));
    }

    #[test]
    fn only_an_unused_role_of_ones_own_is_deleted() {
        let delete = |name, before: Option<&str>, is_in_use| {
            let before = before.map(permissions);
            let grantable = Grantable::Held(Permissions::default());
            change(name, RoleEdit::Delete).decide(before.as_ref(), is_in_use, &grantable)
        };

        let deleted = outcome(AuditAction::RoleDeleted, "orders:read", false);
        assert_eq!(delete("clerk", Some("orders:read"), false), Ok(Some(deleted)));
        assert_eq!(delete("clerk", Some("orders:read"), true), Err(RoleError::InUse));
        assert_eq!(delete("clerk", None, false), Err(RoleError::NotFound));
        assert_eq!(delete("user", Some("dashboard:read"), false), Err(RoleError::BuiltIn));
    }
}
