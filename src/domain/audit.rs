//! The audit log: who did what to whose account or session, when, and from where.

use time::OffsetDateTime;

use super::{Client, Label, SessionId, User, UserId};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditAction {
    /// Somebody made an account of their own.
    UserRegistered,
    /// An administrator made an account.
    UserCreated,
    /// An account got another password.
    PasswordChanged,
    /// An account got other roles.
    RolesChanged,
    /// An account was shut.
    UserDisabled,
    /// An account was opened again.
    UserEnabled,
    /// An account was deleted.
    UserDeleted,
    /// Somebody logged in.
    SessionOpened,
    /// One session was ended.
    SessionEnded,
    /// All sessions of an account were ended.
    SessionsEnded,
    /// A refresh token was used again after it was exchanged: its session was ended.
    RefreshTokenReused,
    /// One token was revoked.
    TokenRevoked,
}

impl Label for AuditAction {
    const ALL: &'static [Self] = &[
        Self::UserRegistered,
        Self::UserCreated,
        Self::PasswordChanged,
        Self::RolesChanged,
        Self::UserDisabled,
        Self::UserEnabled,
        Self::UserDeleted,
        Self::SessionOpened,
        Self::SessionEnded,
        Self::SessionsEnded,
        Self::RefreshTokenReused,
        Self::TokenRevoked,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::UserRegistered => "user.registered",
            Self::UserCreated => "user.created",
            Self::PasswordChanged => "user.password_changed",
            Self::RolesChanged => "user.roles_changed",
            Self::UserDisabled => "user.disabled",
            Self::UserEnabled => "user.enabled",
            Self::UserDeleted => "user.deleted",
            Self::SessionOpened => "session.opened",
            Self::SessionEnded => "session.ended",
            Self::SessionsEnded => "session.all_ended",
            Self::RefreshTokenReused => "session.refresh_token_reused",
            Self::TokenRevoked => "token.revoked",
        }
    }
}

/// Who does something, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initiator {
    /// The account, where one was logged in.
    pub user_id: Option<UserId>,
    /// The session that has to be open still when it is done, where it was asked for in one.
    pub session: Option<SessionId>,
    /// From where; nowhere is the command line.
    pub client: Option<Client>,
}

impl Initiator {
    /// Whoever may run the program on the database.
    pub const COMMAND_LINE: Self = Self { user_id: None, session: None, client: None };
}

/// One thing that was done. It holds no secret, and outlives whom it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: OffsetDateTime,
    /// What.
    pub action: AuditAction,
    /// By whom.
    pub by: Initiator,
    /// Whose account or session it was done to.
    pub subject: UserId,
    /// Which session, where it was about one.
    pub session: Option<SessionId>,
    /// What the rest leaves open: the username of the account, its new roles, the id of the token.
    pub detail: Option<String>,
}

impl AuditRecord {
    /// Says what was done to an account.
    #[must_use]
    pub fn of_user(at: OffsetDateTime, action: AuditAction, user: &User, by: Initiator) -> Self {
        let detail = match action {
            AuditAction::RolesChanged => role_names(user),
            AuditAction::UserCreated => format!("{}: {}", user.username.as_str(), role_names(user)),
            _ => user.username.as_str().to_owned(),
        };
        Self { at, action, by, subject: user.id, session: None, detail: Some(detail) }
    }
}

fn role_names(user: &User) -> String {
    user.roles.names().collect::<Vec<_>>().join(" ")
}
