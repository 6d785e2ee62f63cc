//! Identifiers: UUIDs of distinct types.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Creates a random identifier (UUID version 4, RFC 9562).
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }

            /// Returns the identifier as a UUID.
            #[must_use]
            pub fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_newtype! {
    /// Identifier of an account (`sub`), fixed for its life.
    UserId
}
impl UserId {
    /// The service itself, as the requester of an action: the nil UUID (RFC 9562 section 5.9),
    /// which no account has.
    pub const SERVICE: Self = Self(Uuid::nil());
}

uuid_newtype! {
    /// Identifier of a client (`client_id`, RFC 6749 section 2.2).
    ClientId
}
uuid_newtype! {
    /// Identifier of a secret of a client.
    SecretId
}
uuid_newtype! {
    /// Identifier of a session (`sid`).
    SessionId
}
uuid_newtype! {
    /// Identifier of an access token (`jti`, RFC 7519 section 4.1.7).
    TokenId
}
