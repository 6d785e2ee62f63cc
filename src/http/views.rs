//! JSON views of domain types, shared by several handlers and the command line.

use serde::Serialize;
use utoipa::ToSchema;

use crate::actors::SessionPage;
use crate::clock::timestamp;
use crate::domain::{
    Audience, Client, ClientId, ClientName, ClientSecret, KeyId, KeyState, Metadata, Permissions,
    RESET_CODE_LIFETIME, Role, RoleName, Roles, SecretId, Session, SessionId, SigningKey, User,
    UserId,
};
use crate::store::ListedUser;

/// Text of a successful reply.
#[derive(Serialize, ToSchema)]
pub(super) struct Message {
    /// Text for a person.
    pub(super) msg: &'static str,
}

/// Account as its owner sees it. Times are in the format of RFC 3339.
#[derive(Serialize, ToSchema)]
#[schema(as = Account)]
pub struct AccountView {
    #[schema(inline)]
    pub(crate) id: UserId,
    #[schema(example = "testuser")]
    pub(crate) username: String,
    #[schema(inline)]
    pub(crate) roles: Roles,
    #[schema(inline)]
    pub(crate) permissions: Permissions,
    /// Id of the account in another system; `null` for none.
    #[schema(required, example = "42")]
    pub(crate) external_id: Option<String>,
    #[schema(inline)]
    pub(crate) metadata: Metadata,
    #[schema(format = "date-time", example = "2026-05-01T09:30:00Z")]
    pub(crate) created_at: String,
}

/// Account as an administrator sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = ManagedAccount)]
pub struct ManagedAccountView {
    #[serde(flatten)]
    pub(crate) account: AccountView,
    /// Time since which logins are refused; `null` for an enabled account.
    #[schema(required, format = "date-time", example = "2026-05-01T10:30:00Z")]
    pub(crate) disabled_at: Option<String>,
    /// Column of the database that does not parse, in a list of accounts. The account cannot be
    /// used, and the other fields are what could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "users.username")]
    pub(crate) broken: Option<String>,
}

/// Open session. Times are in the format of RFC 3339.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionView {
    #[schema(inline)]
    pub(crate) id: SessionId,
    #[schema(format = "date-time", example = "2026-05-01T09:30:00Z")]
    pub(crate) created_at: String,
    /// Time of the login or of the latest refresh.
    #[schema(format = "date-time", example = "2026-05-01T10:30:00Z")]
    pub(crate) last_used_at: String,
    #[schema(format = "date-time", example = "2026-05-31T09:30:00Z")]
    pub(crate) expires_at: String,
    /// IP address of the login.
    #[schema(example = "192.0.2.7")]
    pub(crate) ip: String,
    /// `User-Agent` of the login.
    #[schema(example = "curl/8.14.1")]
    pub(crate) user_agent: String,
    /// IP address of the latest refresh; before the first, that of the login.
    #[schema(example = "192.0.2.8")]
    pub(crate) last_ip: String,
    /// `User-Agent` of the latest refresh; before the first, that of the login.
    #[schema(example = "curl/8.14.1")]
    pub(crate) last_user_agent: String,
    /// `true` for the session of the access token in the request.
    // `None` on the command line, which has no session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = bool, required)]
    pub(crate) current: Option<bool>,
}

/// Role.
#[derive(Serialize, ToSchema)]
#[schema(as = Role)]
pub struct RoleView {
    #[schema(inline)]
    pub(crate) name: RoleName,
    #[schema(inline)]
    pub(crate) permissions: Permissions,
    /// `true` for a role that cannot be deleted and keeps its first permissions.
    pub(crate) built_in: bool,
    /// Number of sessions that are still to be ended since a permission was taken away.
    #[schema(minimum = 0)]
    pub(crate) ending_sessions: u64,
}

