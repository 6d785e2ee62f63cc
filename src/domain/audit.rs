//! The audit log: actions, their requesters and their subjects.

use strum::{EnumString, IntoStaticStr, VariantNames};
use time::OffsetDateTime;

use super::{Permissions, Requester, RoleName, SessionId, User, UserId};

/// Audited action. The names of the variants are stable: clients and queries use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(const_into_str)]
pub enum AuditAction {
    /// A user registered.
    #[strum(serialize = "user.registered")]
    UserRegistered,
    /// An administrator created an account.
    #[strum(serialize = "user.created")]
    UserCreated,
    /// An account was imported from another system.
    #[strum(serialize = "user.imported")]
    UserImported,
    /// The password of an account was replaced.
    #[strum(serialize = "user.password_changed")]
    PasswordChanged,
    /// A reset code was made for an account.
    #[strum(serialize = "user.reset_code_created")]
    ResetCodeCreated,
    /// The password of an account was replaced with a reset code.
    #[strum(serialize = "user.password_reset")]
    PasswordReset,
    /// The roles of an account were replaced.
    #[strum(serialize = "user.roles_changed")]
    RolesChanged,
    /// The identifier of an account in another system was replaced.
    #[strum(serialize = "user.external_id_changed")]
    ExternalIdChanged,
    /// The metadata of an account were replaced.
    #[strum(serialize = "user.metadata_changed")]
    MetadataChanged,
    /// An account was disabled.
    #[strum(serialize = "user.disabled")]
    UserDisabled,
    /// An account was enabled.
    #[strum(serialize = "user.enabled")]
    UserEnabled,
    /// The failure counters of an account were cleared.
    #[strum(serialize = "user.unthrottled")]
    UserUnthrottled,
    /// An account was deleted.
    #[strum(serialize = "user.deleted")]
    UserDeleted,
    /// A user logged in.
    #[strum(serialize = "session.opened")]
    SessionOpened,
    /// A password was refused, at a login or for a change of the account.
    #[strum(serialize = "login.refused")]
    LoginRefused,
    /// A session was ended.
    #[strum(serialize = "session.ended")]
    SessionEnded,
    /// All sessions of an account were ended.
    #[strum(serialize = "session.all_ended")]
    SessionsEnded,
    /// A refresh token was replayed, which ended its session.
    #[strum(serialize = "session.refresh_token_reused")]
    RefreshTokenReused,
    /// A refresh token was presented again soon after its exchange, and got a successor.
    #[strum(serialize = "session.refresh_token_retried")]
    RefreshTokenRetried,
    /// An access token was revoked.
    #[strum(serialize = "token.revoked")]
    TokenRevoked,
    /// A role was created.
    #[strum(serialize = "role.created")]
    RoleCreated,
    /// The permissions of a role were replaced.
    #[strum(serialize = "role.changed")]
    RoleChanged,
    /// A role was deleted.
    #[strum(serialize = "role.deleted")]
    RoleDeleted,
    /// A signing key was published.
    #[strum(serialize = "key.published")]
    KeyPublished,
    /// A signing key began to sign.
    #[strum(serialize = "key.activated")]
    KeyActivated,
    /// A signing key was revoked, and with it every token that it signed.
    #[strum(serialize = "key.revoked")]
    KeyRevoked,
    /// A signing key was deleted: every token that it signed has expired.
    #[strum(serialize = "key.deleted")]
    KeyDeleted,
    /// The root key was encrypted with a secret.
    #[strum(serialize = "secret.added")]
    SecretAdded,
    /// The copies of the root key for former secrets were deleted.
    #[strum(serialize = "secret.retired")]
    SecretRetired,
    /// A client was created.
    #[strum(serialize = "client.created")]
    ClientCreated,
    /// The rights of a client were replaced.
    #[strum(serialize = "client.changed")]
    ClientChanged,
    /// A secret was added to a client.
    #[strum(serialize = "client.secret_added")]
    ClientSecretAdded,
    /// A secret of a client was removed, which ended its tokens.
    #[strum(serialize = "client.secret_removed")]
    ClientSecretRemoved,
    /// The tokens of a client ended: too many were revoked one by one.
    #[strum(serialize = "client.tokens_ended")]
    ClientTokensEnded,
    /// A client was disabled.
    #[strum(serialize = "client.disabled")]
    ClientDisabled,
    /// A client was enabled.
    #[strum(serialize = "client.enabled")]
    ClientEnabled,
    /// A client was deleted.
    #[strum(serialize = "client.deleted")]
    ClientDeleted,
}

/// Record of an action. It holds no secrets and outlives the account that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Time of the action.
    pub at: OffsetDateTime,
    pub action: AuditAction,
    /// Performer of the action.
    pub requester: Requester,
    /// Account that was acted on; `None` for an action on a role, a client or a key.
    pub subject: Option<UserId>,
    /// Session that was acted on.
    pub session_id: Option<SessionId>,
    /// Username, roles, permissions, client, or the id of a token, key or secret, depending on the
    /// action.
    pub detail: Option<String>,
}

impl AuditRecord {
    /// Creates the record of an action on a signing key or a secret, with its id as the detail.
    #[must_use]
    pub fn for_key(
        at: OffsetDateTime,
        action: AuditAction,
        id: &(impl ToString + ?Sized),
        requester: Requester,
    ) -> Self {
        let detail = Some(id.to_string());
        Self { at, action, requester, subject: None, session_id: None, detail }
    }

    /// Creates the record of an action on a role, with its name and permissions as the detail.
    #[must_use]
    pub fn for_role(
        at: OffsetDateTime,
        action: AuditAction,
        name: &RoleName,
        permissions: &Permissions,
        requester: Requester,
    ) -> Self {
        let detail = Some(format!("{name}: {permissions}"));
        Self { at, action, requester, subject: None, session_id: None, detail }
    }

    /// Creates the record of an action on an account, with its username and roles as the detail.
    #[must_use]
    pub fn for_user(
        at: OffsetDateTime,
        action: AuditAction,
        user: &User,
        requester: Requester,
    ) -> Self {
        let detail = match action {
            AuditAction::RolesChanged => user.roles.to_string(),
            AuditAction::UserCreated => format!("{}: {}", user.username.as_str(), user.roles),
            _ => user.username.as_str().to_owned(),
        };
        Self {
            at,
            action,
            requester,
            subject: Some(user.id),
            session_id: None,
            detail: Some(detail),
        }
    }
}
