//! Access tokens, refresh tokens, device tokens, and their keys.

mod access;
mod algorithms;
mod cache;
mod claims;
mod counter_ids;
mod device;
mod es256;
mod key_file;
mod key_ring;
mod refresh;
mod reset_code;
mod root_key;
mod signatures;
#[cfg(test)]
mod vectors;

#[cfg(test)]
pub(crate) use access::tests::settings as test_settings;
pub use access::{
    ALGORITHM_LABELS, IssueError, IssuedToken, TokenRefusal, Tokens, algorithm_label, key_id,
};
pub use cache::VerifiedTokenCache;
pub use claims::{AccessClaims, Subject};
pub use counter_ids::CounterIds;
pub use es256::generate_key;
pub use key_file::{KeyFileError, generate_secret, load_or_create, read_secret};
pub use key_ring::{JwksDocument, KeyRing};
pub use reset_code::{generate_reset_code, hash_reset_code};
pub use root_key::{CryptoError, RootKey, secret_id};