/// Signing key. Times are in the format of RFC 3339.
#[derive(Serialize, ToSchema)]
#[schema(as = SigningKey)]
pub struct KeyView {
    #[schema(inline)]
    pub(crate) kid: KeyId,
    #[schema(inline)]
    pub(crate) state: KeyState,
    #[schema(format = "date-time", example = "2026-05-01T09:30:00Z")]
    pub(crate) published_at: String,
    /// Time from which every verifier knows the key, so that it may sign.
    #[schema(format = "date-time", example = "2026-05-01T09:40:05Z")]
    pub(crate) known_at: String,
    /// Time from which the key signs; `null` for a pending key.
    #[schema(required, format = "date-time", example = "2026-05-31T09:30:00Z")]
    pub(crate) activated_at: Option<String>,
    /// Latest expiry of the tokens that the key may sign. It is raised while the key is active, and
    /// a retiring key is deleted soon after it.
    #[schema(format = "date-time", example = "2026-06-30T10:50:00Z")]
    pub(crate) signs_until: String,
}

/// Client. Times are in the format of RFC 3339.
#[derive(Serialize, ToSchema)]
#[schema(as = Client)]
pub struct ClientView {
    #[schema(inline)]
    pub(crate) client_id: ClientId,
    #[schema(inline)]
    pub(crate) name: ClientName,
    #[schema(inline)]
    pub(crate) permissions: Permissions,
    /// Audience of its tokens; `null` for the default one.
    #[schema(required)]
    pub(crate) audience: Option<Vec<String>>,
    /// Audience of the tokens that it may introspect; `null` for all tokens.
    #[schema(required)]
    pub(crate) resource: Option<Vec<String>>,
    #[schema(format = "date-time", example = "2026-05-01T09:30:00Z")]
    pub(crate) created_at: String,
    /// Expiry of the client; `null` for never.
    #[schema(required, format = "date-time", example = "2027-05-01T09:30:00Z")]
    pub(crate) expires_at: Option<String>,
    /// Time since which the client is refused; `null` for an enabled client.
    #[schema(required, format = "date-time", example = "2026-05-01T10:30:00Z")]
    pub(crate) disabled_at: Option<String>,
    pub(crate) secrets: Vec<SecretView>,
}

/// Secret of a client, without its text.
#[derive(Serialize, ToSchema)]
#[schema(as = ClientSecret)]
pub(crate) struct SecretView {
    #[schema(inline)]
    pub(crate) id: SecretId,
    #[schema(format = "date-time", example = "2026-05-01T09:30:00Z")]
    pub(crate) created_at: String,
}

/// Client with a secret that was generated just now.
#[derive(Serialize, ToSchema)]
#[schema(as = ClientWithSecret)]
pub struct NewClientView {
    /// The secret. It is not shown again.
    #[schema(example = "pcs_47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")]
    pub(crate) client_secret: String,
    #[serde(flatten)]
    pub(crate) client: ClientView,
}

/// Reset code of an account.
#[derive(Serialize, ToSchema)]
#[schema(as = ResetCode)]
pub struct ResetCodeView {
    /// The code. It is not shown again.
    #[schema(example = "pcr_47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")]
    pub(crate) reset_code: String,
    /// Life of the code in seconds.
    #[schema(example = 3600)]
    pub(crate) expires_in: u64,
}

/// Page of the open sessions of a user, most recently used first.
#[derive(Serialize, ToSchema)]
#[schema(as = Sessions)]
pub(super) struct SessionListView {
    sessions: Vec<SessionView>,
    /// `after` of the next page, which may be empty; `null` on the last page.
    #[schema(required, example = "1777627800000000.00000000-0000-4000-8000-000000000000")]
    next: Option<String>,
}

impl From<&User> for AccountView {
    fn from(user: &User) -> Self {
        Self {
            id: user.id,
            username: user.username.as_str().to_owned(),
            roles: user.roles.clone(),
            permissions: user.permissions.clone(),
            external_id: user.external_id.as_ref().map(|id| id.as_str().to_owned()),
            metadata: user.metadata.clone(),
            created_at: timestamp(user.created_at),
        }
    }
}

