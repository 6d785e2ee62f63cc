//! The tables of the schema as a copy of the database sees them: names, columns and kinds of values,
//! which both dialects have in common.

/// Table that is copied.
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The first one is the key, in the order of which rows are read.
    pub(super) columns: &'static [Column],
    /// Whether a new database has rows of it.
    pub(super) is_seeded: bool,
}

/// Column of a table.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// Kind of the values of a column. Each may also be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// 16 bytes.
    Uuid,
    Bytes,
    Text,
    /// Names, which contain no space.
    Names,
    /// Microseconds since the Unix epoch.
    Time,
    /// Integer of 32 bits.
    Int,
    /// Integer of 64 bits.
    BigInt,
}

/// Value of a column, the same for both dialects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    /// [`Kind::Uuid`] or [`Kind::Bytes`].
    Bytes(Vec<u8>),
    /// [`Kind::Text`], or [`Kind::Names`] separated by spaces.
    Text(String),
    /// [`Kind::Time`], [`Kind::Int`] or [`Kind::BigInt`].
    Integer(i64),
}

/// Values of a row, in the order of the columns.
pub(super) type Row = Vec<Value>;

impl Table {
    /// Returns the key: the name of the first column.
    pub(super) fn key(&self) -> &'static str {
        self.columns.first().map_or("", |column| column.name)
    }

    /// Returns the names of the columns, separated by commas.
    pub(super) fn column_list(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|column| column.name).collect();
        names.join(", ")
    }
}

const fn table(name: &'static str, columns: &'static [Column]) -> Table {
    Table { name, columns, is_seeded: false }
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind }
}

/// All tables, each after those that it refers to. A run of the server (`server_runs`) and a
/// position in the feed (`xid`, `position`) belong to one database, and are not copied.
pub(super) const TABLES: &[Table] = &[
    Table { is_seeded: true, ..table("shared_state", SHARED_STATE) },
    table("root_key_wrappings", ROOT_KEY_WRAPPINGS),
    table("signing_keys", SIGNING_KEYS),
    Table { is_seeded: true, ..table("roles", ROLES) },
    table("clients", CLIENTS),
    table("client_secrets", CLIENT_SECRETS),
    table("users", USERS),
    table("sessions", SESSIONS),
    table("revocations", REVOCATIONS),
    table("failure_counters", FAILURE_COUNTERS),
    table("known_networks", KNOWN_NETWORKS),
    table("audit_log", AUDIT_LOG),
];

const SHARED_STATE: &[Column] = &[
    column("version", Kind::BigInt),
    column("issuer", Kind::Text),
    column("algorithm", Kind::Text),
];

const ROOT_KEY_WRAPPINGS: &[Column] = &[
    column("secret_id", Kind::Text),
    column("wrapped_key", Kind::Bytes),
    column("created_at", Kind::Time),
];

const SIGNING_KEYS: &[Column] = &[
    column("id", Kind::Text),
    column("state", Kind::Text),
    column("public_key", Kind::Bytes),
    column("sealed_private_key", Kind::Bytes),
    column("published_at", Kind::Time),
    column("known_at", Kind::Time),
    column("activated_at", Kind::Time),
    column("signs_until", Kind::Time),
];

const ROLES: &[Column] = &[
    column("name", Kind::Text),
    column("permissions", Kind::Names),
    column("ending_after", Kind::Uuid),
];

const CLIENTS: &[Column] = &[
    column("id", Kind::Uuid),
    column("name", Kind::Text),
    column("permissions", Kind::Names),
    column("audience", Kind::Text),
    column("resource", Kind::Text),
    column("created_at", Kind::Time),
    column("expires_at", Kind::Time),
    column("disabled_at", Kind::Time),
];

const CLIENT_SECRETS: &[Column] = &[
    column("id", Kind::Uuid),
    column("client_id", Kind::Uuid),
    column("hash", Kind::Bytes),
    column("session_id", Kind::Uuid),
    column("created_at", Kind::Time),
    column("revoked_tokens", Kind::Int),
    column("tokens_expire_at", Kind::Time),
];

const USERS: &[Column] = &[
    column("id", Kind::Uuid),
    column("username", Kind::Text),
    column("username_key", Kind::Text),
    column("password_hash", Kind::Text),
    column("roles", Kind::Names),
    column("created_at", Kind::Time),
    column("version", Kind::BigInt),
    column("disabled_at", Kind::Time),
    column("reset_code_hash", Kind::Bytes),
    column("reset_code_expires_at", Kind::Time),
    column("external_id", Kind::Text),
    column("metadata", Kind::Text),
    column("hash_cost", Kind::Text),
];

const SESSIONS: &[Column] = &[
    column("id", Kind::Uuid),
    column("user_id", Kind::Uuid),
    column("generation", Kind::BigInt),
    column("rotated_at", Kind::Time),
    column("created_at", Kind::Time),
    column("last_used_at", Kind::Time),
    column("expires_at", Kind::Time),
    column("address", Kind::Text),
    column("user_agent", Kind::Text),
    column("tokens_expire_at", Kind::Time),
    column("parent", Kind::BigInt),
    column("exchanged_at", Kind::Time),
    column("revoked_tokens", Kind::Int),
    column("last_address", Kind::Text),
    column("last_user_agent", Kind::Text),
    column("audience", Kind::Text),
];

const REVOCATIONS: &[Column] = &[
    column("id", Kind::Uuid),
    column("expires_at", Kind::Time),
    column("revoked_at", Kind::Time),
    column("user_id", Kind::Uuid),
];

const FAILURE_COUNTERS: &[Column] = &[
    column("id", Kind::Uuid),
    column("user_id", Kind::Uuid),
    column("failures", Kind::Int),
    column("in_flight", Kind::Int),
    column("latest_at", Kind::Time),
    column("next_at", Kind::Time),
];

const KNOWN_NETWORKS: &[Column] = &[
    column("id", Kind::Uuid),
    column("user_id", Kind::Uuid),
    column("latest_login_at", Kind::Time),
];

const AUDIT_LOG: &[Column] = &[
    column("id", Kind::BigInt),
    column("at", Kind::Time),
    column("action", Kind::Text),
    column("actor_id", Kind::Uuid),
    column("subject_id", Kind::Uuid),
    column("session_id", Kind::Uuid),
    column("detail", Kind::Text),
    column("address", Kind::Text),
    column("user_agent", Kind::Text),
];