impl From<&User> for ManagedAccountView {
    fn from(user: &User) -> Self {
        let disabled_at = user.disabled_at.map(timestamp);
        Self { account: user.into(), disabled_at, broken: None }
    }
}

impl From<&ListedUser> for ManagedAccountView {
    fn from(user: &ListedUser) -> Self {
        let account = AccountView {
            id: user.id,
            username: user.username.clone(),
            roles: user.roles.clone(),
            permissions: user.permissions.clone(),
            external_id: user.external_id.as_ref().map(|id| id.as_str().to_owned()),
            metadata: user.metadata.clone(),
            created_at: timestamp(user.created_at),
        };
        let disabled_at = user.disabled_at.map(timestamp);
        Self { account, disabled_at, broken: user.broken.clone() }
    }
}

impl From<&Role> for RoleView {
    fn from(role: &Role) -> Self {
        Self {
            name: role.name.clone(),
            permissions: role.permissions.clone(),
            built_in: role.name.built_in_permissions().is_some(),
            ending_sessions: role.ending_sessions,
        }
    }
}

impl From<&SigningKey> for KeyView {
    fn from(key: &SigningKey) -> Self {
        Self {
            kid: key.id,
            state: key.state,
            published_at: timestamp(key.published_at),
            known_at: timestamp(key.known_at),
            activated_at: key.activated_at.map(timestamp),
            signs_until: timestamp(key.signs_until),
        }
    }
}

impl ClientView {
    /// Creates the view of a client. The service has the name of the issuer in an audience.
    #[must_use]
    pub fn new(client: &Client, issuer: &str) -> Self {
        let names = |audience: &Audience| audience.names(issuer).map(str::to_owned).collect();
        let secret = |secret: &ClientSecret| SecretView {
            id: secret.id,
            created_at: timestamp(secret.created_at),
        };
        Self {
            client_id: client.id,
            name: client.name.clone(),
            permissions: client.rights.permissions.clone(),
            audience: client.rights.audience.as_ref().map(names),
            resource: client.rights.resource.as_ref().map(names),
            created_at: timestamp(client.created_at),
            expires_at: client.rights.expires_at.map(timestamp),
            disabled_at: client.disabled_at.map(timestamp),
            secrets: client.secrets.iter().map(secret).collect(),
        }
    }
}

impl NewClientView {
    /// Creates the view of a client with a new secret.
    #[must_use]
    pub fn new(client: &Client, issuer: &str, client_secret: String) -> Self {
        Self { client_secret, client: ClientView::new(client, issuer) }
    }
}

impl ResetCodeView {
    /// Creates the view of a new code.
    #[must_use]
    pub fn new(code: &str) -> Self {
        Self { reset_code: code.to_owned(), expires_in: RESET_CODE_LIFETIME.as_secs() }
    }
}

impl SessionView {
    /// Creates the view of a session. `current` is the session of the request, if there is one.
    #[must_use]
    pub fn new(session: &Session, current: Option<SessionId>) -> Self {
        Self {
            id: session.id,
            created_at: timestamp(session.created_at),
            last_used_at: timestamp(session.last_used_at),
            expires_at: timestamp(session.expires_at),
            ip: session.origin.address.to_string(),
            user_agent: session.origin.user_agent.as_str().to_owned(),
            last_ip: session.last_origin.address.to_string(),
            last_user_agent: session.last_origin.user_agent.as_str().to_owned(),
            current: current.map(|current| current == session.id),
        }
    }
}

impl SessionListView {
    /// Creates the view of a page of sessions. `current` is the session of the request.
    pub(super) fn new(page: &SessionPage, current: SessionId) -> Self {
        let view = |session| SessionView::new(session, Some(current));
        Self {
            sessions: page.sessions.iter().map(view).collect(),
            next: page.next.map(|position| position.to_string()),
        }
    }
}
